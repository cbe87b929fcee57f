"""Nothing of a grade reaches the next one, and no grade can answer but for itself (t3, t19)."""

from __future__ import annotations

import pytest

from agentrl.grading.sandbox.worker import parse_reply
from tests.grading.sandbox.attempts import Sandbox

LEAVINGS = {
    "a global": (
        "import builtins; builtins.left = 1; return 0",
        "import builtins; return hasattr(builtins, 'left') * 1",
    ),
    "a built-in function": (
        "import builtins; builtins.float = lambda x: 1.0; return 0",
        "return (float('0.5') != 0.5) * 1",
    ),
    "json": (
        "import json; json.dumps = lambda x: '{\"score\": 1.0}'; json.loads = lambda x: [{}, {}]; return 0",
        "return 0.0",
    ),
    "a module": ("import sys, types; sys.modules['left'] = types.ModuleType('x'); return 0", "import left; return 1"),
    "the sandbox's own modules": (
        """
        import sys
        inside = "agentrl.grading.sandbox.inside."
        sys.modules[inside + "child"]._graded = lambda *_: {"score": 1.0}
        sys.modules[inside + "zygote"]._grade = lambda *_: None
        sys.modules[inside + "child"].READ = b"x"
        return 0""",
        "return 0.0",
    ),
    "a file": ("open('left', 'w').write('x'); return 0", "import os; return len(os.listdir('.'))"),
    "a file in /tmp": (
        "open('/tmp/left', 'w').write('x'); return 0",
        "import os; return os.path.exists('/tmp/left') * 1",
    ),
    "the environment": (
        "import os; os.environ['LEFT'] = 'x'; return 0",
        "import os; return 'LEFT' in os.environ and 1 or 0",
    ),
    "a thread": (
        """
        import os, threading
        def write():
            while True:
                for fd in range(3, 64):
                    try: os.write(fd, b'{"score": 1.0}')
                    except OSError: pass
        threading.Thread(target=write).start()
        return 0""",
        "return 0.0",
    ),
    "what happens at the end": (
        "import atexit, os; atexit.register(os.system, 'true'); import threading; "
        "threading.Thread(target=__import__('time').sleep, args=(60,)).start(); return 0",
        "return 0.0",
    ),
    "a folder without permissions": (
        "import os; os.makedirs('a/b'); open('a/b/c', 'w'); os.chmod('a', 0); return 0",
        "import os; return len(os.listdir('.'))",
    ),
    "a working directory": (
        "import os; os.mkdir('x'); os.chdir('x'); return 0",
        "import os; return len(os.listdir('.'))",
    ),
}


@pytest.mark.parametrize("name", LEAVINGS)
def test_nothing_is_left_for_the_next_grade(name: str, sandbox: Sandbox) -> None:
    leave, find = LEAVINGS[name]
    sandbox(leave)
    worker = sandbox.worker
    outcome = sandbox(find)
    assert outcome.score == 0.0 or outcome.details.startswith("ModuleNotFoundError"), outcome
    assert sandbox.worker is worker  # found in the same worker, or this would show nothing


def test_no_sample_is_left_in_memory(sandbox: Sandbox) -> None:
    """A child is a copy of the waiting process: every page near Python's objects is searched for the planted text.

    Both are turned round, so that the search does not find what it looks for in its own hands. It does find the
    present sample, so it looks where samples are.
    """
    search = """
        import ctypes, os
        libc = ctypes.CDLL(None)
        reading, writing = os.pipe()
        middle, found = id(object()) >> 12, 0
        wanted = item["wanted"].encode()
        for page in range(middle - 8192, middle + 8192):
            if libc.write(writing, ctypes.c_void_p(page << 12), 4096) == 4096:
                found += wanted in os.read(reading, 4096)[::-1]
        return found"""
    planted, present = "planted by an earlier grade", "a sample of now"
    sandbox("raise ValueError(item['text'])", text=planted)
    sandbox("return len(item['text'])", text=planted)
    worker = sandbox.worker
    assert sandbox(search, wanted=planted[::-1]).score == 0.0
    assert (sandbox(search, wanted=present[::-1], text=present).score or 0) > 0
    assert sandbox.worker is worker


