"""Ablation on tasks whose answer is known: the turn that holds it is needed, others are not, noise is not counted."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl.chat import BUDGET_SPENT
from agentrl.errors import ConfigError
from agentrl.evaluation.ablation import Ablation
from agentrl.evaluation.ablation.cuts import REMOVED, Cut, Part, cuts_of
from agentrl.evaluation.ablation.figures import MARGIN, Group, groups
from agentrl.evaluation.ablation.trials import Trial, choose, episodes, run_trials
from agentrl.inference.scripted import ScriptedEngine
from agentrl.types import Grade, Rollout, Sample, StopReason, ToolCall
from tests.chat.families import make_chat
from tests.engine_fixtures import FakeGrader, FakeTool
from tests.factories import make_task
from tests.rollout.test_engine import CHAT, call, make_engine, text, write

NOTHING = "I cannot tell"


class Seeded(ScriptedEngine):
    """A script that also draws: `say(context, random numbers of this turn)`."""

    def __init__(self, say: Callable[[str, random.Random], str]) -> None:
        super().__init__(lambda *_: ())
        self._say = say

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        turn = write(self._say(text(token_ids), random.Random(seed)))
        self._script = lambda *_: turn
        return await super().generate(token_ids, session=session, seed=seed, max_tokens=max_tokens)


def answer_of(call: ToolCall) -> str:
    return "the answer is 42" if call.name == "read" else "no news"


def reader(context: str, _: random.Random) -> str:
    """Looks at the news, reads the page, thinks of a number, checks, and answers what it has read and thought of."""
    turns = context.count("<|im_start|>assistant") - 1
    if turns < 3:
        return ["so: " + call("news"), call("read"), "The number is 7. " + call("check")][turns]
    return "42" if "42" in context and "number is 7" in context else NOTHING


def ablated(
    say: Callable[[str, random.Random], str],
    *,
    items: int = 12,
    turns: int = 4,
    samples: int = 2,
    score: Callable[[Rollout], float | None] = lambda rollout: float(rollout.answer.strip() == "42"),
    tools: Sequence[FakeTool] = (),
    **limits: Any,
) -> tuple[list[Trial], list[Rollout]]:
    """The trials, and what was recorded."""

    class Scoring(FakeGrader):
        async def grade(self, rollout: Rollout) -> Grade:
            found = score(rollout)
            return Grade(found) if found is not None else Grade(None, "the grader was gone")

    given = tools or [FakeTool(name, answer_of) for name in ("news", "read", "check")]
    engine = make_engine(lambda *_: (), *given, grader=Scoring(), **{"max_context_tokens": 4000, **limits})
    engine.inference = Seeded(say)

    async def work() -> tuple[list[Trial], list[Rollout]]:
        recorded = await engine.run([make_task(f"t{n}") for n in range(items)])
        cuts = choose(recorded, lambda each: cuts_of(each, CHAT, None), items=items, turns=turns, seed=1)
        return await run_trials(engine, cuts, samples=samples, seed=1), recorded

    return asyncio.run(work())


def named(trials: Sequence[Trial]) -> dict[tuple[str, str], Group]:
    return {(group.part.value, group.name): group for group in groups(trials, 1.0)}


# What is found


def test_the_observation_that_holds_the_answer_is_needed_and_the_others_are_useless() -> None:
    found = named(ablated(reader)[0])
    verdicts = {name: found["observation", name].verdict for name in ("news", "read", "check")}
    assert verdicts == {"news": "useless", "read": "needed", "check": "useless"}
    assert found["observation", "read"].changes["reward"].change == -1
    assert found["observation", "turn 2"].verdict == "needed"
    assert found["observation", "news"].changes["reward"].interval == (0, 0)


def test_a_thought_that_the_answer_rests_on_is_needed_and_one_that_it_does_not_is_useless() -> None:
    found = named(ablated(reader)[0])
    assert found["thought", "check"].verdict == "needed"
    assert found["thought", "news"].verdict == "useless"
    assert ("thought", "read") not in found  # nothing was said before that call


def test_an_observation_that_misleads_is_harmful() -> None:
    def trusting(context: str, _: random.Random) -> str:
        if "assistant\n<tool_call>" not in context:
            return call("news")
        return NOTHING if "no news" in context else "42"

    assert named(ablated(trusting)[0])["observation", "news"].verdict == "harmful"


def test_what_is_lost_can_be_fetched_again_and_then_costs_calls() -> None:
    def stubborn(context: str, _: random.Random) -> str:
        return "42" if "is 42" in context else call("read")

    found = named(ablated(stubborn)[0])["observation", "read"]
    assert found.verdict == "useless"
    assert found.changes["tool_calls"].change == 1


def test_sampling_noise_is_not_counted_as_the_turns_worth() -> None:
    def lucky(context: str, draw: random.Random) -> str:
        """Recorded episodes that were lucky would look as if every turn were needed."""
        return call("news") if "assistant\n<tool_call>" not in context else "42" if draw.random() < 0.5 else NOTHING

    trials, recorded = ablated(lucky, items=60, samples=8)
    found = named(trials)["observation", "news"]
    assert 0.2 < sum(each.grade.score or 0 for each in recorded) / 60 < 0.8
    assert found.changes["reward"].control == pytest.approx(0.5, abs=0.1)
    assert found.changes["reward"].change == 0  # both arms draw the same numbers
    only_lucky = [trial for trial in trials if trial.cut.rollout.grade.score == 1]
    assert named(only_lucky)["observation", "news"].changes["reward"].control == pytest.approx(0.5, abs=0.15)


def test_where_the_arms_draw_otherwise_the_interval_holds_zero_as_often_as_it_says() -> None:
    def pair(score: float, turn: Cut) -> Rollout:
        return replace(turn.rollout, grade=Grade(score))

    [cut] = cuts_of(whole(call("news"), "42"), CHAT, None)
    draw, held = random.Random(3), 0
    for _ in range(60):
        trials = []
        for item in range(25):
            of_item = replace(cut, rollout=replace(cut.rollout, task=make_task(f"t{item}")))
            arms = [tuple(pair(float(draw.random() < 0.6), of_item) for _ in range(4)) for _ in range(2)]
            trials.append(Trial(of_item, Part.OBSERVATION, *arms))
        interval = groups(trials, 1.0)[0].changes["reward"].interval
        assert interval is not None
        held += interval.low <= 0 <= interval.high
    assert held >= 51  # 57 are expected


# What is run


def whole(*turns: str, **limits: Any) -> Rollout:
    tools = [FakeTool(name, answer_of) for name in ("news", "read", "check")]
    script = iter(turns)
    engine = make_engine(lambda *_: write(next(script)), *tools, max_context_tokens=4000, **limits)
    [rollout] = asyncio.run(engine.run([make_task()]))
    return rollout


def test_all_before_the_turn_is_kept_token_by_token_and_the_turn_itself_but_for_the_part() -> None:
    trials, _ = ablated(reader, items=2)
    for trial in trials:
        cut = trial.cut
        for rollout in (*trial.controls, *trial.ablated):
            assert rollout.prompt_ids == cut.rollout.prompt_ids
            assert rollout.turns[: cut.index] == cut.rollout.turns[: cut.index]
        for control in trial.controls:
            assert control.turns[cut.index] == cut.turn
        for rollout in trial.ablated:
            turn = rollout.turns[cut.index]
            assert turn.tool_calls == cut.turn.tool_calls
            if trial.part is Part.OBSERVATION:
                assert (turn.token_ids, turn.text) == (cut.turn.token_ids, cut.turn.text)
                assert [each.output for each in turn.tool_results] == [REMOVED] * len(turn.tool_results)
                assert text(turn.observation_ids) == text(cut.turn.observation_ids).replace(
                    cut.turn.tool_results[0].output, REMOVED
                )
            else:
                assert (turn.observation_ids, turn.tool_results) == (cut.turn.observation_ids, cut.turn.tool_results)
                assert cut.turn.token_ids[-len(turn.token_ids) :] == turn.token_ids
                assert turn.text == cut.turn.text[cut.turn.text.index("<tool_call>") :]


def test_every_new_episode_has_an_id_of_its_own_and_pairs_share_their_seed() -> None:
    trials, recorded = ablated(reader, items=3)
    new = {each.id for trial in trials for each in (*trial.controls, *trial.ablated)}
    assert not new & {each.id for each in recorded}
    assert len(new) == episodes(list({id(trial.controls): trial.cut for trial in trials}.values()), 2)
    for trial in trials:
        assert [each.seed for each in trial.controls] == [each.seed for each in trial.ablated]
        assert len({each.seed for each in trial.controls}) == 2


def test_what_the_environment_said_stays() -> None:
    rollout = whole(call("news") + "<tool_call>oops</tool_call>", call("read"), "42", max_tool_calls=2)
    [cut] = cuts_of(rollout, CHAT, None)[:1]
    shown = text(cut.without[Part.OBSERVATION].observation_ids)
    assert REMOVED in shown
    assert "no news" not in shown
    assert "Not a valid tool call." in shown
    assert BUDGET_SPENT in shown


def test_a_turn_that_nothing_follows_or_that_only_the_environment_answered_is_not_cut() -> None:
    rollout = whole("<tool_call>oops</tool_call>", call("news"), call("read"), max_turns=3)
    assert rollout.stop_reason is StopReason.TURN_LIMIT
    assert [cut.index for cut in cuts_of(rollout, CHAT, None)] == [1]


def test_calls_of_the_beginning_count_against_the_budget_of_both_arms() -> None:
    def greedy(_: str, __: random.Random) -> str:
        return call("news")

    trials, _ = ablated(greedy, items=1, max_tool_calls=3, turns=9)
    assert {trial.cut.index for trial in trials} == {0, 1, 2}
    for trial in trials:
        for rollout in (*trial.controls, *trial.ablated):
            assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.TOOL_BUDGET, 4)


def test_turns_are_chosen_whatever_their_episode_earned_and_no_more_than_asked_for() -> None:
    def split(context: str, draw: random.Random) -> str:
        return call("news") if context.count("assistant\n") < 4 else "42" if draw.random() < 0.5 else NOTHING

    trials, recorded = ablated(split, items=30, turns=2, samples=1)
    chosen = [trial.cut for trial in trials]
    assert len(chosen) == 60
    assert all(sum(cut.rollout.task.id == each.task.id for cut in chosen) == 2 for each in recorded)
    assert {cut.rollout.grade.score for cut in chosen} == {0.0, 1.0}
    assert {cut.index for cut in chosen} == {0, 1, 2}


# What has no vote


def test_pairs_with_an_ungraded_episode_are_left_out_and_counted() -> None:
    seen: list[str] = []

    def fails_at_times(rollout: Rollout) -> float | None:
        seen.append(rollout.id)
        return None if len(seen) > 12 and len(seen) % 5 == 0 else float(rollout.answer.strip() == "42")

    trials, _ = ablated(reader, score=fails_at_times)
    lost = sum(len(trial.ablated) - len(trial.pairs) for trial in trials)
    assert lost > 0
    result = of(trials)
    assert result.n_lost == lost
    assert f"{lost} pairs left out" in result.to_text()
    assert named(trials)["observation", "read"].changes["reward"].change == -1
    assert sum(group.n_pairs for group in result.groups if group.by == "all") == 2 * len(trials) - lost


def test_ungraded_episodes_are_not_gone_on_from() -> None:
    trials, recorded = ablated(reader, score=lambda rollout: None if rollout.task.id == "t3" else 1.0)
    assert "t3" in {each.task.id for each in recorded}
    assert "t3" not in {trial.cut.rollout.task.id for trial in trials}


def test_few_items_decide_nothing() -> None:
    found = named(ablated(reader, items=9)[0])
    assert {group.verdict for group in found.values()} == {"unclear"}
    assert found["observation", "read"].changes["reward"].change == -1


def test_one_item_has_no_interval() -> None:
    [group] = [each for each in groups(ablated(reader, items=1)[0], 1.0) if each.name == "read"]
    assert (group.changes["reward"].interval, group.verdict) == (None, "unclear")


def test_a_wide_interval_around_zero_is_not_called_useless() -> None:
    def coin(context: str, draw: random.Random) -> str:
        if "assistant\n<tool_call>" not in context:
            return call("news")
        return "42" if (draw.random() < 0.5) == ("no news" in context) else NOTHING

    found = named(ablated(coin, samples=1, items=20)[0])["observation", "news"]
    interval = found.changes["reward"].interval
    assert interval is not None
    assert interval.low < -MARGIN < 0 < interval.high
    assert found.verdict == "unclear"


def test_rollouts_of_another_chat_format_are_refused() -> None:
    with pytest.raises(ConfigError, match="turn 1: its tool outputs are other tokens"):
        cuts_of(whole(call("news"), "42"), make_chat("hermes"), None)


# How it is told


def of(trials: Sequence[Trial], **changed: Any) -> Ablation:
    whole = Ablation(
        name="toy",
        recorded="runs/toy@best",
        policy={"kind": "checkpoint", "name": "runs/toy@best"},
        samples=2,
        seed=1,
        replays=False,
        pass_threshold=1.0,
        trials=tuple(trials),
    )
    return replace(whole, **changed)


def test_text_and_json_say_the_same(tmp_path: Path) -> None:
    result = of(ablated(reader)[0])
    page = result.write(tmp_path / "out")
    assert page.name == "ablation.html"
    record = json.loads((tmp_path / "out" / "ablation.json").read_text())
    [read] = [each for each in record["groups"] if (each["part"], each["name"]) == ("observation", "read")]
    assert (read["verdict"], read["changes"]["reward"]["change"]) == ("needed", -1.0)
    line = next(line for line in result.to_text().splitlines() if line.strip().startswith("of read"))
    assert line.split()[2:5] == ["1.000", "0.000", "-1.000"]
    ids = {each["id"] for each in map(json.loads, (tmp_path / "out" / "ablation.rollouts.jsonl").open())}
    assert ids == {each for turn in record["turns"] for each in (*turn["control_ids"], *turn["without_ids"])}
    assert len(ids) == record["n_episodes"]
    assert all(len(line) <= 104 for line in result.to_text().splitlines())


def test_every_figure_is_that_of_the_episodes_that_were_written(tmp_path: Path) -> None:
    def noisy(context: str, draw: random.Random) -> str:
        if draw.random() < 0.5 and context.count("assistant\n") < 4:
            return "hm " * draw.randrange(3) + call(draw.choice(["news", "read"]))
        return "42" if draw.random() < 0.4 + 0.3 * ("is 42" in context) else NOTHING

    of(ablated(noisy, items=20, samples=3)[0]).write(tmp_path)
    record = json.loads((tmp_path / "ablation.json").read_text())
    lines = (tmp_path / "ablation.rollouts.jsonl").read_text().splitlines()
    written = {each["id"]: each for each in map(json.loads, lines)}
    for group in record["groups"]:
        items: dict[str, list[float]] = {}
        calls: dict[str, list[float]] = {}
        for turn in record["turns"]:
            places = {"all": "all turns", "tool": turn["tools"], "turn": f"turn {turn['turn']}"}
            if turn["part"] != group["part"] or places[group["by"]] != group["name"]:
                continue
            arms = [[written[each] for each in turn[f"{arm}_ids"]] for arm in ("control", "without")]
            scores, made = zip(
                *(
                    (
                        sum(each["grade"]["score"] for each in arm) / 3,
                        sum(len(t["tool_calls"]) for each in arm for t in each["turns"][turn["turn"] :]) / 3,
                    )
                    for arm in arms
                ),
                strict=True,
            )
            items.setdefault(turn["task_id"], []).append(scores[1] - scores[0])
            calls.setdefault(turn["task_id"], []).append(made[1] - made[0])
        for metric, found in (("reward", items), ("tool_calls", calls)):
            wanted = sum(sum(each) / len(each) for each in found.values()) / len(found)
            assert group["changes"][metric]["change"] == pytest.approx(wanted, abs=1e-12)
        assert group["n_items"] == len(items)
    assert len(record["groups"]) > 6


def test_what_models_and_tools_say_is_text_on_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[2J"

    def say(context: str, _: random.Random) -> str:
        return "<b>so</b> " + call("read") if "assistant\n<b>" not in context else "42"

    result = of(ablated(say, items=2, tools=[FakeTool("read", lambda _: evil)])[0], name="<i>toy</i>")
    page = result.write(tmp_path).read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>so" not in page
    assert "<i>toy" not in page
    assert "\x1b" not in page + result.to_text()


def test_without_a_single_pair_there_is_a_result_without_figures(tmp_path: Path) -> None:
    trials, _ = ablated(reader, items=2)
    dead = [
        replace(trial, ablated=tuple(replace(each, grade=Grade(None, "gone")) for each in trial.ablated))
        for trial in trials
    ]
    result = of(dead)
    assert result.groups == []
    assert "pairs left out" in result.to_text()
    result.write(tmp_path)


def test_turns_of_several_tools_are_named_by_all_of_them() -> None:
    [cut] = cuts_of(whole(call("read") + call("news") + call("read"), "42"), CHAT, None)
    assert cut.tools == "news + read"
