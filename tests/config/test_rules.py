from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agentrl.config import RunConfig, missing_for_training, training_sections
from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.section import BrokenRules, Section
from agentrl.errors import ConfigError

WORKFLOW = {"target": "t", "baseline": "b"}
TOOLS = {"endpoints": [{"name": "search", "server_url": "http://x/search"}]}
GRADING = {"name": "answer", "url": "http://x/grade"}
DATA = {"train": "a.jsonl", "validation": "b.jsonl"}


def load(**sections: Any) -> RunConfig:
    return RunConfig.model_validate({"workflow": WORKFLOW, **sections})


def refusal(**sections: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        load(**sections)
    broken = [detail.get("ctx", {}).get("error") for detail in caught.value.errors()]
    assert all(isinstance(error, BrokenRules) for error in broken)
    return "; ".join(map(str, broken))


def fields(section: type[Section]) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for name, info in section.model_fields.items():
        found.append((f"{section.__name__}.{name}", info.description))
    return found


def test_every_key_has_one_sentence() -> None:
    import agentrl.config as config

    sections = [cls for name in config.__all__ if isinstance(cls := getattr(config, name), type)]
    described = [field for cls in sections if issubclass(cls, Section) for field in fields(cls)]
    assert len(described) > 100
    assert [name for name, text in described if not text or not text.endswith(".")] == []


@pytest.mark.parametrize(("placement", "estimator"), [("reward", "k1"), ("loss", "k2")])
def test_kl_is_allowed_where_its_gradient_is_right(placement: str, estimator: str) -> None:
    assert load(ppo={"kl": {"placement": placement, "estimator": estimator}}).ppo.kl.placement == placement


@pytest.mark.parametrize(
    ("placement", "estimator", "why"),
    [
        ("loss", "k1", "zero on average"),
        ("loss", "k3", "KL(reference || policy)"),
        ("reward", "k2", "something other than the KL"),
        ("reward", "k3", "something other than the KL"),
    ],
)
def test_kl_is_refused_elsewhere_with_the_reason(placement: str, estimator: str, why: str) -> None:
    message = refusal(ppo={"kl": {"placement": placement, "estimator": estimator}})
    assert why in message
    assert f"found {estimator} with placement: {placement}; allowed: {'k2' if placement == 'loss' else 'k1'}" in message


def test_an_adaptive_coefficient_starts_within_its_bounds() -> None:
    assert "allowed: from min_coef (0.0001) to max_coef (1)" in refusal(
        ppo={"kl": {"controller": "adaptive", "coef": 2.0}}
    )
    assert load(ppo={"kl": {"coef": 2.0}}).ppo.kl.coef == 2.0


@pytest.mark.parametrize("inference", [{"top_p": 0.9}, {"top_k": 50}])
def test_truncated_sampling_is_refused_because_it_breaks_the_ratio(inference: dict[str, Any]) -> None:
    assert "breaks PPO's ratio" in refusal(inference=inference)


def test_minibatches_are_at_most_the_rollouts_of_a_step() -> None:
    assert load(ppo={"tasks_per_step": 2, "samples_per_task": 2, "minibatches": 4}).ppo.minibatches == 4
    message = refusal(ppo={"tasks_per_step": 2, "samples_per_task": 2, "minibatches": 5})
    assert "minibatches: found 5; allowed: at most 4, the rollouts of a step" in message


def test_the_reward_model_is_a_grader_that_is_there() -> None:
    workflow = {**WORKFLOW, "reward_model": "answr"}
    message = "workflow.reward_model: no grader is named 'answr' under grading; did you mean 'answer'?"
    assert refusal(workflow=workflow, grading=GRADING) == message
    assert load(workflow=workflow).workflow.reward_model == "answr"  # the short form names a grader of elsewhere


def test_a_grader_expects_tools_that_are_there() -> None:
    use = {"type": "tool_use", "name": "answer", "required": ["search"], "before": [["search", "cta"]]}
    stack = {"type": "multi", "name": "answer", "graders": {"use": use}, "calculate_output": "use"}
    tools = [{"name": name, "server_url": "http://localhost/x"} for name in ("search", "cat")]
    message = "no tool is named 'cta'; did you mean 'cat'?"
    assert refusal(grading=use, tools=tools).endswith(f"grading.grader.before[0][1]: {message}")
    assert refusal(grading=stack, tools=tools).endswith(f"grading.grader.graders.use.before[0][1]: {message}")
    assert load(grading=use, tools={"mcp": [{"name": "m", "url": "http://localhost/mcp"}]}).grading is not None


def test_what_a_grader_charges_for_has_a_price() -> None:
    grading = {"type": "efficiency", "cost_usd": {"free": 0.1, "limit": 1.0}}
    wrong = "grading.grader.cost_usd: found a budget, but no rollout.prices: without them no episode is graded"
    assert refusal(grading=grading).startswith(wrong)
    load(grading=grading, rollout={"prices": {"usd_per_tool_call": 0.01}})
    unweighed = {**grading, "tokens": {"free": 1, "limit": 2}, "weights": {"cost_usd": 0.0}}
    load(grading=unweighed)


def test_data_come_from_files_or_from_a_loader() -> None:
    assert load(data={"loader": "examples.finqa.task:load", "path": "x"}).data is not None
    for data in (
        {},
        {"train": "a"},
        {"train": "a", "test": "c"},
        {"loader": "a:b"},
        {"path": "x"},
        {**DATA, "loader": "a:b", "path": "x"},
    ):
        assert "allowed: train and validation (JSONL files), or loader and path" in refusal(data=data)


def test_a_turn_fits_into_the_context() -> None:
    assert "a turn is part of the context" in refusal(rollout={"max_turn_tokens": 512, "max_context_tokens": 256})


def test_a_pass_threshold_can_be_reached() -> None:
    assert "nothing ever counts as a success" in refusal(grading={**GRADING, "pass_threshold": 2.0})


def test_serve_placeholders_need_a_server_and_a_meaning() -> None:
    endpoints = [{"name": "search", "server_url": "{serve}/search"}]
    served = {"serve": [{"command": ["{python}", "-m", "server", "{data.path}"]}], "endpoints": endpoints}
    assert "tools.serve starts no server" in refusal(tools={"endpoints": endpoints})
    assert "tools.serve starts no server" in refusal(grading={**GRADING, "url": "{serve}/grade"})
    assert "data.path is not set" in refusal(tools=served, data=DATA)
    assert load(tools=served, data={"loader": "a:b", "path": "x"}, grading={**GRADING, "url": "{serve}/grade"})
    assert "did you mean 'python'?" in refusal(tools={"serve": [{"command": ["{pyton}"]}], "endpoints": endpoints})


def test_tool_names_are_unique() -> None:
    assert "one endpoint a name" in refusal(tools={"endpoints": TOOLS["endpoints"] * 2})


def test_secrets_are_names_of_variables() -> None:
    assert load(grading={**GRADING, "headers": {"Authorization": "Bearer ${TOKEN}", "Accept": "text/plain"}})
    message = refusal(grading={**GRADING, "headers": {"Authorization": "Bearer abcdef"}})
    assert 'for example "Bearer ${MY_TOKEN}"' in message
    assert "abcdef" not in message


@pytest.mark.parametrize("name", BUILT_IN_GATES)
def test_a_bare_gate_name_expands_to_a_full_row(name: str) -> None:
    release = load(release={"gates": [name]}).release
    assert release is not None
    gate = release.gates[0]
    assert gate.name == name
    assert (gate.margin is None) == (gate.compare == "absolute")


def test_a_row_changes_single_keys_of_a_built_in_gate() -> None:
    row = {"name": "cost_per_success_not_worse", "margin": {"relative": 0.1}}
    release = load(release={"gates": [row]}).release
    assert release is not None
    gate = release.gates[0]
    assert (gate.margin and gate.margin.relative, gate.statistic) == (0.1, "ratio_of_sums")


def test_a_gate_of_ones_own_is_a_complete_row() -> None:
    row = {
        "name": "p95_latency_guardrail",
        "metric": "session_seconds",
        "statistic": "quantile:0.95",
        "direction": "lower_is_better",
        "margin": {"relative": 0.3},
        "test": "bootstrap",
    }
    assert load(release={"gates": [row]})
    assert "unknown gate 'p95_latency_guardrail'" in refusal(release={"gates": [{"name": "p95_latency_guardrail"}]})


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("latency_lt_15", "unknown gate 'latency_lt_15'; did you mean 'latency_delta_lt_15_percent'?"),
        ("zzz", "unknown gate 'zzz'; allowed: no_safety_regression, "),
        (3, "found 3; allowed: the name of a gate"),
        ({"name": "task_success_not_worse", "margin": None}, "a gate against the baseline needs {relative: ...}"),
        ({"name": "task_success_not_worse", "margin": {}}, "exactly one of relative and absolute"),
        ({"name": "task_success_not_worse", "limit": 3.0}, "allowed: margin alone"),
        ({"name": "rollback_under_5_minutes", "limit": None}, "a gate with compare: absolute needs its bound"),
        ({"name": "rollback_under_5_minutes", "margin": {"absolute": 1.0}}, "allowed: limit alone"),
        ({"name": "no_safety_regression", "statistic": "mean"}, "found 'mean' with test: newcombe; allowed: rate"),
        ({"name": "task_success_not_worse", "statistic": "median"}, "did you mean 'mean'?"),
        ({"name": "task_success_not_worse", "test": "threshold"}, "a comparison needs a bound"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(gate: Any, message: str) -> None:
    assert message in refusal(release={"gates": [gate]})


def test_gates_and_metrics_stand_once() -> None:
    assert "a second time" in refusal(release={"gates": ["task_success_not_worse"] * 2})
    assert "a second time" in refusal(monitoring=["latency", "latency"])


def test_training_says_which_sections_it_needs() -> None:
    assert missing_for_training(load()) == ("data", "tools", "grading")
    with pytest.raises(ConfigError, match="still needs data and grading") as caught:
        training_sections(load(tools=TOOLS))
    assert "grading:\n  name: answer_grader" in str(caught.value)
    assert training_sections(load(tools=TOOLS, data=DATA, grading=GRADING)).grading.name == "answer"


def test_the_examples_of_missing_sections_load() -> None:
    import yaml

    from agentrl.config.run import MINIMAL_EXAMPLES

    sections = yaml.safe_load("\n".join(MINIMAL_EXAMPLES.values()))
    assert missing_for_training(load(**sections)) == ()


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().seed = 3  # type: ignore[misc]


LORA, SERVER = {"lora": {}}, {"kind": "vllm", "url": "http://127.0.0.1:8000/"}


def test_a_vllm_server_is_one_address_or_several() -> None:
    assert load(policy=LORA, inference=SERVER).inference.urls == ("http://127.0.0.1:8000",)
    two = {**SERVER, "url": ["http://127.0.0.1:8000", "http://localhost:8001"]}
    assert len(load(policy=LORA, inference=two).inference.urls) == 2
    assert load(inference={**SERVER, "kind": "in_process"}).inference.kind == "in_process"  # `--set` may switch back


@pytest.mark.parametrize(
    ("policy", "inference", "why"),
    [
        (LORA, {"url": None}, "url: found none; kind: vllm needs the address of a server"),
        (LORA, {"url": ["http://localhost:1", "http://localhost:1/"]}, "url[1]: found http://localhost:1 a second"),
        (LORA, {"url": "http://gpu-1:8000"}, "adapter_dir: found none, but http://gpu-1:8000 is another machine"),
        (LORA, {"deterministic": True}, "deterministic: found true; allowed: false with kind: vllm"),
        ({}, {}, "policy.lora: found none; inference.kind: vllm is sent the policy as an adapter: write `lora: {}`"),
        (LORA, {"weights": "full"}, "inference.weights: found full; allowed: lora"),
        (LORA, {"headers": {"Authorization": "Bearer abcdef"}}, "Bearer ${MY_TOKEN}"),
    ],
)
def test_a_vllm_server_can_be_sent_the_weights(policy: dict[str, Any], inference: dict[str, Any], why: str) -> None:
    assert why in refusal(policy=policy, inference={**SERVER, **inference})


def test_a_vllm_server_elsewhere_needs_a_folder_that_both_see() -> None:
    assert load(policy=LORA, inference={**SERVER, "url": "http://gpu-1:8000", "adapter_dir": "/mnt/adapters"})
    assert load(inference={**SERVER, "weights": "full"}).inference.weights == "full"


def process(weights: tuple[float, ...], **score: Any) -> dict[str, Any]:
    scores = [{"name": f"rubric{i}", "weight": weight, **score} for i, weight in enumerate(weights)]
    return {"process_rewards": {"report": "report.json", "turn_scores": scores}}


def test_turn_scores_are_at_most_a_fifth_of_the_best_score() -> None:
    grader = {"name": "g", "url": "http://localhost/g", "turn_scores": True}
    assert load(grading=grader, ppo=process((0.1, 0.1)))
    assert load(grading={**grader, "max_score": 5.0}, ppo=process((1.0,)))
    assert "found weights that sum to 0.3; allowed: at most 0.2, 20% of grading.max_score" in refusal(
        grading=grader, ppo=process((0.2, 0.1))
    )


def test_turn_scores_of_the_grader_must_be_asked_for() -> None:
    grader = {"name": "g", "url": "http://localhost/g"}
    assert "turn_scores[0]: 'rubric0' is the grader's, which is not asked for it; set grading.turn_scores" in refusal(
        grading=grader, ppo=process((0.1,))
    )
    assert load(grading=grader, ppo=process((0.1,), function="my.rubric:read"))


POTENTIALS = {"process_rewards": {"report": "r.json", "potentials": [{"name": "reads", "tool_called": "cat"}]}}


def test_potentials_are_discounted_only_turn_by_turn() -> None:
    assert load(ppo=POTENTIALS)
    assert "gamma: found 0.99 with process_rewards.potentials; allowed: 1, as" in refusal(
        ppo={**POTENTIALS, "gamma": 0.99}
    )
    assert load(ppo={**POTENTIALS, "preset": "turn_gae"}).ppo.gamma < 1


@pytest.mark.parametrize("preset", ["rloo", "grpo", "dr_grpo", "dapo", "gspo"])
def test_potentials_are_refused_where_whole_episodes_are_compared(preset: str) -> None:
    assert "what potentials add to one is the same for all samples of a task" in refusal(
        ppo={**POTENTIALS, "preset": preset}
    )
    assert load(ppo={**POTENTIALS, "preset": "gigpo", "gamma": 1.0})


def test_a_critic_of_its_own_is_refused_where_nobody_asks_it() -> None:
    assert load(policy={"critic": "separate"})
    assert load(policy={"critic": "detached"}, ppo={"preset": "grpo"})
    assert "policy.critic: found separate; allowed: detached (the default), as ppo.advantage: grpo compares" in refusal(
        policy={"critic": "separate"}, ppo={"preset": "grpo"}
    )
