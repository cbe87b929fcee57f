"""The union of all kinds, and `multi`, which is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from agentrl.config.graders.base import GraderSection
from agentrl.config.graders.conduct import EfficiencyConfig, PolicyCheckConfig, ToolUseConfig
from agentrl.config.graders.judges import LabelModelConfig, RubricConfig, ScoreModelConfig
from agentrl.config.graders.learned import RewardModelConfig
from agentrl.config.graders.measures import JsonSchemaConfig, NumericConfig, StringCheckConfig, TextSimilarityConfig
from agentrl.config.graders.python import PythonConfig
from agentrl.config.graders.remote import EndpointConfig
from agentrl.config.section import ALLOW_LISTS, NonEmpty


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
        names = [each.get("name") if isinstance(each, dict) else getattr(each, "name", None) for each in graders]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return dict(zip(names, graders, strict=True))
    return graders


class MultiConfig(GraderSection):
    """Several graders, and the formula that makes one score of theirs."""

    type: Literal["multi"] = Field(description="Kind of grader.")
    graders: Annotated[dict[str, PartConfig], BeforeValidator(by_name), Field(min_length=1)] = Field(
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
