"""`type: python`: code from the config, run in a sandbox, one process a grade.

What the code raises leaves the rollout ungraded and flags `python_grader_runtime_error`; a limit, a kill or a broken
sandbox flags `python_grader_server_error`.
"""

from __future__ import annotations

import ast
import json
import platform
import warnings
from functools import partial

from agentrl.config.graders import PythonConfig
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.sandbox import Limits, WorkerPool, choose_level
from agentrl.grading.submission import Submission
from agentrl.printable import printable
from agentrl.types import Grade

MAX_REQUEST_BYTES = 32 * 1024 * 1024
PRELOADED = frozenset(
    "ast bisect collections copy dataclasses datetime decimal difflib fractions functools heapq itertools json math "
    "numbers operator random re statistics string textwrap typing unicodedata "
    "ast_grep_py deepdiff jsonschema nltk numpy pandas pydantic rapidfuzz rdkit rouge_score scipy skbio sklearn "
    "sqlparse sympy yaml".split()
)
"""What a worker imports once where a grader imports it: the standard library's plain parts, and the packages of
OpenAI's image. Others are imported in every grade."""
OPERATIONAL = ("sandbox", "workers", "timeout_seconds", "memory_mb", "disk_mb", "image_tag")
"""Keys that decide whether there is a score, never which."""


class PythonGrader:
    """A grader that is code.

    Raises:
        ConfigError: no sandbox works on this machine, and the config does not say that the code is trusted.
    """

    def __init__(self, config: PythonConfig) -> None:
        self._name = f"grader {config.name or config.type}"
        self._errors_are_zero = config.on_error == "zero"
        as_declared = {key: PythonConfig.model_fields[key].default for key in OPERATIONAL}
        self._version = content_version(config.model_copy(update=as_declared), python=platform.python_version())
        limits = Limits(config.timeout_seconds, config.memory_mb, config.disk_mb)
        self.pool = WorkerPool(
            choose_level(config.sandbox),
            config.source,
            limits,
            n_workers=config.workers,
            preload=modules_to_preload(config.source),
        )

    def __repr__(self) -> str:
        return f"PythonGrader({self._name!r}, sandbox={self.pool.level.value!r})"

    @property
    def version(self) -> str:
        """Of the code and of the Python that runs it."""
        return self._version

    async def aclose(self) -> None:
        await self.pool.aclose()

    async def grade(self, submission: Submission) -> Grade:
        """Run the code on a submission, in a process of its own; many at once wait for a worker."""
        outcome = await self.pool.grade(partial(_request, submission))
        if outcome.score is not None:
            return Grade(outcome.score, seconds=outcome.seconds)
        details = printable(outcome.details)
        if not outcome.is_graders_fault:
            return ungraded(f"{self._name}: {details}", "python_grader_server_error", seconds=outcome.seconds)
        flag = "python_grader_runtime_error"
        if self._errors_are_zero:
            return Grade(0.0, seconds=outcome.seconds, explanation=f"counted as 0: {details}", errors=(flag,))
        return ungraded(f"{self._name}: {details}", flag, seconds=outcome.seconds)


def modules_to_preload(source: str) -> list[str]:
    """Modules that a source imports, wherever in it, and that a worker may import once."""
    names: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in a string is the author's business
        module = ast.parse(source)
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return sorted(name for name in names if name.split(".")[0] in PRELOADED and "._" not in name)


def _request(submission: Submission) -> bytes:
    """
    Raises:
        ValueError: it is no JSON, or too much of it.
    """
    body = json.dumps([submission.sample, submission.item], allow_nan=False).encode()
    if len(body) > MAX_REQUEST_BYTES:
        raise ValueError(f"it has {len(body):,} bytes; allowed: {MAX_REQUEST_BYTES:,}")
    return body
