"""`type: python`: code that comes with the config, run in a sandbox."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import NonEmpty, Positive, PositiveInt, Problem

MAX_SOURCE_BYTES = 256 * 1024
SIGNATURE = "def grade(sample, item), with exactly two positional parameters"


class PythonConfig(GraderSection):
    """A module with `grade(sample: dict, item: dict) -> float`, run in a sandbox of its own."""

    type: Literal["python"] = Field(description="Kind of grader.")
    source: NonEmpty = Field(description="The whole module, at most 256 kB.")
    image_tag: str | None = Field(default=None, description="Of hosted images; kept and without effect here.")
    sandbox: Literal["auto", "bubblewrap", "namespaces", "landlock", "unisolated"] = Field(
        default="auto",
        description="How grades are kept apart: `auto` is the strongest level that works on the machine, and refuses "
        "to run where none does; `unisolated` is for code that you trust as your own. See docs/sandbox.md.",
    )
    on_error: Literal["ungraded", "zero"] = Field(
        default="ungraded",
        description="What an exception of the code, or a result that is no number, means: no score, or 0 with a flag, "
        "as hosted graders have it.",
    )
    workers: PositiveInt = Field(default=2, description="Processes, and so grades at once.")
    timeout_seconds: Positive = Field(default=120.0, description="Of one grade, from the start of its execution.")
    memory_mb: PositiveInt = Field(default=2048, description="Address space of one grade, in MiB.")
    disk_mb: PositiveInt = Field(default=1024, description="Of one grade's temporary directory, in MiB.")

    def problems(self) -> Iterator[Problem]:
        if found := source_problem(self.source):
            yield Problem(("source",), found)


def source_problem(source: str) -> str:
    """What is wrong with a grader's module; empty where it can be run. Nothing of it is executed."""
    n_bytes = len(source.encode("utf-8", "surrogatepass"))
    if n_bytes > MAX_SOURCE_BYTES:
        return f"found {n_bytes:,} bytes; allowed: at most {MAX_SOURCE_BYTES:,}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is the author's business
            module = ast.parse(source)
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        return f"{line}found a syntax error: {error.msg}; allowed: a Python module"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"found text that Python cannot parse ({type(error).__name__}: {error}); allowed: a Python module"
    definitions = [each for each in _top_level(module.body) if _defines_grade(each)]
    if not definitions:
        is_path = "\n" not in source.strip() and source.strip().endswith(".py")
        hint = "; source is the text of the module, not its path" if is_path else ""
        return f"found no function grade; allowed: {SIGNATURE}{hint}"
    last = definitions[-1]
    if isinstance(last, ast.AsyncFunctionDef):
        return f"line {last.lineno}: found async def grade; allowed: {SIGNATURE}"
    arguments = last.args if isinstance(last, ast.FunctionDef) else _lambda_arguments(last)
    if arguments is None:
        return ""  # a name bound to something else: what it takes is known when it runs
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    needs_more = any(default is None for default in arguments.kw_defaults)
    if len(positional) != 2 or arguments.vararg or needs_more:
        return f"line {last.lineno}: found grade({ast.unparse(arguments)}); allowed: {SIGNATURE}"
    return ""


def _top_level(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those within its `if` and `try` included."""
    for each in statements:
        yield each
        for block in ("body", "orelse", "finalbody"):
            if isinstance(each, ast.If | ast.Try | ast.With):
                yield from _top_level(getattr(each, block, []))
        if isinstance(each, ast.Try):
            for handler in each.handlers:
                yield from _top_level(handler.body)


def _defines_grade(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return statement.name == "grade"
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return any((alias.asname or alias.name) == "grade" for alias in statement.names)
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "grade" for target in targets)


def _lambda_arguments(statement: ast.stmt) -> ast.arguments | None:
    value = statement.value if isinstance(statement, ast.Assign) else None
    return value.args if isinstance(value, ast.Lambda) else None
