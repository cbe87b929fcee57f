"""The command line: one file per verb, `main.py` puts them together and turns errors into messages and exit codes.

Results go to stdout, logs to stderr. A verb imports what it needs when it runs, so that `agentrl --help` and
`agentrl check` answer without torch. May import: everything below.
"""
