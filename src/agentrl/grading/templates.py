"""Templates, filled in: `the answer is {{ sample.output_text }}` -> `the answer is 42`.

Values are inserted once and never read as templates, whatever the model writes. Text stays as it is, everything else is
written as compact JSON: `42`, `0.5`, `true`, `null`, `{"a":[1,2]}`.

A path that leads nowhere is never an empty text. Whose fault it is depends on the path: what the row lacks is an
`invalid_variable_error`, and there is no score; what the answer lacks, such as a key of a JSON answer or the first tool
call, is a `sample_parse_error` with the least score, or a policy could escape its grader by answering badly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from agentrl.config.graders import GraderSection, MultiConfig
from agentrl.config.graders.templates import Variable, parse_template, template_paths
from agentrl.grading.grader import ungraded
from agentrl.grading.submission import Submission
from agentrl.types import Grade

BY_THE_MODEL = ("output_json", "output_tools", "choices", "turns")
"""Variables of a sample whose parts exist or not by what the model did."""
ABSENT = object()


class MissingValue(Exception):
    """A path of a template that leads nowhere."""

    def __init__(self, variable: Variable, why: str = "is not there") -> None:
        self.variable = variable
        super().__init__(f"{{{{ {variable} }}}} {why}")

    @property
    def is_samples_fault(self) -> bool:
        """Whether another answer would have had the value."""
        namespace, *rest = self.variable.path
        return namespace == "sample" and len(rest) > 1 and rest[0] in BY_THE_MODEL

    def grade(self, least_score: float = 0.0) -> Grade:
        """No score where the row lacks the value, the least where the answer does."""
        if self.is_samples_fault:
            return Grade(least_score, explanation=f"{self} in this answer", errors=("sample_parse_error",))
        return ungraded(str(self), "invalid_variable_error")


def render(template: str, submission: Submission) -> str:
    """The template's text for one answer.

    Raises:
        MissingValue: a path leads nowhere.
        ValueError: the template is none; a config has been checked for that.
    """
    return "".join(
        piece if isinstance(piece, str) else as_text(value_of(piece, submission), piece)
        for piece in parse_template(template)
    )


def value_of(variable: Variable, submission: Submission) -> Any:
    """What a path leads to.

    Raises:
        MissingValue: nothing.
    """
    namespace, *rest = variable.path
    if namespace == "sample" and rest[:1] == ["turns"]:
        submission = submission.with_turns()
    found = follow(submission.sample if namespace == "sample" else submission.item, rest)
    if found is ABSENT:
        raise MissingValue(variable)
    return found


def follow(value: Any, path: Iterable[str | int]) -> Any:
    """Down a path of keys and positions; ABSENT where it ends early. `.0` is a position in a list, as `[0]` is."""
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(str(part), ABSENT)
        elif isinstance(value, list | tuple) and str(part).isascii() and str(part).isdigit() and len(str(part)) < 10:
            value = value[int(part)] if int(part) < len(value) else ABSENT
        else:
            return ABSENT
        if value is ABSENT:
            return ABSENT
    return value


def as_text(value: Any, variable: Variable) -> str:
    """How a value stands in a text.

    Raises:
        MissingValue: it is nested too deeply to be written, or no JSON.
    """
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MissingValue(variable, f"cannot be written as JSON ({error})") from error


class MissingPath(NamedTuple):
    """A row that lacks what a template names."""

    row: int
    """From 1 on, as rows are counted in files."""
    path: str
    grader: str

    def __str__(self) -> str:
        return f"row {self.row} has no {self.path}, which grader {self.grader} reads"


def missing_paths(config: GraderSection, rows: Iterable[Mapping[str, Any]]) -> Iterator[MissingPath]:
    """Rows (items) that a grader could not grade, found before training: each would be ungraded, every time.

    Args:
        rows: the items of tasks; `messages` is taken for granted.
    """
    wanted = {
        path: grader.name or grader.type
        for grader in _graders_in(config)
        for _, template in grader.templates()
        for path in template_paths(template)
        if path[0] == "item" and len(path) > 1 and path[1] != "messages"
    }
    for number, row in enumerate(rows, 1):
        for path, grader in wanted.items():
            if follow(row, path[1:]) is ABSENT:
                yield MissingPath(number, str(Variable(path)), grader)


def _graders_in(config: GraderSection) -> Iterator[Any]:
    if isinstance(config, MultiConfig):
        for name, part in config.graders.items():
            yield part if part.name else part.model_copy(update={"name": name})
    else:
        yield config
