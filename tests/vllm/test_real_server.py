"""Against a real vLLM server, which these tests start; skipped, with the reason, where there is none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import pytest
import torch

from agentrl.config import RunConfig
from agentrl.errors import ConfigError, TrainingStopped
from agentrl.inference.probe import disproof
from agentrl.inference.vllm import VLLMEngine
from agentrl.inference.vllm_server import VLLMServer
from agentrl.inference.vllm_weights import Link, Publication, Publisher
from agentrl.policy.checkpoint import publish_weights
from agentrl.policy.lora import adapter_tensors
from agentrl.policy.policy import Policy, load_policy
from agentrl.training import train
from tests.toy_run import metrics, toy_run
from tests.vllm.server import NO_SERVER, PROCESSED, PYTHON, URL, Server, save_baseline

needs_python = pytest.mark.skipif(not PYTHON, reason=NO_SERVER)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (PYTHON or URL), reason=NO_SERVER)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Server | None]]:
    """A server that reports processed log-probabilities: its URL, its baseline, and its process if it is ours."""
    if URL:
        (base, *_) = httpx.get(f"{URL}/v1/models", trust_env=False).json()["data"]
        yield URL, Path(base["root"]), None
        return
    folder = tmp_path_factory.mktemp("vllm")
    server = Server(save_baseline(folder / "untied"), folder / "server.log", *PROCESSED).wait()
    yield server.url, server.model, server
    server.kill()


@pytest.fixture(scope="module")
def tied(untied: tuple[str, Path, Server | None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a tied model that reports raw log-probabilities; the other one is stopped for it."""
    if untied[2] is not None:
        untied[2].kill()  # one at a time: each takes 3 GB
    folder = tmp_path_factory.mktemp("vllm")
    server = Server(save_baseline(folder / "tied", is_tied=True), folder / "server.log").wait()
    yield server
    server.kill()


def make_config(url: str, baseline: Path, *, is_full: bool = False, **inference: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "workflow": {"target": "t", "baseline": str(baseline)},
            "policy": {"device": "cpu", "lora": None if is_full else {"rank": 8}},
            "rollout": {"max_context_tokens": 600},
            "inference": {
                "kind": "vllm", "url": url, "temperature": 0.7, "weights": "full" if is_full else "lora", **inference,
            },
        }
    )  # fmt: skip


def move(policy: Policy, by: float = 0.1) -> None:
    """What an update does: other weights, the next version."""
    draw = torch.Generator().manual_seed(policy.version)
    with torch.no_grad():
        tensors = adapter_tensors(policy.model) or dict(policy.model.named_parameters())
        for name, tensor in tensors.items():
            if tensor.ndim > 1 and ".lora_A." not in name:
                tensor += by * torch.randn(tensor.shape, generator=draw)
    policy.version += 1


