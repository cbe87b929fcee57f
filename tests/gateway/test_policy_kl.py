"""The KL of live sessions: the right number, of a share of them, at no user's cost, and none where it fails."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import torch

from agentrl.config import GatewayConfig, UpstreamConfig
from agentrl.gateway import policy_kl
from agentrl.gateway.policy_kl import PolicyKl, asked_again, is_sampled, k3, sampled_tokens, scored_tokens
from agentrl.gateway.record import record_of
from agentrl.gateway.server import policy_kl_of
from agentrl.gateway.turns import FinishedTurn
from agentrl.gateway.upstream import Upstream
from agentrl.release.evidence import session_evidence
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm
from tests.fake_vllm import FakeVLLM
from tests.gateway.world import Answers, Stub, World, fails, hangs, says, send_whole, until, world
from tests.tiny import tiny_model

POLICY, REFERENCE = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.25, 0.25, 0.25, 0.25])
EXACT = float((POLICY * np.log(POLICY / REFERENCE)).sum())
PROMPT = [7, 8, 9]
TOKENS = 200


def vllm(seed: int = 0, **changes: Any) -> Answers:
    """Chat answers of a policy that draws every token from POLICY, and scores of one that draws from REFERENCE."""
    draw = np.random.default_rng(seed)

    async def answers(stub: Stub, asked: dict[str, Any], send: Any) -> None:
        if asked["path"].endswith("/completions") and not asked["path"].endswith("chat/completions"):
            scores = [None, *({str(t): {"logprob": math.log(REFERENCE[t % 4])}} for t in asked["prompt"][1:])]
            await send_json(send, {"choices": [{"text": "", "prompt_logprobs": changes.get("scores", scores)}]})
        elif asked.get("return_token_ids"):
            tokens = draw.choice(4, TOKENS, p=POLICY).tolist()
            content = [{"token": "x", "logprob": float(np.log(POLICY[token]))} for token in tokens]
            choice = {"message": {}, "token_ids": tokens, "logprobs": {"content": content}}
            await send_json(send, {"prompt_token_ids": PROMPT, "choices": [choice | changes]})
        else:
            await says(stub, asked, send)

    return answers


async def send_json(send: Any, body: Any) -> None:
    await send_whole(send, 200, json.dumps(body).encode())


@asynccontextmanager
async def measuring(place: ReleasePlace, **how: Any) -> AsyncIterator[tuple[World, PolicyKl]]:
    """A canary at 100 % whose sessions are all measured."""
    answers = {"base": how.pop("base", vllm(1)), "candidate": how.pop("candidate", vllm(2))}
    async with world(place, **answers, **({"policy_kl_fraction": 1.0} | how)) as here:
        measured = policy_kl_of(here.gateway)
        assert measured is not None
        measured.start()
        epoch = await here.canary()
        async with asyncio.timeout(10):
            while not here.gateway.served.may_serve_candidate(here.gateway.clock()):
                await here.renew(epoch)  # a lease counts from the second number that a replica sees
        try:
            yield here, measured
        finally:
            await measured.aclose()


async def settled(here: World, measured: PolicyKl) -> None:
    """All finished turns were told, and measured or not."""
    await until(lambda: not len(here.gateway.flights))
    await measured.drained()


def run(test: Any) -> None:
    asyncio.run(test)


def test_the_session_gets_the_kl_of_policy_from_reference_per_token(place: ReleasePlace) -> None:
    async def main() -> None:
        async with measuring(place) as (here, measured):
            for _ in range(3):
                assert await here.says("s1") == "candidate"
            await settled(here, measured)
            row = await here.row("s1")
            assert row["policy_kl_tokens"] == 3 * TOKENS
            assert row["policy_kl"] == pytest.approx(EXACT, abs=0.05)
            assert measured.counts.turns == 3
            assert session_evidence({**row, "status": "closed"}).policy_kl == row["policy_kl"]
            record = record_of(row, here.gateway.config)
            assert record.policy_kl_estimator == "k3"

    run(main())


def test_the_user_sees_none_of_it(place: ReleasePlace) -> None:
    async def main() -> None:
        async with measuring(place) as (here, measured):
            answer = await here.ask(session="s1", temperature=0.2, max_tokens=1000, tools=[])
            await settled(here, measured)
            assert "token_ids" not in answer.text
            first, again = here.candidate.asked
            assert first["temperature"] == 0.2
            assert "return_token_ids" not in first
            assert (again["temperature"], again["top_p"], again["max_tokens"]) == (1.0, 1.0, 256)
            assert again["messages"] == first["messages"]
            (scored,) = [asked for asked in here.base.asked if asked["path"] == "/v1/completions"]
            assert scored["prompt"][:3] == PROMPT
            assert len(scored["prompt"]) == 3 + TOKENS
            assert scored["model"] == "base-model"

    run(main())


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"candidate": says}, "the policy's server tells no ids or log-probabilities of tokens; is it vLLM?"),
        ({"base": hangs, "of_base": {"timeout_seconds": 0.05}}, "base gave no answer (timeout)"),
    ],
    ids=["no vllm", "hangs"],
)
def test_what_goes_wrong_is_counted_and_no_kl_is_not_a_kl_of_zero(
    place: ReleasePlace, how: dict[str, Any], reason: str
) -> None:
    async def main() -> None:
        async with measuring(place, **how) as (here, measured):
            assert await here.says("s1") == "candidate"
            await settled(here, measured)
            assert measured.counts.not_measured == {reason: 1}
            assert (await here.row("s1"))["policy_kl"] is None
            assert here.gateway.status()["policy_kl"]["turns"] == 0

    run(main())


GOOD = {
    "prompt_token_ids": PROMPT,
    "choices": [{"token_ids": [1, 2], "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -0.5}]}}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"token_ids": ["a", "b"]},
        {"token_ids": []},
        {"token_ids": None},
        {"logprobs": {"content": [{"logprob": -1.0}]}},
        {"logprobs": None},
        {"logprobs": {"content": [{"logprob": "x"}, {}]}},
    ],
    ids=["text", "none", "null", "too few", "no scores", "no numbers"],
)
def test_answers_without_whole_tokens_are_not_measured(change: dict[str, Any]) -> None:
    assert sampled_tokens(GOOD) == (PROMPT, [1, 2], [-1.0, -0.5])
    with pytest.raises(policy_kl.NotMeasured):
        sampled_tokens({**GOOD, "choices": [{**GOOD["choices"][0], **change}]})
    with pytest.raises(policy_kl.NotMeasured):
        sampled_tokens({"choices": GOOD["choices"]})


@pytest.mark.parametrize(
    "told", [None, [], [{"1": {"logprob": -1.0}}], [{"9": {"logprob": -1.0}}] * 2, [None, None]], ids=str
)
def test_references_that_do_not_know_the_tokens_are_not_measured(told: Any) -> None:
    good = [None, {"1": {"logprob": -1.0}}, {"2": {"logprob": -2.0, "rank": 3}}]
    assert scored_tokens({"choices": [{"prompt_logprobs": good}]}, [1, 2]) == [-1.0, -2.0]
    with pytest.raises(policy_kl.NotMeasured):
        scored_tokens({"choices": [{"prompt_logprobs": told}]}, [1, 2])


def test_a_server_that_cannot_do_it_is_left_alone_for_a_while(place: ReleasePlace) -> None:
    async def main() -> None:
        async with measuring(place, base=fails(500)) as (here, measured):
            for number in range(12):
                assert await here.says(f"s{number}") == "candidate"
                await settled(here, measured)
            assert sum(measured.counts.not_measured.values()) == policy_kl.FAILURES_IN_A_ROW

    run(main())


def test_a_full_queue_drops_and_counts(place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_kl, "QUEUE", 1)
    monkeypatch.setattr(policy_kl, "WORKERS", 0)

    async def main() -> None:
        async with measuring(place) as (here, measured):
            for number in range(4):
                assert await here.says(f"s{number}") == "candidate"
            await until(lambda: not len(here.gateway.flights))
            assert measured.counts.dropped == 3

    run(main())


def test_the_baselines_sessions_are_not_measured_against_themselves(place: ReleasePlace) -> None:
    async def main() -> None:
        async with measuring(place) as (here, measured):
            await here.withdraw()
            assert await here.says("s9") == "base"
            await settled(here, measured)
            assert measured.counts.as_dict() == PolicyKl({}, here.gateway.config, place.store).counts.as_dict()

    run(main())


def test_a_share_of_sessions_is_measured_whole_and_the_same_everywhere() -> None:
    chosen = [is_sampled("r1", f"s{number}", 0.2) for number in range(5000)]
    assert 0.18 < np.mean(chosen) < 0.22
    assert chosen == [is_sampled("r1", f"s{number}", 0.2) for number in range(5000)]
    assert not any(is_sampled("r1", f"s{number}", 0.0) for number in range(100))
    assert all(is_sampled("r1", f"s{number}", 1.0) for number in range(100))


def test_k3_is_never_negative_and_comes_to_the_exact_kl() -> None:
    tokens = np.random.default_rng(3).choice(4, 200_000, p=POLICY)
    found = k3(np.log(POLICY)[tokens].tolist(), np.log(REFERENCE)[tokens].tolist())
    assert found.nats / found.tokens == pytest.approx(EXACT, rel=0.01)
    assert k3([-1.0, -2.0], [-1.0, -2.0]).nats == 0
    assert k3([-50.0], [0.0]).nats < math.inf
    for token in range(4):
        assert k3([float(np.log(POLICY[token]))], [float(np.log(REFERENCE[token]))]).nats >= 0
    with pytest.raises(policy_kl.NotMeasured):
        k3([math.nan], [-1.0])


@pytest.mark.parametrize("wanted", [None, 0, "many", 10_000])
def test_what_is_measured_is_of_bounded_length(wanted: Any) -> None:
    assert asked_again({"messages": [], "max_tokens": wanted}, "m")["max_tokens"] == policy_kl.MAX_TOKENS
    assert asked_again({"messages": [], "max_completion_tokens": 12}, "m")["max_tokens"] == 12


def test_two_servers_with_real_weights_are_as_far_apart_as_their_logits(place: ReleasePlace) -> None:
    policy, other = FakeVLLM(tiny_model(0)), FakeVLLM(tiny_model(1))
    turn = finished_turn("What does the invoice of March come to?")

    async def main() -> None:
        upstreams = {
            name: Upstream(name, UpstreamConfig(url=f"{server.url}/v1", model="tiny"))
            for name, server in (("policy", policy), ("same", policy), ("other", other))
        }
        config = GatewayConfig(upstreams={name: each.config for name, each in upstreams.items()}, general="same")
        measured = PolicyKl(upstreams, config, place.store)
        same = await measured._measure(turn, "same")
        assert same.tokens == 40
        assert abs(same.nats) < 1e-9
        apart = await measured._measure(turn, "other")
        body = next(body for path, body in other.log if path == "/v1/completions")
        ids = torch.tensor([body["prompt"]])
        rows = [torch.log_softmax(server.base(ids).logits[0, -41:-1], -1) for server in (policy, other)]
        own, reference = (row.gather(1, ids[0, -40:, None])[:, 0].tolist() for row in rows)
        assert apart.nats == pytest.approx(k3(own, reference).nats, rel=1e-4)
        assert apart.nats / 40 > 0.1
        for upstream in upstreams.values():
            await upstream.aclose()

    try:
        run(main())
    finally:
        policy.stop()
        other.stop()


def finished_turn(question: str) -> FinishedTurn:
    """Of a candidate in canary."""
    return FinishedTurn(
        workflow="support",
        session_id="s1",
        client="",
        cluster="s1",
        intent="",
        arm=Arm.CANDIDATE,
        is_forced=False,
        release_id="r1",
        routing=None,
        upstream="policy",
        is_fallback=False,
        path="chat/completions",
        request={"messages": [{"role": "user", "content": question}], "max_tokens": 40},
        reply={"role": "assistant", "content": "..."},
        finish_reason="stop",
        usage=None,
        at=0.0,
        seconds=1.0,
    )
