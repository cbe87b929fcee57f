"""A file that holds a grader: alone, as the JSON that hosted fine-tuning takes, or in the config of a run."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
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

OPTIONS = frozenset(GradingConfig.model_fields) - {"grader", "pass_threshold"}
"""What may stand beside a grader's own keys."""

ANY_SCORE = ("endpoint", "python", "multi", "reward_model")
"""Kinds whose declaration does not say what they can give."""


class GraderAlone(Section):
    """What is left of a config where there is a grader and nothing else."""

    grading: GradingConfig = Field(description="A grader, by its `type`.")


@dataclass(frozen=True)
class GraderFile:
    """A grader, what is made of its scores, and the run that it belongs to."""

    path: str
    """As the user wrote it."""
    grading: GradingConfig
    run: RunConfig | None = None
    """The whole config; None where there is a grader alone."""
    has_range: bool = True
    """Somebody said which scores it gives. Hosted graders alone may give any."""

    @property
    def scoring(self) -> GradingConfig:
        """To build the grader of: `grading`, without a range that nobody asked for."""
        if self.has_range:
            return self.grading
        return self.grading.model_copy(update={"min_score": -math.inf, "max_score": math.inf})


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
        return GraderFile(str(path), run.grading, run)
    if "method" in source.values:
        raise ConfigError(f"{path}: found a hosted job, no grader: try `agentrl import openai {path}`")
    overriding.apply(source, overrides)
    is_inside = isinstance(source.values.get("grading"), dict) and len(source.values) == 1
    return _validated(source if is_inside else _moved(source))


def parse_grader(grader: Any, name: str = "grader") -> GraderFile:
    """A grader that came as JSON, in a request.

    Raises:
        ConfigError: the first mistake, as `place.of.the.key: found X; allowed Y`, or all of them in lines.
    """
    if not isinstance(grader, Mapping):
        raise ConfigError(f"{name}: found {grader!r:.80}; allowed: an object with `type`")
    try:
        return _validated(reading.Source(name, values={"grading": _sorted(grader)}))
    except RecursionError:
        raise ConfigError(f"{name}: found values that are nested too deeply; allowed: a grader") from None


def _moved(source: reading.Source) -> reading.Source:
    """The source with the grader at `grading.grader` and the options beside it, where all of it stood at the top."""
    moved = reading.Source(source.name, values={"grading": _sorted(source.values)}, problems=source.problems)
    is_wrapped = "grader" in source.values

    def place(path: PathParts) -> PathParts:
        is_option = is_wrapped or (bool(path) and path[0] in OPTIONS)
        return ("grading", *path) if is_option else ("grading", "grader", *path)

    moved.places = {place(path): where for path, where in source.places.items()}
    moved.places[("grading",)] = source.places.get((), source.name)
    moved.places[("grading", "pass_threshold")] = source.place(("pass_threshold",))  # which the grader's implies
    moved.texts = {place(path): text for path, text in source.texts.items()}
    moved.refused = {place(path) for path in source.refused}
    return moved


def _sorted(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `grading` holds, of a grader alone: a threshold stays the grader's, which implies that of `grading`."""
    if "grader" in values:
        return dict(values)
    options = {key: value for key, value in values.items() if key in OPTIONS}
    return {"grader": {key: value for key, value in values.items() if key not in OPTIONS}, **options}


def _validated(source: reading.Source) -> GraderFile:
    written, problems = source.values["grading"], list(source.problems)
    has_range = "min_score" in written or "max_score" in written
    try:
        config = _validate(written, has_range)
    except ValidationError as error:
        problems += [(place, AROUND.sub("", text)) for place, text in explain(error, GraderAlone, source)]
    else:
        if not problems:
            return GraderFile(source.name, config.grading, has_range=has_range)
    raise refusal(source, problems)


def _validate(written: Mapping[str, Any], has_range: bool) -> GraderAlone:
    """A pass threshold implies that scores reach it: hosted graders are declared without a range."""
    try:
        return GraderAlone.model_validate({"grading": written})
    except ValidationError:
        threshold = _threshold(written)
        if has_range or threshold is None:
            raise
        with suppress(ValidationError):
            return GraderAlone.model_validate({"grading": {**written, "max_score": threshold}})
        raise


def _threshold(written: Mapping[str, Any]) -> float | None:
    inner = written.get("grader")
    for place in (written, inner if isinstance(inner, Mapping) else {}):
        found = place.get("pass_threshold")
        if not isinstance(found, int | float) or isinstance(found, bool):
            continue
        if abs(found) <= sys.float_info.max and place.get("type", "endpoint") in ANY_SCORE:
            return float(found)
    return None
