"""What runs within a sandbox: the standard library only, because nothing else of agentrl is visible there.

`agentrl.grading.sandbox.worker` sends these files' text to a bare interpreter, in the order of `MODULES`. Read first:
`zygote.py`, the process that forks a child for each grade; then `child.py`, which locks itself in and runs the code.
"""

MODULES = ("kernel", "syscall_filter", "landlock", "folders", "namespaces", "child", "zygote")
"""Each may import those before it."""
