from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from agentrl.chat import ChatFormat
from agentrl.config import RunConfig
from agentrl.errors import ConfigError, EngineError
from agentrl.inference import slots
from agentrl.inference.in_process import InProcessEngine
from agentrl.inference.slots import SlotCache, SlotModel
from tests.engine_fixtures import gpt2, llama, make_tokenizer, qwen3, seeded

STOP = 99
LIMIT = 160

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}


def gemma3(vocab_size: int, **options: Any) -> Any:
    """Layers that see 12 tokens, and one that sees all."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = {**SHAPE, "sliding_window": 12, "layer_types": kinds, "query_pre_attn_scalar": 8, **options}
    return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=vocab_size, tie_word_embeddings=True, **config))


def mistral(vocab_size: int, **options: Any) -> Any:
    """A window over all layers."""
    return MistralForCausalLM(MistralConfig(vocab_size=vocab_size, **{**SHAPE, "sliding_window": 12, **options}))


def windowed_qwen3(vocab_size: int) -> Any:
    return qwen3(vocab_size, use_sliding_window=True, sliding_window=12, max_window_layers=1)


def gpt_oss(vocab_size: int) -> Any:
    """Attention sinks, experts, and a window in every other layer."""
    config = {**SHAPE, "sliding_window": 12, "num_local_experts": 4, "num_experts_per_tok": 2}
    return GptOssForCausalLM(GptOssConfig(vocab_size=vocab_size, attn_implementation="eager", **config))


def bloom(vocab_size: int) -> Any:
    return BloomForCausalLM(BloomConfig(vocab_size=vocab_size, hidden_size=32, n_layer=1, n_head=4))


MAKERS = [qwen3, llama, gpt2, gemma3, mistral, windowed_qwen3, gpt_oss]


@dataclass
class Episode:
    """What one session saw: its context, and per turn (where it began, sampled ids, log-probabilities, seed)."""

    context: list[int]
    turns: list[tuple[int, tuple[int, ...], tuple[float, ...], int]] = field(default_factory=list)
    new_tokens: int = 0


@dataclass
class FakePolicy:
    """What from_config and sync look at."""

    model: Any
    version: int = 0
    chat: Any = None


def make_engine(model: Any, **options: Any) -> InProcessEngine:
    return InProcessEngine(
        model, **{"stop_ids": [STOP], "temperature": 1.0, "max_batch": 8, "max_context_tokens": LIMIT, **options}
    )


def within(work: Coroutine[Any, Any, Any], seconds: float = 20) -> Any:
    """Run it; a lost wake-up shows as a TimeoutError instead of hanging the tests."""
    return asyncio.run(asyncio.wait_for(work, seconds))


async def play(engine: InProcessEngine, number: int, turns: int = 3, max_tokens: int = 9) -> Episode:
    """An episode of its own length, pauses and observations, all drawn from its number."""
    rng = random.Random(number)
    session, episode = f"s{number}", Episode([rng.randrange(99) for _ in range(rng.randrange(3, 40))])
    cached = 0
    try:
        for turn in range(turns):
            seed = 1000 * number + turn
            sample = await engine.generate(episode.context, session=session, seed=seed, max_tokens=max_tokens)
            episode.turns.append((len(episode.context), sample.token_ids, sample.logprobs, seed))
            episode.new_tokens += len(episode.context) - cached
            episode.context += sample.token_ids
            cached = len(episode.context) - 1  # the last token sampled was never an input
            await asyncio.sleep(rng.choice([0, 0, 0.002, 0.01]))  # the tool
            episode.context += [rng.randrange(99) for _ in range(rng.randrange(1, 12))]
    finally:
        await engine.end_session(session)
    return episode


async def play_all(engine: InProcessEngine, numbers: range) -> list[Episode]:
    return list(await asyncio.gather(*(play(engine, number) for number in numbers)))


def check(model: Any, episode: Episode, temperature: float) -> None:
    """One plain forward pass over all ids says the same as the engine did, batched, cached and moved between slots."""
    with torch.no_grad():
        logits = model(torch.tensor([episode.context])).logits[0].double()
    for start, ids, logprobs, seed in episode.turns:
        plain = torch.log_softmax(logits[start - 1 : start - 1 + len(ids)] / temperature, dim=-1)
        chosen = plain[torch.arange(len(ids)), torch.tensor(ids)]
        assert torch.tensor(logprobs).double().sub(chosen).abs().max() < 1e-5 / temperature
        uniform = random.Random(seed)
        cumulative = plain.exp().cumsum(-1)
        for row, token in zip(cumulative, ids, strict=True):
            draw = uniform.random() * float(row[-1])
            assert (float(row[token - 1]) if token else 0.0) - 1e-5 <= draw <= float(row[token]) + 1e-5
        assert len(ids) == 9 or ids[-1] == STOP
        assert STOP not in ids[:-1]


@pytest.mark.parametrize("temperature", [1.0, 0.05], ids=["seeded", "near-greedy"])
@pytest.mark.parametrize("make", MAKERS)
def test_concurrent_episodes_sample_what_each_would_alone(make: Callable[..., Any], temperature: float) -> None:
    model = seeded(make)
    engine = make_engine(model, temperature=temperature, max_batch=5)
    episodes = within(play_all(engine, range(12)))
    has_stopped = any(ids[-1] == STOP for episode in episodes for _, ids, _, _ in episode.turns)
    assert has_stopped or temperature < 1 or make is gpt_oss  # which never draws it here
    for episode in episodes:
        check(model, episode, temperature)


@pytest.mark.parametrize("make", MAKERS)
def test_greedy_turns_equal_generate(make: Callable[..., Any]) -> None:
    model = seeded(make)
    engine = make_engine(model, top_k=1, max_batch=3)
    rng = random.Random(1)
    prompts = [[rng.randrange(99) for _ in range(length)] for length in (1, 5, 30, 17)]

    async def greedy(number: int, prompt: list[int]) -> list[int]:
        sample = await engine.generate(prompt, session=str(number), seed=number, max_tokens=24)
        await engine.end_session(str(number))
        assert set(sample.logprobs) == {0.0}
        return [*prompt, *sample.token_ids]

    async def all_of_them() -> list[list[int]]:
        return list(await asyncio.gather(*(greedy(n, prompt) for n, prompt in enumerate(prompts))))

    for prompt, ids in zip(prompts, within(all_of_them()), strict=True):
        ids_1T = torch.tensor([prompt])
        plain = model.generate(
            ids_1T,
            attention_mask=torch.ones_like(ids_1T),  # else it takes zeros in the prompt for padding
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=STOP,
            pad_token_id=0,
        )
        assert ids == plain[0].tolist()


def test_eager_attention_gives_the_same() -> None:
    """It adds the mask to the scores, where sdpa takes a yes or no."""
    model = seeded(qwen3, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    for episode in within(play_all(make_engine(model), range(4))):
        check(model, episode, 1.0)


def test_only_new_tokens_are_computed() -> None:
    engine = make_engine(seeded(qwen3))
    episodes = within(play_all(engine, range(8)))
    assert engine.prefilled_tokens == sum(episode.new_tokens for episode in episodes)
    assert engine.sampled_tokens == sum(len(ids) for episode in episodes for _, ids, _, _ in episode.turns)


@pytest.mark.parametrize("max_batch", [8, 3])
def test_a_prompt_is_computed_once_for_its_group(max_batch: int) -> None:
    """Also where a sample comes later, when the first one has gone on."""
    model = seeded(qwen3)
    engine = make_engine(model, max_batch=max_batch)
    prompt = [7, 5, 3, 1, 2, 4, 6, 8, 11, 13]

    async def sample(number: int) -> Episode:
        await asyncio.sleep(0.01 * (number % 3))
        episode = Episode(list(prompt))
        for turn in range(3):
            drawn = await engine.generate(episode.context, session=str(number), seed=number, max_tokens=9)
            episode.turns.append((len(episode.context), drawn.token_ids, drawn.logprobs, number))
            episode.context += [*drawn.token_ids, 1 + turn]
        await engine.end_session(str(number))
        return episode

    async def group() -> list[Episode]:
        return list(await asyncio.gather(*(sample(number) for number in range(6))))

    for episode in within(group()):
        for start, ids, logprobs, seed in episode.turns:
            check(model, Episode(episode.context[: start + len(ids)], [(start, ids, logprobs, seed)]), 1.0)
    if max_batch == 8:
        assert engine.shared_tokens == 5 * (len(prompt) - 1)
        assert engine.prefilled_tokens == len(prompt) - 1 + 6 + 6 * 2 * 2  # last tokens of the prompts; later turns


@pytest.mark.parametrize("max_batch", [20, 9])
@pytest.mark.parametrize("make", MAKERS)
def test_attention_to_a_prompt_in_common_says_the_same(
    make: Callable[..., Any], max_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of several sizes and prompt lengths, whose members come, wait and end at their own times."""
    model, rng, shared = seeded(make), random.Random(8), []
    engine = make_engine(model, max_batch=max_batch)
    prompts = [[rng.randrange(99) for _ in range(length)] for length in (68, 71, 80, 66)]
    among = slots._Shared.among

    def counted(decoding: Any, *rest: Any) -> Any:
        found = among(decoding, *rest)
        shared.append(found is not None)
        return found

    monkeypatch.setattr(slots._Shared, "among", counted)
    monkeypatch.setattr(slots, "LEAST_SAVED", 64)

    async def sample(number: int) -> Episode:
        draw = random.Random(number)
        episode = Episode(list(prompts[number % 4 if number < 16 else 0]))
        for turn in range(1 + number % 3):
            await asyncio.sleep(draw.choice([0, 0, 0.005]))
            drawn = await engine.generate(episode.context, session=str(number), seed=10 * number + turn, max_tokens=9)
            episode.turns.append((len(episode.context), drawn.token_ids, drawn.logprobs, 10 * number + turn))
            episode.context += [*drawn.token_ids, *(draw.randrange(99) for _ in range(5))]
        await engine.end_session(str(number))
        return episode

    async def all_of_them() -> list[Episode]:
        return list(await asyncio.gather(*(sample(number) for number in range(20))))

    for episode in within(all_of_them()):
        check(model, episode, 1.0)
    assert sum(shared) > 5
    assert engine._kept == []
    assert engine._prompts == {}