def run(config: RunConfig, policy: Policy, work: Callable[[VLLMEngine], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        engine = VLLMEngine.from_config(config, policy)
        try:
            async with asyncio.timeout(400):
                return await work(engine)
        finally:
            await engine.aclose()

    return asyncio.run(main())


async def differences(engine: VLLMEngine, policy: Policy, turns: int = 3) -> list[float]:
    """Of every log-probability, engine against trainer, in episodes of several turns at once."""

    async def episode(n: int) -> list[float]:
        context, found = [10 + n] * (20 + n), []
        for turn in range(turns):
            sample = await engine.generate(context, session=f"{policy.version}-{n}", seed=100 * n + turn, max_tokens=40)
            assert sample.policy_version == policy.version
            whole = [*context, *sample.token_ids]
            (own,) = policy.score(whole, len(context), [policy.temperature])
            found += [abs(a - b) for a, b in zip(own, sample.logprobs, strict=True)]
            context = [*whole, 30, 31, 32]  # what a tool answered
        await engine.end_session(f"{policy.version}-{n}")
        return found

    return [each for found in await asyncio.gather(*map(episode, range(8))) for each in found]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_equal_the_trainers_after_every_update(
    untied: tuple[str, Path, Server | None], temperature: float
) -> None:
    config = make_config(*untied[:2], temperature=temperature)
    policy = load_policy(config)

    async def work(engine: VLLMEngine) -> None:
        for version in range(4):
            if version:
                move(policy)
                await engine.sync(policy)
            found = await differences(engine, policy)
            print(
                f"T={temperature} version {version}: {len(found)} tokens, mean {fmean(found):.2g}, max {max(found):.2g}"
            )
            assert max(found) < 1e-4

    run(config, policy, work)


def test_a_run_trains_with_mismatches_inside_their_limits(
    untied: tuple[str, Path, Server | None], tmp_path: Path
) -> None:
    inference = {"kind": "vllm", "url": untied[0], "adapter_dir": str(tmp_path / "adapters")}
    config = toy_run(tmp_path, untied[1], inference={"temperature": 0.9, **inference})
    result = train(config, run_dir=tmp_path / "run")
    assert result.stopped_by is None
    rows = metrics(tmp_path / "run")
    for row in rows:
        shown = {name: value for name, value in row.items() if name.startswith(("mismatch", "reward", "kl_per_t"))}
        print(row["step"], {name: f"{value:.3g}" for name, value in shown.items() if value is not None})
        assert row["mismatch_abs_prob_mean"] < 0.005 / 100  # float32 on both sides
        assert row["mismatch_abs_logprob_max"] < 1e-4
        assert row["mismatch_ess"] > 0.999
        assert row["infra_failed_fraction"] == 0
    assert len(rows) == 4
    assert rows[-1]["reward_train"] > rows[0]["reward_train"] + 0.1
    assert rows[-1]["kl_per_token"] > 0
    assert list((tmp_path / "adapters").iterdir()) == []  # taken off the server and deleted at the end


def publication(name: str, path: Path) -> Publication:
    return Publication(name, path, 0)


def test_the_probe_finds_a_prefix_cache_that_outlived_an_adapter(
    untied: tuple[str, Path, Server | None], tmp_path: Path
) -> None:
    """What agentrl never does: other weights at the path of the ones before, and the cache kept."""
    config = make_config(*untied[:2])
    policy = load_policy(config)

    async def why(publisher: Publisher, link: Link, sent: Publication) -> str:
        return disproof(await publisher.read(link, sent), None, tolerance=1e-3, is_full=False)

    async def work() -> None:
        server = VLLMServer(untied[0], {}, timeout_seconds=60, max_concurrency=8)
        link, publisher = Link(server), Publisher(config, policy)
        sent = publication(f"same-{tmp_path.name}", tmp_path / "same")
        move(policy)
        publish_weights(policy, sent.path)
        await server.load_adapter(sent.name, sent.path)
        assert await why(publisher, link, sent) == ""

        move(policy)
        shutil.rmtree(sent.path)
        publish_weights(policy, sent.path)
        body = {"lora_name": sent.name, "lora_path": str(sent.path), "load_inplace": True}
        httpx.post(f"{untied[0]}/v1/load_lora_adapter", json=body, trust_env=False).raise_for_status()
        assert "its prefix cache has outlived an update" in await why(publisher, link, sent)
        assert await server.reset_prefix_cache()
        assert await why(publisher, link, sent) == ""

        await server.unload_adapter(sent.name)
        await server.aclose()

    asyncio.run(work())


def test_all_weights_of_an_untied_model_are_replaced(untied: tuple[str, Path, Server | None], tmp_path: Path) -> None:
    config = make_config(*untied[:2], is_full=True, adapter_dir=str(tmp_path))
    policy = load_policy(config)
    baseline = {name: parameter.detach().clone() for name, parameter in policy.model.named_parameters()}

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        for _ in range(2):
            move(policy, by=0.02)
            await engine.sync(policy)
            assert max(await differences(engine, policy)) < 1e-4
        with torch.no_grad():  # as it was found
            for name, parameter in policy.model.named_parameters():
                parameter.copy_(baseline[name])
        policy.version += 1
        await engine.sync(policy)

    run(config, policy, work)


def test_a_cancelled_generation_ends_at_the_server(untied: tuple[str, Path, Server | None]) -> None:
    config = make_config(*untied[:2])
    policy = load_policy(config)
    policy.chat.stop_ids = ()  # it would go on to the end of the context

    def figure(name: str) -> float:
        lines = httpx.get(f"{untied[0]}/metrics", trust_env=False).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))

    async def work(engine: VLLMEngine) -> None:
        await engine.sync(policy)
        before = await asyncio.to_thread(figure, "generation_tokens_total")
        turns = [
            asyncio.create_task(engine.generate([9] * 20, session=f"{n}", seed=n, max_tokens=550)) for n in range(16)
        ]
        await asyncio.sleep(0.3)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        while await asyncio.to_thread(figure, "num_requests_running"):
            await asyncio.sleep(0.02)
        assert all(turn.cancelled() for turn in turns)
        assert await asyncio.to_thread(figure, "generation_tokens_total") - before < 16 * 550 / 2

    run(config, policy, work)


@needs_python
def test_a_crashed_server_is_sent_the_adapter_again_and_the_episodes_go_on(
    untied: tuple[str, Path, Server | None],
) -> None:
    url, baseline, server = untied
    assert server is not None
    config = make_config(url, baseline)
    policy = load_policy(config)

    async def work(engine: VLLMEngine) -> None:
        move(policy)
        await engine.sync(policy)
        episodes = asyncio.create_task(differences(engine, policy, turns=12))
        await asyncio.sleep(0.3)
        server.kill()
        assert not episodes.done()
        server.start()
        found = await episodes
        assert max(found) < 1e-4
        assert engine.restarts == 1

    run(config, policy, work)


# The tied model and raw log-probabilities: the last tests, as they stop the server of the others


@needs_python
def test_raw_log_probabilities_are_refused(tied: Server) -> None:
    async def sample(engine: VLLMEngine) -> None:
        await engine.generate([5, 6, 7], session="s", seed=0, max_tokens=4)

    config = make_config(tied.url, tied.model, temperature=0.7)
    with pytest.raises(ConfigError, match="start it with --logprobs-mode processed_logprobs"):
        run(config, load_policy(config), sample)


@needs_python
def test_the_probe_finds_a_tied_model_whose_output_layer_was_not_reloaded(tied: Server, tmp_path: Path) -> None:
    config = make_config(tied.url, tied.model, is_full=True, temperature=1.0, adapter_dir=str(tmp_path))
    policy = load_policy(config)
    with pytest.raises(ConfigError, match="embeddings are tied"):
        VLLMEngine.from_config(config, policy)

    async def work() -> None:
        link = Link(VLLMServer(tied.url, {}, timeout_seconds=60, max_concurrency=8))
        publisher = Publisher(config, policy)
        await publisher.send(link, await publisher.write(policy))
        move(policy, by=0.02)
        with pytest.raises(TrainingStopped, match="with tied embeddings vLLM's CPU backend"):
            await publisher.send(link, await publisher.write(policy))
        await link.server.aclose()

    asyncio.run(work())
