"""The union of all kinds, and `multi`, which is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from agentrl.config.graders.base import GraderSection
from agentrl.config.graders.conduct import EfficiencyConfig, PolicyCheckConfig, ToolUseConfig
from agentrl.config.graders.formula import NAME, Formula, parse_formula
from agentrl.config.graders.formula_facts import range_of, weights_of
from agentrl.config.graders.judges import LabelModelConfig, RubricConfig, ScoreModelConfig
from agentrl.config.graders.learned import RewardModelConfig
from agentrl.config.graders.measures import JsonSchemaConfig, NumericConfig, StringCheckConfig, TextSimilarityConfig
from agentrl.config.graders.python import PythonConfig
from agentrl.config.graders.remote import EndpointConfig
from agentrl.config.section import ALLOW_LISTS, BrokenRules, NonEmpty, PathParts, Problem, did_you_mean, repeated


def kind_of(value: Any) -> str:
    """The `type` of a declaration; one without a type is an endpoint."""
    kind = value.get("type", "endpoint") if isinstance(value, dict) else getattr(value, "type", "endpoint")
    return kind if isinstance(kind, str) else ""


AnyPart = (
    Annotated[StringCheckConfig, Tag("string_check")]
    | Annotated[TextSimilarityConfig, Tag("text_similarity")]
    | Annotated[NumericConfig, Tag("numeric")]
    | Annotated[JsonSchemaConfig, Tag("json_schema")]
    | Annotated[PythonConfig, Tag("python")]
    | Annotated[ScoreModelConfig, Tag("score_model")]
    | Annotated[LabelModelConfig, Tag("label_model")]
    | Annotated[RubricConfig, Tag("rubric")]
    | Annotated[ToolUseConfig, Tag("tool_use")]
    | Annotated[PolicyCheckConfig, Tag("policy_check")]
    | Annotated[EfficiencyConfig, Tag("efficiency")]
    | Annotated[RewardModelConfig, Tag("reward_model")]
    | Annotated[EndpointConfig, Tag("endpoint")]
)
PartConfig = Annotated[AnyPart, Discriminator(kind_of)]
"""Every kind but `multi`, which does not nest."""


def by_name(graders: Any) -> Any:
    """A list of named graders, or a single one, as the mapping that `multi` means: three spellings are in use."""
    if isinstance(graders, dict) and isinstance(graders.get("type"), str):
        graders = [graders]
    if isinstance(graders, list | tuple):
        names = [_key(each, "name") for each in graders]
        if all(names) and len(set(names)) == len(names):
            return dict(zip(names, graders, strict=True))
    return graders


def parts_by_name(graders: Any) -> Any:
    """As `by_name`; what has no name of its own, or parts, is refused here, where it can be said well."""
    named = by_name(graders)
    problems = []
    if isinstance(named, list | tuple):
        names = [_key(each, "name") for each in named]
        for index in sorted({*repeated(names), *(index for index, name in enumerate(names) if not name)}):
            found = f"found '{names[index]}' a second time" if names[index] else "missing"
            allowed = "a name of its own, by which calculate_output calls it"
            problems.append(
                Problem((index, "name") if isinstance(graders, list) else ("name",), f"{found}; allowed: {allowed}")
            )
    elif isinstance(named, dict):
        for name in [name for name, each in named.items() if _key(each, "type") == "multi"]:
            found = "found multi; allowed: every other kind, as a multi holds no multi: write one formula of all parts"
            problems.append(Problem((name, "type"), found))
    if problems:
        raise BrokenRules(problems)
    return named


def _key(grader: Any, key: str) -> str:
    value = grader.get(key) if isinstance(grader, dict) else getattr(grader, key, None)
    return value if isinstance(value, str) else ""


class MultiConfig(GraderSection):
    """Several graders, and the formula that makes one score of theirs."""

    not_content: ClassVar[frozenset[str]] = GraderSection.not_content | {"graders"}
    """Its version takes in the versions of its parts instead of their declarations."""

    type: Literal["multi"] = Field(description="Kind of grader.")
    graders: Annotated[dict[str, PartConfig], BeforeValidator(parts_by_name), Field(min_length=1)] = Field(
        description="The parts, by the name that the formula calls them: a mapping, or a list whose entries have names."
    )
    calculate_output: NonEmpty = Field(
        description="Formula of names, numbers, + - * / ^ and parentheses, min, max, abs, floor, ceil, exp, sqrt, log."
    )
    optional: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(
        default=(),
        description="Parts of a weighted sum that may fail: their weight goes to the others, and the grade says so. "
        "Where another part fails, there is no score.",
    )

    @property
    def formula(self) -> Formula:
        """`calculate_output`, parsed."""
        return parse_formula(self.calculate_output)

    @property
    def unused(self) -> tuple[str, ...]:
        """Parts that the formula does not name: they are graded and reported, and weigh nothing."""
        return tuple(name for name in self.graders if name not in self.formula.names)

    @property
    def weights(self) -> Mapping[str, float]:
        """What each part of a weighted sum can add at most; empty where the formula is none."""
        weights = weights_of(self.formula) or {}
        return {name: weight * self.graders[name].best_score for name, weight in weights.items()}

    @property
    def best_score(self) -> float:
        """The formula's greatest value, or 1 where a part is named twice and it cannot be told."""
        return self._range[1]

    @property
    def least_score(self) -> float:
        return self._range[0]

    @property
    def _range(self) -> tuple[float, float]:
        ranges = {name: (part.least_score, part.best_score) for name, part in self.graders.items()}
        least, best = range_of(self.formula, ranges) or (0.0, 1.0)
        return rounded(least), rounded(best)

    def templates(self) -> Iterator[tuple[PathParts, str]]:
        for name, part in self.graders.items():
            yield from ((("graders", name, *path), text) for path, text in part.templates())

    def problems(self) -> Iterator[Problem]:
        for name in self.graders:
            if not NAME.fullmatch(name):
                allowed = "letters, digits and underscores, no digit first, as the formula calls it by this name"
                yield Problem(("graders", name), f"found the name '{name:.60}'; allowed: {allowed}")
        try:
            formula = self.formula
        except ValueError as error:
            yield Problem(("calculate_output",), str(error))
            return
        unknown = [name for name in formula.names if name not in self.graders]
        yield from (Problem(("calculate_output",), self._no_part(name)) for name in unknown)
        if not unknown:
            yield from self._problems_of_optional()

    def _problems_of_optional(self) -> Iterator[Problem]:
        for index, name in enumerate(self.optional):
            if name not in self.graders:
                yield Problem(("optional", index), self._no_part(name))
        weights = self.weights
        if self.optional and not (weights and all(weight > 0 for weight in weights.values())):
            yield Problem(
                ("optional",),
                f"found parts that may fail under the formula '{self.calculate_output:.60}'; allowed only for a "
                "weighted sum such as 0.7*a + 0.3*b, all weights above 0: else no weight can go to the other parts",
            )

    def _no_part(self, name: str) -> str:
        hint = did_you_mean(name, self.graders)
        return f"found '{name:.60}', which is no part; allowed: {', '.join(self.graders)}{hint}"