def test_a_prompt_that_its_session_gave_up_is_not_shared() -> None:
    model = seeded(qwen3)
    engine = make_engine(model)

    async def story() -> Episode:
        await engine.generate([1, 2, 3, 4, 5], session="a", seed=1, max_tokens=2)
        await engine.generate([1, 2, 9, 9, 9, 9], session="a", seed=1, max_tokens=2)
        episode = Episode([1, 2, 3, 4, 5])
        sample = await engine.generate(episode.context, session="b", seed=3, max_tokens=9)
        episode.turns.append((5, sample.token_ids, sample.logprobs, 3))
        episode.context += sample.token_ids
        return episode

    check(model, within(story()), 1.0)
    assert engine.shared_tokens == 0


def test_memory_stays_within_its_budget_and_no_session_is_lost() -> None:
    model = seeded(qwen3)
    session_bytes = 2 * 2 * 8 * 2 * 4 * 256  # keys and values, heads, head size, layers, bytes, positions
    engine = make_engine(model, kv_cache_bytes=4 * session_bytes + 1)
    assert engine.max_sessions == 3
    assert len(within(play_all(engine, range(15)))) == 15
    assert sum(t.nbytes for pair in engine._cache.layers for t in pair) <= 3 * session_bytes
    with pytest.raises(ConfigError, match=f"kv_cache_bytes: found 1,000; allowed: at least {session_bytes:,}, "):
        make_engine(model, kv_cache_bytes=1000)