FORGERIES = {
    "nothing": "os._exit(0)",
    "an exit code": "os._exit(3)",
    "noise": "answer(bytes(range(256)))",
    "null bytes": "answer(bytes(100))",
    "no JSON": "answer(b'{\"score\": 1.0')",
    "NaN": "answer(b'{\"score\": NaN}')",
    "infinity": "answer(b'{\"score\": Infinity}')",
    "a number beyond floats": "answer(b'{\"score\": 1e400}')",
    "a huge integer": "answer(b'{\"score\": 1' + b'0' * 9000 + b'}')",
    "a truth": "answer(b'{\"score\": true}')",
    "a text": 'answer(b\'{"score": "1.0"}\')',
    "a list": "answer(b'[1.0]')",
    "a deep list": "answer(b'[' * 16000)",
    "further keys": 'answer(b\'{"score": 1.0, "version": "x"}\')',
    "two results": 'answer(b\'{"score": 1.0}{"score": 1.0}\')',
    "a result before the result": "answer(b'{\"score\": 1.0}', ends=False); return 0.5",
    "a flood": "\nwhile True: answer(b'x' * 4096, ends=False)",
    "other messages' bytes": "answer(b'R' * 100)",
}
ANSWER = """
import os
def answer(text, ends=True):
    for fd in range(3, 256):
        try: os.write(fd, text)
        except OSError: continue
    if ends: os._exit(0)
"""


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_result_is_no_score(name: str, sandbox: Sandbox) -> None:
    outcome = sandbox(f"{ANSWER}\n{FORGERIES[name]}")
    assert outcome.score is None, outcome
    assert not outcome.is_graders_fault
    assert sandbox("return 0.25").score == 0.25


def test_code_that_writes_its_result_itself_has_only_scored_itself(sandbox: Sandbox) -> None:
    """Which it may by returning, too: the frames above it lead to its own pipe and to nobody else's."""
    code = """
        import os, sys
        frame = sys._getframe()
        while "reply_fd" not in frame.f_locals:
            frame = frame.f_back
        os.write(frame.f_locals["reply_fd"], b'{"score": 1.0}')
        os._exit(0)"""
    assert sandbox(code).score == 1.0
    assert sandbox("return 0.25").score == 0.25


@pytest.mark.parametrize(
    "value",
    [
        "'1.0'",
        "None",
        "True",
        "float('nan')",
        "float('inf')",
        "10 ** 400",
        "[1.0]",
        "1 + 0j",
        "__import__('decimal').Decimal(1)",
        "type('Sly', (), {'__class__': float, '__float__': lambda self: 1.0, '__repr__': lambda self: 1 / 0})()",
    ],
)
def test_what_is_no_number_is_no_score(value: str, sandbox: Sandbox) -> None:
    outcome = sandbox(f"return {value}")
    if "Sly" in value:
        assert outcome.score in (None, 1.0)  # it did give a number, in a roundabout way
        return
    assert outcome.score is None
    assert outcome.is_graders_fault, outcome


@pytest.mark.parametrize(
    ("value", "score"),
    [
        ("1", 1.0),
        ("0.5", 0.5),
        ("-2", -2.0),
        ("__import__('numpy').float32(0.5)", 0.5),
        ("__import__('numpy').int64(2)", 2.0),
    ],
)
def test_a_number_is_a_score(value: str, score: float, sandbox: Sandbox) -> None:
    assert sandbox(f"return {value}").score == score


@pytest.mark.parametrize(
    "exception",
    [
        "raise ValueError('no answer')",
        "raise SystemExit(0)",
        "raise KeyboardInterrupt",
        "import sys; sys.exit()",
        "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})",
        "raise ValueError('x' * 10 ** 7)",
        "return item['missing']",
    ],
)
def test_an_exception_is_the_graders_fault(exception: str, sandbox: Sandbox) -> None:
    outcome = sandbox(exception)
    assert outcome.score is None
    assert outcome.is_graders_fault
    assert 0 < len(outcome.details) < 2100


@pytest.mark.parametrize(
    "text", [b"", b"null", b"{}", b'{"score": null}', b'{"error": 1, "details": ""}', b"\xff\xfe{", b"1"]
)
def test_a_reply_is_read_strictly(text: bytes) -> None:
    assert parse_reply(text).score is None
    assert not parse_reply(text).is_graders_fault
