"""`evaluation:` when and how the policy is measured. `checkpoint:` when it is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, model_validator

from agentrl.config.section import BrokenRules, PositiveInt, Problem, Section

HOSTED = {"eval_interval": ("every_steps",), "eval_samples": ("samples_per_item", "periodic_samples_per_item")}
"""Names of the hosted service, and the keys that each is short for."""
AUTO = "auto"


class EvaluationConfig(Section):
    """The baseline, the best and the last policy get `samples_per_item`; evaluations on the way are lighter.

    `eval_interval` is short for `every_steps`, and `eval_samples` for `samples_per_item` and
    `periodic_samples_per_item` alike, as the hosted service has them; its `auto` is our default.
    """

    every_steps: PositiveInt = Field(default=5, description="PPO steps between two evaluations on validation.")
    samples_per_item: PositiveInt = Field(default=3, description="Rollouts an item in the before/after evaluations.")
    validation_items: PositiveInt | None = Field(
        default=None, description="Validation items to evaluate on, the first ones; null is all."
    )
    periodic_samples_per_item: PositiveInt = Field(
        default=1, description="Rollouts an item in the evaluations on the way; they choose the best checkpoint."
    )
    test_samples_per_item: PositiveInt = Field(default=1, description="Rollouts an item of the test split.")
    run_test: bool = Field(default=True, description="Evaluate baseline and best on the test split, once, at the end.")

    @model_validator(mode="before")
    @classmethod
    def _hosted_names(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        written = {key: each for key, each in value.items() if key not in HOSTED}
        problems = []
        for name in HOSTED.keys() & value.keys():
            if taken := [key for key in HOSTED[name] if key in written]:
                short = " and ".join(HOSTED[name])
                problems.append(
                    Problem((name,), f"found beside {taken[0]}; allowed: one of them, as it is short for {short}")
                )
            elif value[name] != AUTO and (
                isinstance(value[name], bool) or not isinstance(value[name], int) or value[name] < 1
            ):
                problems.append(
                    Problem((name,), f"found {value[name]!r:.40}; allowed: auto, or a whole number of at least 1")
                )
        if problems:
            raise BrokenRules(problems)
        short_for = {key: value[name] for name in HOSTED.keys() & value.keys() for key in HOSTED[name]}
        return {**written, **{key: each for key, each in short_for.items() if each != AUTO}}


class CheckpointConfig(Section):
    """What a run keeps on disk: checkpoints to go on from, and the policies that validation liked best."""

    every_steps: PositiveInt = Field(default=5, description="PPO steps between two checkpoints.")
    keep_last: PositiveInt = Field(default=2, description="Checkpoints to keep, the newest ones.")
    keep_every_steps: PositiveInt | None = Field(
        default=None,
        description="Also keep the checkpoints of every so many steps, for good; a multiple of `every_steps`.",
    )
    keep_best: PositiveInt = Field(
        default=3, description="Policies to keep, the best ones on validation, each as a Hugging Face directory."
    )
    token_facts: bool = Field(
        default=True,
        description="Whether to keep, for each batch that was learned from, every sampled token's advantage, value and "
        "log-probabilities: for the trace viewer.",
    )

    def problems(self) -> Iterator[Problem]:
        if self.keep_every_steps is not None and self.keep_every_steps % self.every_steps:
            yield Problem(
                ("keep_every_steps",),
                f"found {self.keep_every_steps}; allowed: a multiple of checkpoint.every_steps ({self.every_steps}), "
                "as there is no checkpoint at other steps",
            )
