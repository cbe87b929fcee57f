"""`tools.policy:` which tool calls are made, which are refused, which need a person's word; with which arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from agentrl.config.section import ALLOW_LISTS, Count, NonEmpty, Positive, Problem, Section, repeated

Word = Literal["allow", "deny", "needs_approval"]
ArgumentType = Literal["string", "number", "integer", "boolean", "array", "object"]
Scalar = str | int | float | bool
NUMBERS, TEXTS, LISTS = ("minimum", "maximum"), ("pattern", "max_length"), ("max_items", "items")
TYPES_OF: dict[str, tuple[ArgumentType, ...]] = {
    **dict.fromkeys(NUMBERS, ("number", "integer")),
    **dict.fromkeys(TEXTS, ("string",)),
    **dict.fromkeys(LISTS, ("array",)),
}


class ValueScope(Section):
    """Bounds of one value. All that are given have to hold."""

    type: ArgumentType | None = Field(
        default=None, description="Of its JSON value; null is any that the other keys allow. An integer is a number."
    )
    enum: Annotated[tuple[Scalar, ...], ALLOW_LISTS] | None = Field(
        default=None, description="The values that it may have, compared with their types: 1 is neither true nor '1'."
    )
    pattern: NonEmpty | None = Field(
        default=None,
        description="Regular expression that the whole text has to match; of the linear kind: no lookaround, no "
        "backreference.",
    )
    max_length: Count | None = Field(default=None, description="Most characters of a text.")
    minimum: float | None = Field(default=None, description="Least number, itself allowed.")
    maximum: float | None = Field(default=None, description="Greatest number, itself allowed.")

    def problems(self) -> Iterator[Problem]:
        for key, types in TYPES_OF.items():
            if getattr(self, key, None) is not None and self.type not in (None, *types):
                yield Problem((key,), f"found with type: {self.type}; allowed with {' or '.join(types)}")
        kinds = {TYPES_OF[key] for key in TYPES_OF if getattr(self, key, None) is not None}
        if len(kinds) > 1:
            yield Problem((), "found bounds of texts, numbers and lists together; allowed: those of one type")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield Problem(("minimum",), f"found {self.minimum:g}; allowed: at most maximum ({self.maximum:g})")
        if self.pattern is not None:
            try:
                pattern_of(self.pattern)
            except SchemaError:
                yield Problem(
                    ("pattern",), "found no regular expression of the linear kind; allowed: such as [A-Z]{2}[0-9]+"
                )
        if self.enum == ():
            yield Problem(("enum",), "found no value; allowed: at least one, or `decision: deny`")


class ArgumentScope(ValueScope):
    """Bounds of one argument."""

    max_items: Count | None = Field(default=None, description="Most elements of a list.")
    items: ValueScope | None = Field(default=None, description="Bounds of every element of a list.")
    required: bool = Field(default=False, description="Whether a call without it is out of scope.")


class ToolRule(Section):
    """What holds for the calls of one tool."""

    tool: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        description="Its name, as the policy writes it."
    )
    decision: Word = Field(description="For calls whose arguments are in scope.")
    arguments: dict[NonEmpty, ArgumentScope] | None = Field(
        default=None,
        description="Bounds by argument; `a.b` is the key b of the object a. Null: any arguments are in scope.",
    )
    other_arguments: Literal["deny", "allow"] = Field(
        default="deny", description="Whether arguments that are not named above are out of scope, where some are."
    )
    outside: Literal["deny", "needs_approval"] = Field(
        default="deny", description="For calls whose arguments are out of scope."
    )
    reason: str = Field(default="", description="Why; the policy reads it with a refusal, a person with a request.")

    def problems(self) -> Iterator[Problem]:
        if self.arguments == {}:
            yield Problem(("arguments",), "found no bounds; allowed: null for any arguments, or bounds of some")
        if self.decision == "deny" and self.arguments is not None:
            yield Problem(("arguments",), "found with decision: deny, which refuses all; delete one of them")


class ToolPolicyConfig(Section):
    """Asked before every call, in training, in evaluations and by agents in production."""

    rules: Annotated[tuple[ToolRule, ...], ALLOW_LISTS] = Field(default=(), description="One a tool.")
    default: Word = Field(default="deny", description="For tools without a rule.")
    approval_timeout_seconds: Positive = Field(
        default=300.0, description="How long a call waits for a person; then it is denied."
    )
    approval_valid_seconds: Positive = Field(
        default=600.0, description="How long an approval may be used after it was given; once, for exactly that call."
    )

    def problems(self) -> Iterator[Problem]:
        for index in repeated(rule.tool for rule in self.rules):
            yield Problem(
                ("rules", index, "tool"), f"found '{self.rules[index].tool}' a second time; allowed: one rule"
            )


def pattern_of(pattern: str) -> TypeAdapter[Any]:
    """Validates texts that match as a whole, in time linear in their length (Rust's regex; Python's may hang).

    Raises:
        SchemaError: it is none.
    """
    return TypeAdapter(Annotated[str, StringConstraints(pattern=rf"\A(?:{pattern})\z", strict=True)])


def matches(pattern: TypeAdapter[Any], text: str) -> bool:
    """Whether the whole text is one that the pattern describes."""
    try:
        pattern.validate_python(text)
    except ValidationError:
        return False
    return True
