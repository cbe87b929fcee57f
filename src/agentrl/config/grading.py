"""`grading:` who scores an answer, what counts as a success, and who watches without a say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from agentrl.config.graders import EndpointConfig, GraderConfig, GraderSection, MultiConfig
from agentrl.config.section import ALLOW_LISTS, Count, PathParts, Problem, Section, repeated

DEFAULT_PASS_FRACTION = 0.75
"""Of the range of scores, from which on an answer counts as right where nobody says otherwise."""


class AuditConfig(Section):
    """Which episodes of each evaluation a person should look at; `agentrl audit` shows them."""

    random: Count = Field(default=3, description="Drawn at random.")
    highest: Count = Field(default=3, description="Those with the highest scores.")
    largest_gap: Count = Field(default=3, description="Those whose score lies furthest above their hold-out score.")


class GradingConfig(Section):
    """A grader and what a run makes of its scores; the grader's own keys may stand here, without `grader:`."""

    grader: GraderConfig = Field(description="Who scores: a declaration by `type`; without a type, an endpoint.")
    pass_threshold: float = Field(
        default=DEFAULT_PASS_FRACTION,
        description="A rollout with at least this score counts as a success; the reward stays the score. Without it, "
        "the declaration's, or three quarters of the way from min_score to max_score.",
    )
    max_score: float = Field(
        default=1.0, description="The best score the grader gives; without it, what its range or formula can reach."
    )
    min_score: float = Field(default=0.0, description="The worst score the grader gives; likewise.")
    out_of_range: Literal["error", "clamp"] = Field(
        default="error",
        description="A score below min_score or above max_score: `error` leaves the rollout ungraded, `clamp` takes "
        "the limit.",
    )
    turn_scores: bool = Field(
        default=False,
        description="The grader, an endpoint, is sent `sample.turns` as well, and answers `turn_scores`, a number from "
        "0 to 1 for each of them; without them the rollout is ungraded.",
    )
    holdout: Annotated[tuple[GraderConfig, ...], ALLOW_LISTS] = Field(
        default=(),
        description="Graders that score evaluations and are never part of the reward: where the score rises and theirs "
        "falls, the policy games its grader.",
    )
    audit: AuditConfig = Field(default=AuditConfig(), description="What each evaluation puts aside for people.")

    @model_validator(mode="before")
    @classmethod
    def _grader_written_in_place(cls, value: Any) -> Any:
        """`{name, url, pass_threshold}` to `{grader: {name, url}, pass_threshold}`; defaults from the declaration."""
        if not isinstance(value, Mapping):
            return value
        own = {key: value[key] for key in value if key in cls.model_fields}
        theirs = {key: value[key] for key in value if key not in cls.model_fields}
        if "grader" not in own:
            own["grader"] = theirs
            theirs = {}
        return {**_declared(own["grader"], own), **own, **theirs}

    @property
    def name(self) -> str:
        """The grader's name, or its type where it has none: what `workflow.reward_model` refers to."""
        return self.grader.name or self.grader.type

    @property
    def declared(self) -> list[tuple[PathParts, GraderSection]]:
        """Every grader, with its place below `grading`; hold-outs and parts included."""
        declared: list[tuple[PathParts, GraderSection]] = [(("grader",), self.grader)]
        declared += [(("holdout", index), each) for index, each in enumerate(self.holdout)]
        for path, grader in list(declared):
            if isinstance(grader, MultiConfig):
                declared += [((*path, "graders", name), part) for name, part in grader.graders.items()]
        return declared

    @property
    def endpoints(self) -> list[tuple[PathParts, EndpointConfig]]:
        """Grader servers, with the place that declares each."""
        return [(path, grader) for path, grader in self.declared if isinstance(grader, EndpointConfig)]

    @property
    def holdout_names(self) -> tuple[str, ...]:
        return tuple(each.name or each.type for each in self.holdout)

    def problems(self) -> Iterator[Problem]:
        if self.min_score >= self.max_score:
            found = f"found {self.max_score:g}; allowed: more than min_score ({self.min_score:g})"
            yield Problem(("max_score",), found)
        elif self.pass_threshold > self.max_score:
            yield Problem(
                ("pass_threshold",),
                f"found {self.pass_threshold:g}; allowed: at most max_score ({self.max_score:g}), "
                "or nothing ever counts as a success",
            )
        if self.turn_scores and self.grader.type != "endpoint":
            found = f"found true with a grader of type {self.grader.type}; allowed: false, or type: endpoint"
            yield Problem(("turn_scores",), found)
        for index in repeated(self.holdout_names):
            found = f"found '{self.holdout_names[index]}' a second time; allowed: one hold-out grader a name"
            yield Problem(("holdout", index, "name"), found)


def _declared(grader: Any, written: Mapping[str, Any]) -> dict[str, Any]:
    """Options that a declaration implies: the range of a judge or of a formula, and what counts as a success.

    Args:
        written: options that the file has.
    """
    try:
        found: GraderSection = ANY_GRADER.validate_python(grader)
    except ValidationError:
        return {}  # told when the section itself is validated
    least, best = found.least_score, found.best_score
    implied = {"min_score": least, "max_score": best} if least < best else {}
    if found.pass_threshold is not None:
        implied["pass_threshold"] = found.pass_threshold
    elif implied and not {"min_score", "max_score"} & written.keys():
        implied["pass_threshold"] = least + DEFAULT_PASS_FRACTION * (best - least)
    return implied


ANY_GRADER: TypeAdapter[Any] = TypeAdapter(GraderConfig)
