"""RunConfig: the whole file, the rules between its sections, and what training needs beyond loading."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from agentrl.config.data import DataConfig
from agentrl.config.endpoint import SERVE
from agentrl.config.evaluation import CheckpointConfig, EvaluationConfig
from agentrl.config.gateway import GatewayConfig
from agentrl.config.graders import EfficiencyConfig, ToolUseConfig
from agentrl.config.grading import GradingConfig
from agentrl.config.inference import InferenceConfig
from agentrl.config.monitoring import MonitoringConfig, expand_metric_list
from agentrl.config.policy import PolicyConfig
from agentrl.config.ppo import PPOConfig
from agentrl.config.release import ReleaseConfig
from agentrl.config.rewards import MAX_TURN_SCORE_SHARE
from agentrl.config.rollout import RolloutConfig
from agentrl.config.section import Count, PathParts, Problem, RunName, Section, did_you_mean
from agentrl.config.tools import ToolsConfig, expand_endpoint_list, served_by_nobody
from agentrl.config.tracking import TrackingConfig
from agentrl.config.workflow import WorkflowConfig
from agentrl.errors import ConfigError

MINIMAL_EXAMPLES = {
    "data": "data:\n  train: data/train.jsonl\n  validation: data/validation.jsonl",
    "tools": "tools:\n  endpoints:\n    - {name: search, server_url: 'http://127.0.0.1:8000/search'}",
    "grading": "grading:\n  name: answer_grader\n  url: http://127.0.0.1:8000/grade",
}
SECRET_HEADER = re.compile(r"authorization|api[-_]?key|token|secret|functions-key|cookie", re.IGNORECASE)


class RunConfig(Section):
    """One run. Relative paths in it start at the current directory, as on a command line."""

    name: RunName = Field(default="run", description="Names the run directory; without it, the config file's name.")
    seed: Count = Field(default=17, description="Seed of sampling, shuffling and initialisation.")
    workflow: WorkflowConfig = Field(description="What is trained, from where, judged by whom.")
    data: DataConfig | None = Field(default=None, description="The tasks; needed to train.")
    policy: PolicyConfig = Field(default=PolicyConfig(), description="Placement of the model.")
    inference: InferenceConfig = Field(default=InferenceConfig(), description="Sampling.")
    tools: Annotated[ToolsConfig | None, BeforeValidator(expand_endpoint_list)] = Field(
        default=None, description="What the policy may call: a mapping, or a bare list of endpoints; needed to train."
    )
    grading: GradingConfig | None = Field(default=None, description="Who scores an answer; needed to train.")
    rollout: RolloutConfig = Field(default=RolloutConfig(), description="Limits of one episode.")
    ppo: PPOConfig = Field(default=PPOConfig(), description="The update.")
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="Measuring the policy.")
    checkpoint: CheckpointConfig = Field(default=CheckpointConfig(), description="Saving the policy.")
    tracking: TrackingConfig | None = Field(
        default=None, description="Who else is told while it runs: experiment trackers, an OpenTelemetry collector."
    )
    release: ReleaseConfig | None = Field(default=None, description="How a trained policy reaches users.")
    monitoring: Annotated[MonitoringConfig | None, BeforeValidator(expand_metric_list)] = Field(
        default=None, description="What is watched after the release: a mapping, or a bare list of metric names."
    )
    gateway: GatewayConfig | None = Field(default=None, description="The proxy that users talk to.")

    def problems(self) -> Iterator[Problem]:
        yield from self._reward_model_is_the_grader()
        yield from self._graders_expect_tools_that_exist()
        yield from self._what_is_charged_for_has_a_price()
        yield from self._turn_scores_are_a_small_part()
        yield from self._the_critic_is_asked()
        yield from self._sampling_is_not_truncated()
        yield from self._servers_can_be_sent_the_weights()
        yield from self._placeholders_have_a_meaning()
        yield from self._secrets_are_not_written_here()

    def _reward_model_is_the_grader(self) -> Iterator[Problem]:
        wanted = self.workflow.reward_model
        if self.grading is not None and wanted is not None and wanted != self.grading.name:
            hint = did_you_mean(wanted, [self.grading.name]) or f"; allowed: '{self.grading.name}'"
            yield Problem(("workflow", "reward_model"), f"no grader is named '{wanted}' under grading{hint}")

    def _graders_expect_tools_that_exist(self) -> Iterator[Problem]:
        if self.tools is None or self.tools.mcp:  # what a server offers is known when it is asked
            return
        known = [each.name for each in self.tools.endpoints]
        known += [each.function.rpartition(":")[2] for each in self.tools.python]
        for path, grader in self.grading.declared if self.grading else ():
            for place, name in grader.tools if isinstance(grader, ToolUseConfig) else ():
                if name not in known:
                    hint = did_you_mean(name, known) or f"; allowed: {', '.join(known)}"
                    yield Problem(("grading", *path, *place), f"no tool is named '{name}'{hint}")

    def _what_is_charged_for_has_a_price(self) -> Iterator[Problem]:
        has_prices = self.rollout.prices != type(self.rollout.prices)()
        for path, grader in self.grading.declared if self.grading else ():
            if isinstance(grader, EfficiencyConfig) and "cost_usd" in grader.bands and not has_prices:
                found = "found a budget, but no rollout.prices: without them no episode is graded"
                yield Problem(("grading", *path, "cost_usd"), f"{found}; set at least one of them, or delete the line")

    def _the_critic_is_asked(self) -> Iterator[Problem]:
        critic, advantage = self.policy.critic, self.ppo.advantage
        if critic != "detached" and not self.ppo.has_critic:
            why = f"ppo.advantage: {advantage} compares siblings and asks no critic"
            yield Problem(("policy", "critic"), f"found {critic}; allowed: detached (the default), as {why}")

    def _turn_scores_are_a_small_part(self) -> Iterator[Problem]:
        scores = self.ppo.process_rewards.turn_scores if self.ppo.process_rewards else ()
        if not scores or self.grading is None:
            return
        path: PathParts = ("ppo", "process_rewards", "turn_scores")
        weight, limit = sum(score.weight for score in scores), MAX_TURN_SCORE_SHARE * self.grading.max_score
        if weight > limit + 1e-9:
            why = f"{MAX_TURN_SCORE_SHARE:.0%} of grading.max_score, as a judge of single turns is easily pleased"
            yield Problem(path, f"found weights that sum to {weight:g}; allowed: at most {limit:g}, {why}")
        for index, score in enumerate(scores):
            if score.function is None and not self.grading.turn_scores:
                repair = "set grading.turn_scores: true, or name a function"
                yield Problem((*path, index), f"'{score.name}' is the grader's, which is not asked for it; {repair}")

    def _sampling_is_not_truncated(self) -> Iterator[Problem]:
        why = (
            "truncated sampling draws from another distribution than the one whose log-probabilities are trained, "
            "which breaks PPO's ratio; to sample less widely lower inference.temperature"
        )
        if self.inference.top_p < 1:
            yield Problem(("inference", "top_p"), f"found {self.inference.top_p:g}; allowed: 1, as {why}")
        if self.inference.top_k is not None:
            yield Problem(("inference", "top_k"), f"found {self.inference.top_k}; allowed: null, as {why}")

    def _servers_can_be_sent_the_weights(self) -> Iterator[Problem]:
        if self.inference.kind != "vllm":
            return
        if self.inference.weights == "lora" and self.policy.lora is None:
            yield Problem(
                ("policy", "lora"),
                "found none; inference.kind: vllm is sent the policy as an adapter: write `lora: {}` for the defaults, "
                "or set inference.weights: full",
            )
        if self.inference.weights == "full" and self.policy.lora is not None:
            yield Problem(
                ("inference", "weights"), "found full; allowed: lora, as policy.lora trains nothing but an adapter"
            )

    def _placeholders_have_a_meaning(self) -> Iterator[Problem]:
        served = self.tools.serve if self.tools else ()
        for where, grader in self.grading.endpoints if self.grading else ():
            if SERVE in grader.url and not served:
                yield Problem(("grading", *where, "url"), served_by_nobody(("tools",)))
        if self.data is None or self.data.path is None:
            for server, serve in enumerate(served):
                for index, word in enumerate(serve.command):
                    if "{data.path}" in word:
                        path: PathParts = ("tools", "serve", server, "command", index)
                        yield Problem(path, "found {data.path}, but data.path is not set; set it or write the path out")

    def _secrets_are_not_written_here(self) -> Iterator[Problem]:
        # run directories keep the resolved config: a secret in it would be copied to wherever runs are shared
        endpoints = self.tools.endpoints if self.tools else ()
        for index, endpoint in enumerate(endpoints):
            yield from _written_secrets(endpoint.headers, ("tools", "endpoints", index, "headers"))
        for index, server in enumerate(self.tools.mcp if self.tools else ()):
            yield from _written_secrets(server.headers, ("tools", "mcp", index, "headers"))
            yield from _written_secrets(server.env, ("tools", "mcp", index, "env"))
        if self.tools and self.tools.lifecycle:
            yield from _written_secrets(self.tools.lifecycle.headers, ("tools", "lifecycle", "headers"))
        for path, grader in self.grading.endpoints if self.grading else ():
            yield from _written_secrets(grader.headers, ("grading", *path, "headers"))
        yield from _written_secrets(self.inference.headers, ("inference", "headers"))
        if self.tracking and self.tracking.opentelemetry:
            path = ("tracking", "opentelemetry", "headers")
            yield from _written_secrets(self.tracking.opentelemetry.headers, path)


def _written_secrets(values: Mapping[str, str], section: PathParts) -> Iterator[Problem]:
    for name, value in values.items():
        if SECRET_HEADER.search(name) and "${" not in value:
            prefix = "Bearer " if name.lower() == "authorization" else ""
            text = "a secret is written out (not shown); allowed: the name of its environment variable, "
            yield Problem((*section, name), f'{text}for example "{prefix}${{MY_TOKEN}}"')


@dataclass(frozen=True)
class TrainingSections:
    """The sections that may be missing in a file that loads, but not in one that trains."""

    data: DataConfig
    tools: ToolsConfig
    grading: GradingConfig


def missing_for_training(config: RunConfig) -> tuple[str, ...]:
    """Names of the sections that `agentrl train` still needs."""
    return tuple(name for name in MINIMAL_EXAMPLES if getattr(config, name) is None)


def training_sections(config: RunConfig) -> TrainingSections:
    """The sections that training needs.

    Raises:
        ConfigError: some are missing; the message shows the shortest ones that would do.
    """
    if config.data is not None and config.tools is not None and config.grading is not None:
        return TrainingSections(config.data, config.tools, config.grading)
    missing = missing_for_training(config)
    which = " and ".join(missing) if len(missing) < 3 else "data, tools and grading"
    examples = "\n".join(MINIMAL_EXAMPLES[name] for name in missing)
    raise ConfigError(f"to train, the config still needs {which}; the shortest form:\n\n{examples}\n")
