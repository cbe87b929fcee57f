"""A file that holds a grader: alone, as the JSON that hosted fine-tuning takes, or in the config of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from agentrl.config import overrides as overriding
from agentrl.config import source as reading
from agentrl.config.grading import GradingConfig
from agentrl.config.loading import load_config, refusal
from agentrl.config.messages import explain
from agentrl.config.run import RunConfig
from agentrl.config.section import PathParts, Section
from agentrl.errors import ConfigError

AROUND = re.compile(r"^grading(\.grader(?=[.:]))?[.:] ?")
"""Before the names of keys that stand at the top of a grader's own file."""


class GraderAlone(Section):
    """What is left of a config where there is a grader and nothing else."""

    grading: GradingConfig = Field(description="A grader, by its `type`.")


@dataclass(frozen=True)
class GraderFile:
    """A grader, what is made of its scores, and the run that it belongs to."""

    path: Path
    grading: GradingConfig
    run: RunConfig | None = None
    """The whole config; None where the file holds a grader alone."""


def load_grader(path: str | Path, overrides: Sequence[str] = ()) -> GraderFile:
    """Load a grader's own file (YAML or JSON: the grader, or `{"grader": ...}`), or the grader of a run's config.

    Args:
        overrides: as of `load_config`; keys of a grader's own file start at its top.

    Raises:
        ConfigError: anything wrong with the file or an override; all mistakes in one message.
    """
    source = reading.read(path, starts_with="type:")
    if "workflow" in source.values:
        run = load_config(path, overrides)
        if run.grading is None:
            raise ConfigError(f"{path}: found a run's config without `grading`; there is no grader in it")
        return GraderFile(Path(path), run.grading, run)
    overriding.apply(source, overrides)
    inside = ("grading",) if isinstance(source.values.get("grading"), dict) and len(source.values) == 1 else ()
    return GraderFile(Path(path), _validated(_moved(source, inside)))


def parse_grader(grader: Any, name: str = "grader") -> GradingConfig:
    """A grader that came as JSON, in a request.

    Raises:
        ConfigError: the first mistake, as `place.of.the.key: found X; allowed Y`, or all of them in lines.
    """
    if not isinstance(grader, Mapping):
        raise ConfigError(f"{name}: found {grader!r:.80}; allowed: an object with `type`")
    return _validated(reading.Source(name, values={"grading": dict(grader)}))


def _moved(source: reading.Source, inside: PathParts) -> reading.Source:
    """The source with the grader at `grading`, wherever it stood."""
    if inside:
        return source
    moved = reading.Source(source.name, values={"grading": source.values}, problems=source.problems)
    moved.places = {("grading", *path): place for path, place in source.places.items()}
    moved.texts = {("grading", *path): text for path, text in source.texts.items()}
    moved.refused = {("grading", *path) for path in source.refused}
    return moved


def _validated(source: reading.Source) -> GradingConfig:
    problems = list(source.problems)
    try:
        config = GraderAlone.model_validate(source.values)
    except ValidationError as error:
        problems += [(place, AROUND.sub("", text)) for place, text in explain(error, GraderAlone, source)]
    else:
        if not problems:
            return config.grading
    raise refusal(source, problems)
