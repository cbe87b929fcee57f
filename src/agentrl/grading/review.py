"""What is allowed in a grader's declaration and still likely to be a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentrl.config import GradingConfig
from agentrl.config.graders import EndpointConfig, GraderSection, MultiConfig, PythonConfig, with_parts
from agentrl.config.run import SECRET_HEADER
from agentrl.errors import ConfigError
from agentrl.grading.build import build_grader
from agentrl.grading.sandbox import Level, sandbox_level
from agentrl.grading.templates import missing_paths


async def warnings_of(
    grading: GradingConfig, rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None, *, is_built: bool = True
) -> list[str]:
    """One sentence each; none is an error.

    Args:
        rows: the items of data files, by the files' names: a template may name what a row does not have.
        is_built: the grader is set up for a moment, so that a missing key or package shows; nobody is asked.
    """
    found = [*_thresholds(grading), *_formula(grading.grader), *_literal_secrets(grading)]
    for name, items in (rows or {}).items():
        found += _missing(grading, name, items)
    found += _weak_sandbox(grading)
    if is_built:
        try:
            await build_grader(grading).aclose()
        except ConfigError as error:
            found.append(f"cannot be carried out here: {error}")
    return found


def _thresholds(grading: GradingConfig) -> Iterator[str]:
    if grading.pass_threshold <= grading.min_score:
        yield (
            f"pass_threshold: found {grading.pass_threshold:g}, the worst score or less: "
            "every graded answer counts as a success"
        )
    for place, part in with_parts(grading.grader):
        threshold = part.pass_threshold
        low, high = part.least_score, part.best_score
        if place and threshold is not None and not low < threshold <= high:
            yield f"{place}pass_threshold: found {threshold:g}; its scores lie from {low:g} to {high:g}"


def _formula(grader: GraderSection) -> Iterator[str]:
    if isinstance(grader, MultiConfig):
        for name in grader.unused:
            yield f"graders.{name}: stands in no place of calculate_output; it is asked and changes no score"


def _literal_secrets(grading: GradingConfig) -> Iterator[str]:
    for place, part in with_parts(grading.grader):
        if isinstance(part, EndpointConfig):
            for header, value in part.headers.items():
                if SECRET_HEADER.search(header) and "${" not in value:
                    yield f"{place}headers.{header}: found a secret written out; write ${{NAME}} and set NAME instead"


def _missing(grading: GradingConfig, name: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each path, with the first row that lacks it."""
    first: dict[tuple[str, str], int] = {}
    counts: dict[tuple[str, str], int] = {}
    for config in (grading.grader, *grading.holdout):
        for each in missing_paths(config, rows):
            key = each.path, each.grader
            first.setdefault(key, each.row)
            counts[key] = counts.get(key, 0) + 1
    for (path, grader), row in first.items():
        more = f" and {counts[path, grader] - 1} more rows" if counts[path, grader] > 1 else ""
        yield f"row {row} of {name}{more}: no {path}, which grader {grader} reads; answers to it would have no score"


def _weak_sandbox(grading: GradingConfig) -> Iterator[str]:
    for place, part in with_parts(grading.grader):
        if not isinstance(part, PythonConfig):
            continue
        if part.sandbox == "unisolated":
            yield f"{place}sandbox: found unisolated; the code runs with your rights, on your files and your network"
        elif part.sandbox == "auto" and (level := sandbox_level()) is Level.LANDLOCK:
            yield f"{place}sandbox: the strongest that works on this machine is {level.value}; see docs/sandbox.md"
