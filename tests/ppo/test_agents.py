"""PPO on episodes with tools, from rollouts to weights: does it learn what it should, and not what it should not?

The policies are tiny; a token calls the tool with the number `token % n_tools`, so that a fresh policy tries them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentrl.config import PPOConfig, TokenPenaltyConfig, ToolEfficiencyConfig
from agentrl.policy.policy import Policy
from agentrl.rollout.process_rewards import Signal
from agentrl.rollout.trajectory import to_trajectories
from agentrl.types import Grade, Rollout, StopReason, Task, ToolCall, ToolResult, Trajectory, Turn
from tests.tiny import VOCABULARY, make_trainer, tiny_policy

PROMPT = (1, 2)
FREE = PPOConfig(token_penalty=TokenPenaltyConfig(per_1000_tokens=0.0))
Step = Callable[[Rollout, int], tuple[Sequence[int], float | None]]
"""(the episode so far, the tool that is called) -> what the policy reads next, and the score where that is the end."""
Change = Callable[[list[Trajectory]], list[Trajectory]]


def roll_out(policy: Policy, step: Step, *, n: int, n_tools: int, seed: int) -> list[Rollout]:
    """`n` episodes side by side; those that go on have contexts of one length."""
    draw = torch.Generator().manual_seed(seed)
    done: list[Rollout] = []
    alive = [
        Rollout(f"r{i}", Task("t", ()), i, i, PROMPT, (), StopReason.FINAL, "", 0.0, Grade(None)) for i in range(n)
    ]
    while alive:
        contexts = [_context(rollout) for rollout in alive]
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor(contexts)).logits[:, -1]
        logprobs = torch.log_softmax(logits, -1)
        tokens = torch.multinomial(logprobs.exp(), 1, generator=draw)
        going_on = []
        for rollout, token, logprob in zip(
            alive, tokens.squeeze(-1).tolist(), logprobs.gather(-1, tokens).squeeze(-1).tolist(), strict=True
        ):
            tool = token % n_tools
            read, score = step(rollout, tool)
            is_call = bool(read)
            calls = (ToolCall("c", str(tool), "{}"),) if is_call else ()
            results = (ToolResult("c", str(tool), "", 0.0),) if is_call else ()
            turn = Turn((token,), (logprob,), "", calls, results, tuple(read), policy.version, 0.0)
            rollout = replace(rollout, turns=(*rollout.turns, turn))
            if score is None:
                going_on.append(rollout)
            else:
                done.append(replace(rollout, grade=Grade(score)))
        alive = going_on
    return done


def _context(rollout: Rollout) -> list[int]:
    return [*rollout.prompt_ids, *(i for turn in rollout.turns for i in (*turn.token_ids, *turn.observation_ids))]


def learn(
    step: Step,
    *,
    n_tools: int,
    steps: int,
    n: int = 128,
    seed: int = 0,
    change: Change = list,
    rewards: PPOConfig = FREE,
    signals: Sequence[Signal] = (),
    **config: Any,
) -> list[Rollout]:
    """Train a fresh policy; the rollouts of the trained one."""
    policy = tiny_policy(seed, initializer_range=0.05)
    torch.nn.init.zeros_(policy.value_head.out.weight)
    settings = {"learning_rate": 3e-3, "value_learning_rate": 1e-2, "minibatches": 4, "kl": {"coef": 0.0}, **config}
    trainer = make_trainer(policy, seed=seed, **settings)
    for number in range(steps):
        rollouts = roll_out(policy, step, n=n, n_tools=n_tools, seed=1000 * seed + number)
        trainer.update(change(to_trajectories(rollouts, rewards, signals)))
    return roll_out(policy, step, n=256, n_tools=n_tools, seed=999_999)


def success(rollouts: Sequence[Rollout]) -> float:
    return sum(rollout.grade.score or 0.0 for rollout in rollouts) / len(rollouts)


def calls(rollouts: Sequence[Rollout]) -> float:
    return sum(len(rollout.tool_calls) for rollout in rollouts) / len(rollouts)


class Corridor:
    """Doors in a row, each opened by one of the tools; a wrong one ends the episode, the last one is worth 1.

    What a tool answers says where the policy stands, among `noise` tokens that mean nothing.
    """

    doors = (0, 1, 1, 0, 1)

    def __init__(self, noise: int = 0) -> None:
        self.noise = noise
        self.draw = torch.Generator().manual_seed(0)

    def __call__(self, rollout: Rollout, tool: int) -> tuple[Sequence[int], float | None]:
        at = len(rollout.turns)
        read = [*torch.randint(70, 100, (self.noise,), generator=self.draw).tolist(), 50 + at]
        if tool != self.doors[at]:
            return read, 0.0
        return read, 1.0 if at + 1 == len(self.doors) else None


def test_a_chain_of_tools_is_learned_from_the_reward_at_its_end() -> None:
    assert success(learn(Corridor(noise=6), n_tools=2, steps=30)) > 0.95


def learned_on_tool_output(trajectories: list[Trajectory]) -> list[Trajectory]:
    """As if what tools answered had been sampled by the policy, at about the probability that it gives it.

    (At the 0 that stands there, the weight against a mismatch of engine and trainer would all but mask it again.)
    """
    chance = -math.log(VOCABULARY)
    return [
        replace(
            each,
            engine_logprobs=tuple(
                logprob if is_action else chance
                for logprob, is_action in zip(each.engine_logprobs, each.action_mask, strict=True)
            ),
            action_mask=tuple(position >= len(PROMPT) for position in range(len(each.token_ids))),
            turn_ids=tuple(-1 if position < len(PROMPT) else 0 for position in range(len(each.token_ids))),
            policy_versions=(max(each.policy_versions),) * len(each.token_ids),
        )
        for each in trajectories
    ]


def reset_at_tool_output(trajectories: list[Trajectory]) -> list[Trajectory]:
    """As if returns began anew wherever a tool answered: each turn by itself, the reward in the last one's alone."""
    pieces = []
    for each in trajectories:
        last = max(each.turn_ids)
        for turn in range(last + 1):
            end = max(i for i, found in enumerate(each.turn_ids) if found == turn) + 1
            mask = tuple(found == turn for found in each.turn_ids[:end])
            piece = replace(each, token_ids=each.token_ids[:end], action_mask=mask, turn_rewards=(), state_keys=())
            piece = replace(piece, turn_ids=tuple(0 if is_action else -1 for is_action in mask))
            piece = replace(piece, reward=each.reward if turn == last else 0.0)
            pieces.append(
                replace(piece, engine_logprobs=each.engine_logprobs[:end], policy_versions=each.policy_versions[:end])
            )
    return pieces