def with_parts(grader: GraderSection) -> Iterator[tuple[str, GraderSection]]:
    """A grader and the parts of it, each with the text that its place begins with."""
    yield "", grader
    if isinstance(grader, MultiConfig):
        for name, part in grader.graders.items():
            yield f"graders.{name}.", part


def rounded(score: float) -> float:
    """To twelve digits, so that 0.1 + 0.2 + 0.7 and its like are not beyond a best score of 1."""
    return float(f"{score:.12g}")


GraderConfig = Annotated[AnyPart | Annotated[MultiConfig, Tag("multi")], Discriminator(kind_of)]
"""Every kind; `type` tells them apart, and a grader without a type is an endpoint."""
KINDS: dict[str, type[GraderSection]] = {
    "string_check": StringCheckConfig,
    "text_similarity": TextSimilarityConfig,
    "score_model": ScoreModelConfig,
    "label_model": LabelModelConfig,
    "python": PythonConfig,
    "multi": MultiConfig,
    "endpoint": EndpointConfig,
    "numeric": NumericConfig,
    "json_schema": JsonSchemaConfig,
    "rubric": RubricConfig,
    "tool_use": ToolUseConfig,
    "policy_check": PolicyCheckConfig,
    "efficiency": EfficiencyConfig,
    "reward_model": RewardModelConfig,
}
"""By `type`; those of OpenAI's reinforcement fine-tuning first."""