@pytest.mark.parametrize("is_tiled", [True, False])
def test_deterministic_rollouts_are_bit_equal_whatever_the_timing(
    is_tiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeded(qwen3)
    if not is_tiled:
        monkeypatch.setattr(SlotModel, "rows_are_independent", lambda *_, **__: False)
    pauses = random.Random()

    async def play_at_chance(engine: InProcessEngine, number: int) -> list[Any]:
        rng, turns = random.Random(number // 4), []
        context = [rng.randrange(99) for _ in range(rng.randrange(3, 40))]
        for turn in range(4):
            await asyncio.sleep(pauses.choice([0, 0, 0.001, 0.02]))
            drawn = await engine.generate(context, session=str(number), seed=100 * number + turn, max_tokens=12)
            turns += [drawn.token_ids, drawn.logprobs]
            context += [*drawn.token_ids, *(rng.randrange(99) for _ in range(rng.randrange(1, 12)))]
        await engine.end_session(str(number))
        return turns

    async def all_of_them(max_batch: int) -> list[Any]:
        engine = make_engine(model, max_batch=max_batch, deterministic=True)
        assert engine._is_one_by_one is not is_tiled
        order = pauses.sample(range(24), 24)
        played = await asyncio.gather(*(play_at_chance(engine, number) for number in order))
        return [turns for _, turns in sorted(zip(order, played, strict=True))]

    first = within(all_of_them(20))
    assert all(within(all_of_them(max_batch)) == first for max_batch in (20, 20, 7, 33))


def test_a_forward_pass_beside_a_running_one_is_refused() -> None:
    model = seeded(qwen3)
    engine = make_engine(model)
    model.config._attn_implementation = slots.ATTENTION  # as another thread finds it during a pass
    with pytest.raises(RuntimeError, match="generates in another thread"):
        model(torch.tensor([[1, 2, 3]]))
    model.config._attn_implementation = "sdpa"
    check(model, within(play(engine, 1)), 1.0)


def test_rows_that_depend_on_their_neighbours_are_noticed() -> None:
    class Mixed(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.config, self.device, self.dtype = inner, inner.config, inner.device, inner.dtype
            self.get_input_embeddings = inner.get_input_embeddings

        def forward(self, **inputs: Any) -> Any:
            output = self.inner(**inputs)
            output.logits = output.logits + 1e-6 * output.logits.mean()
            return output

    assert not SlotModel(Mixed(seeded(qwen3))).rows_are_independent(20, tile=16, align=256)


def test_rows_of_sleeping_sessions_are_not_computed_for_long() -> None:
    """The first sessions wait for their tools, in the lowest slots; one at the end of the range goes on."""
    model = seeded(qwen3)
    engine = make_engine(model, stop_ids=[-1], max_batch=10)
    rows: list[int] = []
    run = engine._model.run

    def counted(cache: SlotCache, decoding: Sequence[tuple[int, int, int]], *rest: Any, **options: Any) -> torch.Tensor:
        rows.append(decoding[-1][0] + 1 if decoding else 0)
        return run(cache, decoding, *rest, **options)

    async def story() -> None:
        for number in range(10):
            await engine.generate([1, 2, number], session=str(number), seed=1, max_tokens=1)
        engine._model.run = counted  # type: ignore[method-assign]
        episode = Episode([1, 2, 9])
        sample = await engine.generate(episode.context, session="9", seed=5, max_tokens=9)
        other = await engine.generate([1, 2, 0], session="0", seed=5, max_tokens=9)
        for first, drawn in ((9, sample), (0, other)):
            alone = Episode([1, 2, first, *drawn.token_ids], [(3, drawn.token_ids, drawn.logprobs, 5)])
            check(model, alone, 1.0)
        engine._idle_rows = 9  # from the last step of a turn; then somebody reads while nobody decodes
        await engine.generate([1, 2, 5, 6, 7], session="5", seed=1, max_tokens=1)

    within(story())
    assert rows[0] <= 10
    assert rows[1:9] == [1] * 8
    assert sum(rows[9:18]) <= 9 + 10


def test_the_same_seed_draws_the_same_tokens_whatever_the_neighbours() -> None:
    model = seeded(qwen3)
    together = within(play_all(make_engine(model), range(8)))
    alone = [within(play(make_engine(model), number)) for number in range(8)]
    assert [e.context for e in together] == [e.context for e in alone]


def test_a_full_context_window_of_learned_positions_is_used_to_its_end() -> None:
    """Padding of a short neighbour must not run over the last position, nor may the longest context."""
    model = seeded(gpt2)
    engine = make_engine(model, max_context_tokens=160)
    rng = random.Random(0)

    async def long_and_short() -> list[Episode]:
        long = Episode([rng.randrange(99) for _ in range(120)])
        tasks = []
        for session, (head, tail) in enumerate([(120, 35), (3, 140), (150, 4)]):
            episode = long if session == 0 else Episode([rng.randrange(99) for _ in range(head)])
            await engine.generate(episode.context, session=str(session), seed=1, max_tokens=1)
            episode.context += [rng.randrange(99) for _ in range(tail)]
            tasks.append((str(session), episode))

        async def go_on(session: str, episode: Episode) -> Episode:
            room = 160 - len(episode.context)
            sample = await engine.generate(episode.context, session=session, seed=2, max_tokens=min(9, room))
            episode.turns.append((len(episode.context), sample.token_ids, sample.logprobs, 2))
            episode.context += sample.token_ids
            return episode

        return list(await asyncio.gather(*(go_on(*task) for task in tasks)))

    for episode in within(long_and_short()):
        with torch.no_grad():
            plain = torch.log_softmax(model(torch.tensor([episode.context])).logits[0], dim=-1)
        start, ids, logprobs, _ = episode.turns[0]
        chosen = plain[torch.arange(start - 1, start - 1 + len(ids)), torch.tensor(ids)]
        assert torch.tensor(logprobs).sub(chosen).abs().max() < 1e-5


def test_slots_stay_dense_when_sessions_end_early() -> None:
    model = seeded(qwen3)
    engine = make_engine(model, max_batch=4)

    async def uneven() -> list[Episode]:
        return list(await asyncio.gather(*(play(engine, n, turns=1 + n % 4, max_tokens=1 + n % 9) for n in range(20))))

    episodes = within(uneven())
    assert engine._sessions == {}
    for episode in episodes:
        with torch.no_grad():
            plain = torch.log_softmax(model(torch.tensor([episode.context])).logits[0], dim=-1)
        for start, ids, logprobs, _ in episode.turns:
            chosen = plain[torch.arange(start - 1, start - 1 + len(ids)), torch.tensor(ids)]
            assert torch.tensor(logprobs).sub(chosen).abs().max() < 1e-5


def test_more_sessions_than_slots_wait_and_none_is_lost() -> None:
    engine = make_engine(seeded(qwen3), max_batch=2)
    assert len(within(play_all(engine, range(15)))) == 15


def test_a_freed_slot_is_given_on_when_nobody_is_generating() -> None:
    """The one slot is held by a session that waits for its tool: the driver has stopped, the queue has not moved."""
    engine = make_engine(seeded(qwen3), max_batch=1)

    async def story() -> None:
        await engine.generate([1, 2], session="a", seed=1, max_tokens=2)
        waiting = asyncio.create_task(engine.generate([3, 4], session="b", seed=1, max_tokens=2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        held = await engine.generate([1, 2, 5, 6, 7], session="a", seed=1, max_tokens=2)  # a slot is for the whole life
        assert held.token_ids
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await engine.end_session("a")
        assert (await waiting).token_ids
        await engine.end_session("b")

    within(story(), 5)


def test_an_episode_that_waits_for_its_tool_blocks_nobody() -> None:
    engine = make_engine(seeded(qwen3))

    async def story() -> None:
        await engine.generate([1, 2], session="slow", seed=1, max_tokens=2)
        assert len(await play_all(engine, range(5))) == 5  # while `slow` is at its tool
        await engine.end_session("slow")

    within(story(), 5)


class Breaking(torch.nn.Module):
    """A model that fails while `is_broken`."""

    def __init__(self, model: Any, how: str) -> None:
        super().__init__()
        self.inner, self.how, self.is_broken = model, how, False
        self.config, self.device, self.dtype = model.config, model.device, model.dtype

    def forward(self, **inputs: Any) -> Any:
        output = self.inner(**inputs)
        if self.is_broken and self.how == "raises":
            raise RuntimeError("out of memory")
        if self.is_broken:
            output.logits = output.logits * float("nan")
        return output


@pytest.mark.parametrize(("how", "message"), [("raises", "RuntimeError: out of memory"), ("nan", "not finite")])
def test_a_failing_model_is_an_engine_error_for_everyone_and_passes(how: str, message: str) -> None:
    inner = seeded(qwen3)
    model = Breaking(inner, how)
    engine = make_engine(model, max_batch=3)

    async def story() -> None:
        context = [1, 2, 3]
        first = await engine.generate(context, session="kept", seed=1, max_tokens=3)
        context += [*first.token_ids, 4]
        model.is_broken = True
        again = engine.generate(context, session="kept", seed=2, max_tokens=3)
        failed = await asyncio.gather(*(play(engine, n) for n in range(5)), again, return_exceptions=True)
        assert all(isinstance(error, EngineError) and message in str(error) for error in failed)
        assert {error.rollout_id for error in failed} == {"s0", "s1", "s2", "s3", "s4", "kept"}
        model.is_broken = False
        kept = Episode(context)
        sample = await engine.generate(context, session="kept", seed=7, max_tokens=9)
        kept.turns.append((len(context), sample.token_ids, sample.logprobs, 7))
        kept.context = [*context, *sample.token_ids]
        await engine.end_session("kept")
        for episode in [kept, *await play_all(engine, range(5))]:
            check(inner, episode, 1.0)

    within(story())


def test_a_cancelled_generation_frees_its_place() -> None:
    model = seeded(qwen3)
    engine = make_engine(model, max_batch=1, stop_ids=[-1])  # never stops by itself

    async def story() -> None:
        for _ in range(3):
            task = asyncio.create_task(engine.generate([1, 2], session="a", seed=1, max_tokens=150))
            queued = asyncio.create_task(engine.generate([1, 2], session="never", seed=1, max_tokens=150))
            await asyncio.sleep(0.02)
            assert len(engine._sessions) == 1
            queued.cancel()
            task.cancel()
            await asyncio.gather(task, queued, return_exceptions=True)
            await engine.end_session("a")
            await engine.end_session("never")
        sampled = engine.sampled_tokens
        assert (await engine.generate([3], session="b", seed=1, max_tokens=2)).is_truncated
        assert engine.sampled_tokens - sampled <= 4  # the cancelled ones were not finished
        await engine.end_session("b")
        await engine.sync(FakePolicy(model))  # type: ignore[arg-type]
        assert engine._sessions == {}

    within(story())


def test_sessions_that_are_cut_off_anywhere_disturb_nobody() -> None:
    model = seeded(qwen3)
    engine = make_engine(model, max_batch=3)
    rng = random.Random(4)

    async def cut_off(number: int, seconds: float) -> Episode | None:
        try:
            return await asyncio.wait_for(play(engine, number), seconds)
        except TimeoutError:
            return None

    async def story() -> list[Episode | None]:
        limits = [rng.choice([60, rng.uniform(0, 0.3)]) for _ in range(40)]
        return list(await asyncio.gather(*(cut_off(number, limit) for number, limit in enumerate(limits))))

    episodes = within(story())
    assert 5 < sum(episode is None for episode in episodes) < 35
    for episode in episodes:
        if episode is not None:
            check(model, episode, 1.0)


def test_a_session_may_try_again_after_it_was_cut_off() -> None:
    model = seeded(qwen3)
    engine = make_engine(model)

    async def story() -> Episode:
        episode = Episode([5, 6, 7, 8])
        task = asyncio.create_task(engine.generate(episode.context, session="a", seed=3, max_tokens=100))
        await asyncio.sleep(0.01)
        task.cancel()
        other = asyncio.create_task(engine.generate([5, 6, 9], session="a", seed=4, max_tokens=5))
        sample = await engine.generate(episode.context, session="a", seed=3, max_tokens=9)
        await other
        episode.turns.append((4, sample.token_ids, sample.logprobs, 3))
        episode.context += sample.token_ids
        await engine.end_session("a")
        return episode

    check(model, within(story()), 1.0)


def test_weights_change_only_between_sessions() -> None:
    model = seeded(qwen3)
    engine, policy = make_engine(model), FakePolicy(model, version=4)

    async def story() -> None:
        await engine.generate([1, 2], session="a", seed=1, max_tokens=2)
        with pytest.raises(EngineError, match="1 sessions are open"):
            await engine.sync(policy)  # type: ignore[arg-type]
        task = asyncio.create_task(engine.generate([1, 2], session="b", seed=1, max_tokens=100))
        await asyncio.sleep(0.01)
        task.cancel()
        await engine.end_session("b")  # its step is still under way
        await engine.end_session("a")
        await engine.sync(policy)  # type: ignore[arg-type]
        assert (engine.policy_version, engine._sessions, engine._is_idle) == (4, {}, True)
        with pytest.raises(EngineError, match="another policy's weights"):
            await engine.sync(FakePolicy(seeded(llama)))  # type: ignore[arg-type]

    within(story())


def test_with_weights_of_its_own_it_samples_from_those_of_the_last_sync() -> None:
    """Meanwhile the model runs and learns, in another thread."""
    model = seeded(qwen3)
    alone, engine, policy = make_engine(seeded(qwen3)), make_engine(model, own_weights=True), FakePolicy(model, 1)

    def learn() -> None:
        for _ in range(5):
            model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False).logits.square().mean().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad

    def turns(episodes: list[Episode]) -> list[Any]:
        return [turn[1] for episode in episodes for turn in episode.turns]

    async def story() -> None:
        before = turns(await play_all(alone, range(6)))
        beside, _ = await asyncio.gather(play_all(engine, range(6)), asyncio.to_thread(learn))
        assert turns(beside) == before
        await engine.sync(policy)  # type: ignore[arg-type]
        after = turns(await play_all(engine, range(6)))
        assert after != before
        assert after == turns(await play_all(make_engine(model), range(6)))
        assert engine.policy_version == 1

    within(story())


def test_an_engine_outlives_its_event_loop() -> None:
    """A script may call asyncio.run for each step, and Ctrl-C may end one of them anywhere."""
    model = seeded(qwen3)
    engine = make_engine(model, max_batch=3)

    async def cut_short() -> None:
        tasks = [asyncio.create_task(play(engine, n, max_tokens=40)) for n in range(8)]
        await asyncio.sleep(0.03)
        assert not all(task.done() for task in tasks)

    for _ in range(3):
        within(cut_short())
    for episode in within(play_all(engine, range(8))):
        check(model, episode, 1.0)


@pytest.mark.parametrize(("ids", "max_tokens"), [([], 1), ([1], 0), ([1] * 100, 61)])
def test_what_cannot_be_generated_is_an_engine_error(ids: list[int], max_tokens: int) -> None:
    engine = make_engine(seeded(qwen3))
    with pytest.raises(EngineError, match=f"context of {len(ids)} tokens and {max_tokens} to generate"):
        within(engine.generate(ids, session="a", seed=1, max_tokens=max_tokens))


def run_config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate({"workflow": {"target": "t", "baseline": "b"}, **sections})


@pytest.mark.parametrize(
    ("make", "options", "sections", "message"),
    [
        (gpt2, {}, {"rollout": {"max_context_tokens": 512}}, "at most 160, the baseline's max_position_embeddings"),
        (qwen3, {}, {}, "rollout.max_context_tokens: found 2048; allowed: at most 512"),
        (qwen3, {"layer_types": ["full_attention", "linear_attention"]}, {}, "qwen3 has layers of linear_attention;"),
        (bloom, {}, {}, "bloom computes its attention by itself; in_process runs models with pluggable attention"),
    ],
)
def test_models_that_it_would_run_wrongly_are_refused(
    make: Callable[..., Any], options: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    policy = FakePolicy(make(102, **options), chat=ChatFormat(make_tokenizer()))
    with pytest.raises(ConfigError, match=message):
        InProcessEngine.from_config(run_config(**sections), policy)  # type: ignore[arg-type]


def test_an_engine_is_what_the_config_says() -> None:
    policy = FakePolicy(qwen3(102), chat=ChatFormat(make_tokenizer()))
    engine = InProcessEngine.from_config(
        run_config(rollout={"max_context_tokens": 512}, inference={"max_batch": 7, "temperature": 0.5}),
        policy,  # type: ignore[arg-type]
    )
    assert (engine.max_sessions, engine._sampling.temperature, engine._max_context_tokens) == (7, 0.5, 512)
