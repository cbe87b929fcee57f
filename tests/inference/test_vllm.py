from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.config import LoRAConfig, PolicyConfig, RunConfig
from agentrl.errors import ConfigError, EngineError, TrainingStopped
from agentrl.inference import vllm
from agentrl.inference.build import build_engine
from agentrl.inference.in_process import InProcessEngine
from agentrl.inference.vllm import VLLMEngine
from agentrl.policy.lora import adapter_tensors
from agentrl.policy.policy import Policy
from agentrl.types import Sample
from tests.fake_vllm import FakeVLLM
from tests.tiny import tiny_model, tiny_policy

PROMPT = [5, 6, 7, 8]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(vllm, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(vllm, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def fakes() -> Iterator[Callable[..., FakeVLLM]]:
    started: list[FakeVLLM] = []

    def start(**options: Any) -> FakeVLLM:
        started.append(FakeVLLM(tiny_model(tie_word_embeddings=False), **options))
        return started[-1]

    yield start
    for fake in started:
        fake.stop()


@pytest.fixture
def fake(fakes: Callable[..., FakeVLLM]) -> FakeVLLM:
    return fakes()


def make_policy(*, temperature: float = 0.7, is_full: bool = False) -> Policy:
    config = PolicyConfig(value_hidden_size=16, lora=None if is_full else LoRAConfig(rank=4, alpha=8.0))
    return tiny_policy(temperature=temperature, config=config, tie_word_embeddings=False)


def make_config(folder: Path, *servers: FakeVLLM, **inference: Any) -> RunConfig:
    is_full = inference.get("weights") == "full"
    sections: dict[str, Any] = {
        "workflow": {"target": "t", "baseline": "b"},
        "policy": {} if is_full else {"lora": {"rank": 4}},
        "rollout": {"max_context_tokens": 200, "max_turn_tokens": 100},
        "inference": {
            "kind": "vllm",
            "url": [server.url for server in servers],
            "temperature": 0.7,
            "adapter_dir": str(folder),
            **inference,
        },
    }
    return RunConfig.model_validate(sections)


def move(policy: Policy, by: float = 0.3) -> Policy:
    """What an update does: other weights, the next version."""
    with torch.no_grad():
        tensors = adapter_tensors(policy.model) or dict(policy.model.named_parameters())
        for name, tensor in tensors.items():
            if tensor.ndim > 1 and ".lora_A." not in name:
                tensor += by * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(policy.version))
    policy.version += 1
    return policy


def run(config: RunConfig, policy: Policy, work: Callable[[VLLMEngine], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        engine = VLLMEngine.from_config(config, policy)
        try:
            async with asyncio.timeout(60):
                return await work(engine)
        finally:
            await engine.aclose()

    return asyncio.run(main())


async def draw(engine: VLLMEngine, session: str = "s", *, prompt: list[int] | None = None, tokens: int = 12) -> Sample:
    return await engine.generate(prompt or PROMPT, session=session, seed=3, max_tokens=tokens)


def off(policy: Policy, sample: Sample, prompt: list[int] | None = None) -> float:
    """The largest difference of the sample's log-probabilities from the policy's."""
    ids = prompt or PROMPT
    (own,) = policy.score([*ids, *sample.token_ids], len(ids), [policy.temperature])
    return max(abs(a - b) for a, b in zip(own, sample.logprobs, strict=True))


# Tokens


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_tokens_are_sampled_from_the_policy_and_stamped_with_its_version(
    fake: FakeVLLM, tmp_path: Path, weights: str
) -> None:
    policy = make_policy(is_full=weights == "full")

    async def work(engine: VLLMEngine) -> None:
        for version in range(4):
            if version:
                await engine.sync(move(policy))
            sample = await draw(engine)
            assert off(policy, sample) < 1e-5
            assert sample.policy_version == engine.policy_version == policy.version == version

    run(make_config(tmp_path, fake, weights=weights), policy, work)


def test_a_turn_ends_at_a_stop_token_or_is_truncated(fake: FakeVLLM, tmp_path: Path) -> None:
    policy = make_policy()
    policy.chat.stop_ids = (99, 20, 21, 22, 23, 24, 25, 26, 27, 28)  # likely enough to come soon

    async def work(engine: VLLMEngine) -> None:
        samples = [await engine.generate(PROMPT, session="s", seed=n, max_tokens=20) for n in range(8)]
        for sample in samples:
            assert sample.is_truncated == (sample.token_ids[-1] not in policy.chat.stop_ids)
            assert not set(sample.token_ids[:-1]) & set(policy.chat.stop_ids)
            assert len(sample.token_ids) == 20 or not sample.is_truncated
        assert len({sample.is_truncated for sample in samples}) == 2
        assert samples[0] == await engine.generate(PROMPT, session="t", seed=0, max_tokens=20)

    run(make_config(tmp_path, fake), policy, work)


def test_requests_leave_nothing_to_the_models_generation_config(fake: FakeVLLM, tmp_path: Path) -> None:
    run(make_config(tmp_path, fake), make_policy(), draw)
    body = fake.log[-2][1] if fake.log[-1][0] != "/v1/completions" else fake.log[-1][1]
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, 0, 0.0, 1.0)
    assert (body["stop_token_ids"], body["ignore_eos"]) == ([99], True)
    assert (body["prompt"], body["return_token_ids"], body["logprobs"], body["seed"]) == (PROMPT, True, 0, 3)


def test_a_context_beyond_the_limit_is_an_engine_error(fake: FakeVLLM, tmp_path: Path) -> None:
    async def work(engine: VLLMEngine) -> None:
        with pytest.raises(EngineError, match="200 together"):
            await draw(engine, prompt=[5] * 195)
        with pytest.raises(EngineError, match="at least one"):
            await draw(engine, tokens=0)

    run(make_config(tmp_path, fake), make_policy(), work)


def test_no_more_than_max_batch_requests_are_in_flight(fake: FakeVLLM, tmp_path: Path) -> None:
    async def work(engine: VLLMEngine) -> None:
        await asyncio.gather(*(draw(engine, f"s{n}", tokens=2) for n in range(12)))

    run(make_config(tmp_path, fake, max_batch=3), make_policy(), work)
    assert 1 <= fake.most_running <= 3


def test_a_cancelled_rollout_stops_its_generation_at_the_server(fake: FakeVLLM, tmp_path: Path) -> None:
    async def work(engine: VLLMEngine) -> None:
        await draw(engine)
        fake.faults.append("hang")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await draw(engine)
        async with asyncio.timeout(5):
            while not fake.aborted:
                await asyncio.sleep(0.01)
        assert off(engine._publisher.policy, await draw(engine)) < 1e-5

    run(make_config(tmp_path, fake), make_policy(), work)


def test_headers_come_from_the_environment_and_stay_out_of_messages(
    fake: FakeVLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_KEY", "s3cret-key")
    config = make_config(tmp_path, fake, headers={"Authorization": "Bearer ${VLLM_KEY}"})

    async def work(engine: VLLMEngine) -> None:
        await draw(engine)
        assert fake.headers["Authorization"] == "Bearer s3cret-key"
        fake.faults.append("400")
        with pytest.raises(EngineError, match="told to answer 400") as caught:
            await draw(engine)
        assert "s3cret" not in str(caught.value)

    run(config, make_policy(), work)
    monkeypatch.delenv("VLLM_KEY")
    with pytest.raises(ConfigError, match="VLLM_KEY"):
        VLLMEngine.from_config(config, make_policy())


# Versions


def test_each_version_has_its_own_folder_and_name_and_the_last_two_are_kept(fake: FakeVLLM, tmp_path: Path) -> None:
    policy = make_policy()

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        for _ in range(3):
            await engine.sync(move(policy))
        policy.version = 1  # an earlier step's weights are loaded again, to be measured
        await engine.sync(move(policy))
        assert engine.policy_version == 2
        (folder,) = tmp_path.iterdir()
        assert sorted(path.name for path in folder.iterdir()) == ["policy-000002-5", "policy-000003"]
        assert sorted(fake.adapters) == [f"{folder.name}-policy-000002-5", f"{folder.name}-policy-000003"]
        sent = [body["lora_name"] for path, body in fake.log if path == "/v1/load_lora_adapter"]
        assert len(set(sent)) == len(sent) == 5
        assert fake.paths().count("/reset_prefix_cache") == 5

    run(make_config(tmp_path, fake), policy, work)
    assert (fake.adapters, list(tmp_path.iterdir())) == ({}, [])  # afterwards nothing is left


def test_a_turn_that_is_under_way_during_an_update_is_the_old_versions(fake: FakeVLLM, tmp_path: Path) -> None:
    policy, old = make_policy(), make_policy()

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        fake.faults.append("slow")
        under_way = asyncio.create_task(draw(engine))
        await asyncio.sleep(0.1)
        await engine.sync(move(policy))
        before, after = await under_way, await draw(engine)
        assert (before.policy_version, after.policy_version) == (0, 1)
        assert off(old, before) < 1e-5
        assert off(policy, after) < 1e-5
        assert off(policy, before) > 0.1

    run(make_config(tmp_path, fake), policy, work)


def test_full_weights_are_replaced_while_the_server_is_paused(fake: FakeVLLM, tmp_path: Path) -> None:
    policy = make_policy(is_full=True)

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        admin = [path for path in fake.paths() if path != "/v1/completions"]
        assert admin == [
            "/pause?mode=wait", "/collective_rpc", "/update_weight_version", "/reset_prefix_cache", "/resume",
        ]  # fmt: skip

    run(make_config(tmp_path, fake, weights="full"), policy, work)


def test_a_tied_model_is_not_reloaded(fake: FakeVLLM, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embeddings are tied"):
        VLLMEngine.from_config(make_config(tmp_path, fake, weights="full"), tiny_policy())


# Several servers


def test_an_episode_stays_with_its_server_and_servers_share_the_episodes(
    fakes: Callable[..., FakeVLLM], tmp_path: Path
) -> None:
    servers = [fakes(), fakes()]

    async def work(engine: VLLMEngine) -> None:
        for turn in range(3):
            await asyncio.gather(*(draw(engine, f"s{n}", prompt=[10 + n] * (4 + turn), tokens=2) for n in range(6)))
        seen = [
            {body["prompt"][0] for _, body in server.log if body and len(body.get("prompt", [0] * 100)) < 20}
            for server in servers
        ]
        assert [len(each) for each in seen] == [3, 3]
        assert not seen[0] & seen[1]
        for n in range(6):
            await engine.end_session(f"s{n}")
        assert [len(link.sessions) for link in engine._links] == [0, 0]

    run(make_config(tmp_path, *servers), make_policy(), work)


def test_a_dead_servers_episodes_move_and_it_is_taken_back_with_the_newest_weights(
    fakes: Callable[..., FakeVLLM], tmp_path: Path
) -> None:
    servers, policy = [fakes(), fakes()], make_policy()

    async def work(engine: VLLMEngine) -> None:
        names = [f"s{n}" for n in range(4)]
        await asyncio.gather(*(draw(engine, name) for name in names))
        servers[0].stop()
        samples = await asyncio.gather(*(draw(engine, name) for name in names))
        assert all(off(policy, sample) < 1e-5 for sample in samples)
        assert engine.moved_sessions == 2
        await engine.sync(move(policy))  # one server is enough
        assert (await draw(engine, "s0")).policy_version == 1
        servers[0].start()
        async with asyncio.timeout(20):
            while not engine._links[0].holds:
                await asyncio.sleep(0.05)
        sample = await draw(engine, "new")  # the server with fewer sessions
        assert servers[0].log[-1][1]["prompt"] == PROMPT
        assert sample.policy_version == 1
        assert off(policy, sample) < 1e-5

    run(make_config(tmp_path, *servers), policy, work)


# Restarts and retries


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_after_a_restart_the_weights_are_sent_again_and_the_turn_goes_on(
    fake: FakeVLLM, tmp_path: Path, weights: str
) -> None:
    policy = make_policy(is_full=weights == "full")

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(move(policy))
        fake.stop()
        turn = asyncio.create_task(draw(engine))
        await asyncio.sleep(0.3)
        fake.start()
        sample = await turn
        assert off(policy, sample) < 1e-5
        assert sample.policy_version == 1
        assert engine.restarts == 1

    run(make_config(tmp_path, fake, weights=weights), policy, work)


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_a_restart_that_nobody_saw_is_noticed_by_the_next_turn(fake: FakeVLLM, tmp_path: Path, weights: str) -> None:
    policy = make_policy(is_full=weights == "full")

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(move(policy))
        fake.stop()
        fake.start()
        sample = await draw(engine)
        assert off(policy, sample) < 1e-5
        assert (sample.policy_version, engine.restarts) == (1, 1)

    run(make_config(tmp_path, fake, weights=weights), policy, work)


def test_a_restart_between_loading_and_probing_is_a_restart_like_any_other(
    fake: FakeVLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, complete, probes = make_policy(), fake._complete, []

    def forgetful(body: dict[str, Any]) -> tuple[int, Any]:
        probes.append(body)
        if len(probes) == 4:  # the second request of the second probe
            fake.adapters.clear()
        return complete(body)

    monkeypatch.setattr(fake, "_complete", forgetful)

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        await engine.sync(move(policy))
        assert off(policy, await draw(engine)) < 1e-5
        assert engine.restarts == 1

    run(make_config(tmp_path, fake), policy, work)


@pytest.mark.parametrize("fault", ["500", "reset", "abort"])
def test_a_passing_fault_is_tried_again_without_sending_the_weights(fake: FakeVLLM, tmp_path: Path, fault: str) -> None:
    policy = make_policy()

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        fake.faults += [fault, fault]
        assert off(policy, await draw(engine)) < 1e-5
        assert (engine.retried, engine.restarts) == (2, 0)
        fake.faults += [fault] * 4
        with pytest.raises(EngineError, match="4 attempts") as caught:
            await draw(engine, "another")
        assert caught.value.rollout_id == "another"
        assert off(policy, await draw(engine)) < 1e-5

    run(make_config(tmp_path, fake), policy, work)


def test_a_server_that_stays_away_is_an_engine_error_and_may_still_come_back(fake: FakeVLLM, tmp_path: Path) -> None:
    policy = make_policy()

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        fake.stop()
        for _ in range(2):
            with pytest.raises(EngineError, match=r"has been away for 0\.2 s"):
                await draw(engine)
        fake.start()
        assert off(policy, await draw(engine)) < 1e-5

    run(make_config(tmp_path, fake, restart_seconds=0.2), policy, work)


def test_an_update_that_reaches_no_server_stops_the_run_and_at_the_start_is_an_engine_error(
    fake: FakeVLLM, tmp_path: Path
) -> None:
    policy = make_policy()

    async def work(engine: VLLMEngine) -> None:
        fake.stop()
        with pytest.raises(EngineError, match="is the server running"):
            await engine.sync(policy)
        fake.start()
        await engine.sync(policy)
        fake.stop()
        with pytest.raises(TrainingStopped, match="has been away") as caught:
            await engine.sync(move(policy))
        assert caught.value.rule == "engine"

    run(make_config(tmp_path, fake, restart_seconds=0.2), policy, work)


def test_a_generation_without_end_is_an_engine_error(fake: FakeVLLM, tmp_path: Path) -> None:
    async def work(engine: VLLMEngine) -> None:
        await draw(engine)
        fake.faults.append("hang")
        with pytest.raises(EngineError, match="did not answer within 2 s"):
            await draw(engine)
        while not fake.aborted:
            await asyncio.sleep(0.01)

    run(make_config(tmp_path, fake, timeout_seconds=2.0, retries=0), make_policy(), work)


def test_among_mixed_faults_and_updates_every_turn_is_right_or_an_engine_error(
    fakes: Callable[..., FakeVLLM], tmp_path: Path
) -> None:
    servers, policy, chance = [fakes(), fakes()], make_policy(), random.Random(4)
    faults = ["500", "reset", "abort", *[""] * 8]

    async def episode(engine: VLLMEngine, session: str) -> list[float | None]:
        context, found = list(PROMPT), []
        for _ in range(3):
            try:
                sample = await draw(engine, session, prompt=context, tokens=4)
            except EngineError:
                found.append(None)
                continue
            assert sample.policy_version == policy.version
            found.append(off(policy, sample, context))
            context += [*sample.token_ids, 30, 31]
        await engine.end_session(session)
        return found

    async def work(engine: VLLMEngine) -> None:
        for version in range(3):
            for server in servers:
                server.faults.clear()
            await engine.sync(move(policy) if version else policy)
            for server in servers:
                server.faults += chance.choices(faults, k=60)
            if version:
                restarted = servers[version % 2]
                restarted.stop()
                restarted.start()
            turns = [off for each in await asyncio.gather(*(episode(engine, f"{version}-{n}") for n in range(10)))
                     for off in each]  # fmt: skip
            assert len(turns) == 30
            assert all(each is None or each < 1e-5 for each in turns)
            assert sum(each is None for each in turns) < 3  # seven faults one after the other
        assert engine.retried > 5
        assert engine.moved_sessions > 0
        assert not any(link.sessions for link in engine._links)

    run(make_config(tmp_path, *servers, retries=6), policy, work)


# Proof


def refusal(config: RunConfig, policy: Policy, *, after: Callable[[], None]) -> str:
    """What the engine says of the update after `after()`, and goes on saying."""

    async def work(engine: VLLMEngine) -> str:
        await engine.sync(policy)
        after()
        with pytest.raises(TrainingStopped) as caught:
            await engine.sync(move(policy))
        assert caught.value.rule == "engine_probe"
        with pytest.raises(TrainingStopped):
            await draw(engine)  # nothing is sampled from the wrong weights
        return str(caught.value)

    return str(run(config, policy, work))


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_an_update_without_effect_stops_the_run(fake: FakeVLLM, tmp_path: Path, weights: str) -> None:
    policy = make_policy(is_full=weights == "full")
    message = refusal(
        make_config(tmp_path, fake, weights=weights), policy, after=lambda: setattr(fake, "is_deaf", True)
    )
    assert "policy-000001: the update had no effect" in message


def test_a_prefix_cache_that_outlives_an_update_stops_the_run(fake: FakeVLLM, tmp_path: Path) -> None:
    message = refusal(make_config(tmp_path, fake), make_policy(), after=lambda: setattr(fake, "is_stale", True))
    assert "its prefix cache has outlived an update" in message


def test_a_small_step_without_effect_is_found_though_it_is_within_the_tolerance(fake: FakeVLLM, tmp_path: Path) -> None:
    policy = make_policy()

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        await engine.sync(move(policy, by=1e-4))
        fake.is_deaf = True
        with pytest.raises(TrainingStopped, match="no effect"):
            await engine.sync(move(policy, by=1e-4))

    run(make_config(tmp_path, fake, probe_tolerance=0.5), policy, work)


def first_refusal(config: RunConfig, policy: Policy | None = None) -> str:
    async def work(engine: VLLMEngine) -> str:
        with pytest.raises(ConfigError) as caught:
            await draw(engine)
        assert not list(Path(str(config.inference.adapter_dir)).rglob("*.safetensors"))
        return str(caught.value)

    return str(run(config, policy or make_policy(), work))


def test_log_probabilities_before_temperature_are_refused_at_the_start(fake: FakeVLLM, tmp_path: Path) -> None:
    fake.is_raw = True
    assert "start it with --logprobs-mode processed_logprobs" in first_refusal(make_config(tmp_path, fake))
    plain = make_policy(temperature=1.0)  # where both are the same
    assert run(make_config(tmp_path, fake, temperature=1.0), plain, draw).policy_version == 0


def test_a_server_of_another_model_is_refused_at_the_start(fake: FakeVLLM, tmp_path: Path) -> None:
    other = tiny_policy(9, config=PolicyConfig(lora=LoRAConfig(rank=4)), temperature=0.7, tie_word_embeddings=False)
    assert "is its --model the workflow.baseline" in first_refusal(make_config(tmp_path, fake), other)


@pytest.mark.parametrize(
    ("route", "remedy"),
    [
        ("/v1/load_lora_adapter", "--enable-lora and the environment variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        ("/reset_prefix_cache", "VLLM_SERVER_DEV_MODE=1"),
    ],
)
def test_a_server_without_a_route_is_refused_with_the_flag_that_it_needs(
    fake: FakeVLLM, tmp_path: Path, route: str, remedy: str
) -> None:
    fake.missing.add(route)
    message = first_refusal(make_config(tmp_path, fake))
    assert f"has no route {route}" in message
    assert remedy in message


def test_a_server_that_cannot_serve_the_config_says_why(
    fakes: Callable[..., FakeVLLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "start it with --max-model-len 200" in first_refusal(make_config(tmp_path, fakes(max_model_len=128)))
    message = first_refusal(make_config(tmp_path, fakes(), model="large"))
    assert "serves no model 'large'; inference.model may be tiny, or null" in message
    elsewhere = fakes()  # its disk is another
    monkeypatch.setattr(elsewhere, "_load", lambda *_: (404, {"error": {"message": "No adapter found for x"}}))
    assert "inference.adapter_dir must lead to the same folder" in first_refusal(make_config(tmp_path, elsewhere))
    monkeypatch.setattr(locked := fakes(), "_get", lambda _: (401, {"error": "Unauthorized"}))
    assert "check inference.headers" in first_refusal(make_config(tmp_path, locked))


def test_the_kind_of_the_config_picks_the_engine(fake: FakeVLLM, tmp_path: Path) -> None:
    config = make_config(tmp_path, fake)
    assert isinstance(build_engine(config, make_policy()), VLLMEngine)
    here = config.model_copy(update={"inference": config.inference.model_copy(update={"kind": "in_process"})})
    assert isinstance(build_engine(here, make_policy()), InProcessEngine)