@pytest.mark.slow
@pytest.mark.parametrize("bug", [learned_on_tool_output, pytest.param(reset_at_tool_output, marks=pytest.mark.long)])
def test_a_trainer_that_misreads_tool_output_does_not_learn_the_chain(bug: Change) -> None:
    assert success(learn(Corridor(noise=6), n_tools=2, steps=30, change=bug)) < 0.5


def test_of_two_tools_the_right_one_is_chosen() -> None:
    def bandit(_rollout: Rollout, tool: int) -> tuple[Sequence[int], float | None]:
        return (50,), float(tool == 1)

    assert success(learn(bandit, n_tools=2, steps=15, n=64)) > 0.95


def neutral(rollout: Rollout, tool: int) -> tuple[Sequence[int], float | None]:
    """Tool 0 is the answer, always right; tool 1 can be called up to three times before and changes nothing."""
    if tool == 0:
        return (), 1.0
    return (50,), 1.0 if len(rollout.turns) == 2 else None


def test_a_useless_tool_is_called_less_only_where_calls_cost_something() -> None:
    priced = FREE.model_copy(update={"tool_efficiency": ToolEfficiencyConfig()})
    assert calls(learn(neutral, n_tools=2, steps=15, n=64, rewards=priced)) < 0.15
    assert calls(learn(neutral, n_tools=2, steps=15, n=64)) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_potential_teaches_sooner_where_advantages_look_one_step_ahead(seed: int) -> None:
    doors_passed = Signal("doors", 1.0, True, lambda rollout: len(rollout.turns) / len(Corridor.doors), "")

    def after_12_steps(*signals: Signal) -> float:
        return success(learn(Corridor(6), n_tools=2, steps=12, seed=seed, gae_lambda=0.0, signals=signals))

    assert after_12_steps(doors_passed) > after_12_steps() + 0.2
