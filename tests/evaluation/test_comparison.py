"""Two policies compared: what may be, what is found, and the pages that show it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.errors import ConfigError
from agentrl.evaluation.comparison import PolicyComparison, compare, plots
from agentrl.evaluation.comparison.figures import quantile_figures, ratio_figure
from agentrl.evaluation.comparison.loops import find_loops, repeated_calls
from agentrl.evaluation.comparison.significance import binomial_p_value, holm, sign_flip_p_values
from agentrl.evaluation.evaluation_files import Evaluation, write_evaluation
from agentrl.evaluation.intervals import Resamples, resampled_means
from agentrl.runs.files import to_json
from agentrl.types import FailureClass, Grade, Rollout, StopReason, Task
from tests.factories import make_rollout

CONDITIONS: dict[str, Any] = {
    "tasks": "sha256:t",
    "tools": {"versions": {"search": None}},
    "graders": {"g": "sha256:g", "gold": "sha256:h", "version": None},
    "rubric": None,
    "pass_threshold": 0.75,
    "rollout": {"max_turns": 12},
}
VERSION = "sha256:g"


def graded(rollout: Rollout, version: str = VERSION, **holdout: float) -> Rollout:
    return replace(rollout, grade=replace(rollout.grade, version=version, holdout=holdout))


def side(name: str, rollouts: Sequence[Rollout], **fields: Any) -> Evaluation:
    marked = tuple(replace(each, id=f"{each.id}-{name}") for each in rollouts)
    return replace(Evaluation(name, {"kind": "baseline"}, CONDITIONS, 0.75, ("search", "cat"), marked), **fields)


def rollouts(score: float, calls: int, n: int = 12, seed: int = 0) -> list[Rollout]:
    random = Random(seed)
    tools = [[random.choice(["search", "cat"]) for _ in range(calls)] for _ in range(n)]
    return [
        graded(make_rollout(f"t{i}", 0, score if i % 3 else 1 - score, tools[i], 10 * (calls + 1), seconds=calls + 1))
        for i in range(n)
    ]


A, B = side("old", rollouts(0.0, 4)), side("new", rollouts(1.0, 2, seed=1))


@pytest.fixture(scope="module")
def found() -> PolicyComparison:
    return compare(A, B)


# what may be compared


def test_any_other_condition_than_the_policy_is_refused_by_name_and_allowed_by_name() -> None:
    other = replace(B, conditions={**CONDITIONS, "rollout": {"max_turns": 6}}, policy={"kind": "api"})
    with pytest.raises(ConfigError, match=r"rollout\.max_turns: 12 in old, 6 in new"):
        compare(A, other)
    allowed = compare(A, other, allow_difference=["rollout.max_turns"])
    assert allowed.as_dict()["allowed_differences"] == [{"key": "rollout.max_turns", "before": 12, "after": 6}]
    for text in (allowed.to_text(), allowed.to_markdown(), allowed.to_html()):
        assert "rollout.max_turns: 12 in A, 6 in B" in text
    assert compare(A, B, allow_difference=["rollout"]).allowed == ()


@pytest.mark.parametrize(
    "change",
    [{"graders": {**CONDITIONS["graders"], "g": "sha256:x"}}, {"rubric": "v2"}, {"graders": {"version": "v2"}}],
)
def test_other_graders_are_never_allowed(change: dict[str, Any]) -> None:
    other = replace(B, conditions={**CONDITIONS, **change})
    with pytest.raises(ConfigError, match="different graders"):
        compare(A, other, allow_difference=["graders", "rubric"])


def test_grades_of_another_version_are_never_allowed() -> None:
    other = replace(B, rollouts=tuple(graded(each, "sha256:other") for each in B.rollouts))
    with pytest.raises(ConfigError, match="different grader versions"):
        compare(A, other, allow_difference=["graders"])


def test_a_hold_out_that_differs_may_be_allowed_and_is_left_out() -> None:
    first, second = (replace(each, rollouts=tuple(graded(r, gold=0.5) for r in each.rollouts)) for each in (A, B))
    assert "holdout_score_of_gold" in compare(first, second).differences
    second = replace(second, conditions={**CONDITIONS, "graders": {**CONDITIONS["graders"], "gold": "sha256:x"}})
    with pytest.raises(ConfigError, match=r"--allow-difference graders\.gold"):
        compare(first, second)
    allowed = compare(first, second, allow_difference=["graders.gold"])
    assert "holdout_score_of_gold" not in allowed.differences


def test_another_threshold_may_be_allowed_and_the_first_one_holds_for_both() -> None:
    first = replace(A, rollouts=tuple(replace(each, grade=replace(each.grade, score=0.6)) for each in A.rollouts))
    second = replace(B, rollouts=tuple(replace(each, grade=replace(each.grade, score=0.6)) for each in B.rollouts))
    second = replace(second, pass_threshold=0.5, conditions={**CONDITIONS, "pass_threshold": 0.5})
    found = compare(first, second, allow_difference=["pass_threshold"])
    assert found.differences["success_rate"].candidate == 0
    assert found.comparison.differences["success_rate"].candidate == 0


def test_the_same_rollouts_twice_are_refused(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "a.json", A)
    with pytest.raises(ConfigError, match="are the same rollouts"):
        compare(path, path)
    run = {"kind": "run", "run": "runs/x", "evaluation": "validation-baseline", "step": 0}
    with pytest.raises(ConfigError, match="both mean validation-baseline of runs/x, the policy before training"):
        compare(replace(A, policy=run), replace(A, name="best", policy=run))


def test_items_in_common_are_needed_and_grades() -> None:
    elsewhere = side("new", [graded(make_rollout("z"))])
    with pytest.raises(ConfigError, match=r"no item in common .*only in new"):
        compare(A, elsewhere)
    broken = side("new", [replace(make_rollout("t1", score=None), broken_by=FailureClass.ENGINE)] * 3)
    with pytest.raises(ConfigError, match=r"new: none of its 3 rollouts has a grade \(engine 3\)"):
        compare(A, broken)
    with pytest.raises(ConfigError, match="holds no rollouts"):
        compare(A, side("new", []))


def test_another_task_under_the_same_id_is_left_out() -> None:
    changed = Task("t1", ({"role": "user", "content": "Something else?"},))
    second = replace(B, rollouts=tuple(replace(r, task=changed) if r.task.id == "t1" else r for r in B.rollouts))
    found = compare(A, second)
    assert (found.n_items, found.pairs.left_out) == (11, {"t1": "another task under the same id"})
    assert sum(found.quadrants().values()) == 11
    assert found.comparison.n_items == 11


def test_two_files_of_one_name_are_told_apart() -> None:
    found = compare(A, replace(B, name="old"))
    assert (found.a.name, found.b.name) == ("old (A)", "old (B)")


# what is found


def test_one_item_has_figures_without_intervals() -> None:
    found = compare(side("a", rollouts(0.0, 2, 1)), side("b", rollouts(1.0, 1, 1)))
    assert (found.n_items, found.differences["reward"].change_interval) == (1, None)
    assert json.loads(to_json(found.as_dict()))["n_items"] == 1
    for text in (found.to_text(), found.to_html(), found.to_markdown()):
        assert "one item, so no interval" in text


def test_the_figures_of_a_run_are_these_ones(found: PolicyComparison) -> None:
    for name, difference in found.comparison.differences.items():
        ours = vars(found.differences[name])
        for key, value in vars(difference).items():
            assert ours[key] == (value if value is None else pytest.approx(value, abs=1e-9)), f"{name}.{key}"
    assert found.as_dict().keys() >= found.comparison.as_dict().keys()


def test_cost_per_success_is_a_ratio_of_sums_and_undefined_without_success() -> None:
    def priced(name: str, scores: Sequence[float]) -> Evaluation:
        return side(name, [graded(make_rollout(f"t{i}", score=s, cost_usd=0.1)) for i, s in enumerate(scores)])

    figure = compare(priced("a", [1, 0, 0, 0]), priced("b", [1, 1, 0, 0])).differences["cost_per_success_usd"]
    assert (figure.baseline, figure.candidate) == (pytest.approx(0.4), pytest.approx(0.2))
    assert figure.change_interval is None  # a third of the resamples has no success
    record = json.loads(to_json(compare(priced("a", [0, 0]), priced("b", [1, 0])).as_dict()))
    assert record["differences"]["cost_per_success_usd"]["baseline"] is None
    assert "cost_per_success_usd" not in compare(A, B).differences  # no prices: not free, but unknown


def test_losses_of_hard_items_are_seen_and_chance_losses_are_not() -> None:
    def lossy(is_lost: Any) -> Evaluation:
        kept = []
        for i in range(60):
            rollout = graded(make_rollout(f"t{i}", 0, float(i % 2)))
            lost = replace(rollout, grade=Grade(None), stop_reason=StopReason.INFRASTRUCTURE)
            kept += [replace(lost, broken_by=FailureClass.TOOL) if is_lost(i) else rollout]
            kept += [replace(rollout, id=f"{rollout.id}-1", sample_index=1)]
        return side("b", kept)

    whole = side("a", [graded(make_rollout(f"t{i}", 0, float(i % 2))) for i in range(60)])
    hard = compare(whole, lossy(lambda i: i % 2 == 0 and i < 40)).losses[1]
    assert (hard.lost, hard.by_class, hard.items_hit, hard.items_lost) == (20, {"tool": 20}, 20, 0)
    assert "hard items were lost" in hard.verdict
    assert "Careful: in B the hard items" in compare(whole, lossy(lambda i: i % 2 == 0 and i < 40)).to_html()
    assert hard.correlation is not None
    assert hard.correlation < 0
    assert "no sign" in compare(whole, lossy(lambda i: i < 20)).losses[1].verdict
    assert "too few" in compare(whole, lossy(lambda i: i < 2)).losses[1].verdict
    assert compare(whole, lossy(lambda i: i < 20)).losses[0].verdict == "nothing was lost"


def test_a_hold_out_that_falls_while_the_reward_rises_is_said_on_top() -> None:
    first, second = (
        side(name, [graded(make_rollout(f"t{i}", score=score), gold=1 - score) for i in range(6)])
        for name, score in (("a", 0.0), ("b", 1.0))
    )
    pages = [getattr(compare(first, second), f"to_{kind}")() for kind in ("text", "markdown", "html")]
    assert all("the hold-out gold fell by" in re.sub(r"\s+", " ", page) for page in pages)
    assert "Careful" not in compare(second, first).to_text()


def test_rises_and_falls_are_shown_by_turns() -> None:
    before = [graded(make_rollout(f"t{i}", 0, 0.0 if i < 6 else 1.0)) for i in range(10)]
    after = [graded(make_rollout(f"t{i}", 0, 1.0 if i < 6 else 0.5)) for i in range(10)]
    shown = compare(side("a", before), side("b", after)).most_changed(5)
    assert [item.reward_change > 0 for item in shown] == [True, False, True, False, True]
    assert all(item.rollouts[0].task == item.rollouts[1].task for item in shown)


def test_subsets_allow_for_the_tags_that_there_were_to_choose_from() -> None:
    def tagged(evaluation: Evaluation) -> Evaluation:
        marked = (replace(r, task=replace(r.task, item={"tags": ["hard"]})) for r in evaluation.rollouts)
        return replace(evaluation, rollouts=tuple(marked), selection={"tags": ["hard"], "tags_looked_at": 10})

    tags = compare(tagged(A), tagged(B)).tags
    assert (tags.looks, len(tags.rows), tags.untagged) == (10, 1, 0)
    assert tags.rows[0].p_holm == pytest.approx(min(1.0, 10 * tags.rows[0].p_value))
    assert compare(A, B).tags.rows == ()


# the parts


@pytest.mark.parametrize(
    ("tools", "blocks"),
    [
        ("s c s c s", [("c", "s", 5)]),
        ("s s", []),
        ("s s s", [("s", 3)]),
        ("s c l s c l x x x", [("c", "l", "s", 6), ("x", 3)]),
        ("s s c s s c", [("c", "s", "s", 6)]),
        ("a b c d e f a b c d e f", []),
        ("s s s s", [("s", 4)]),
    ],
)
def test_loops_are_rounds_that_repeat(tools: str, blocks: list[tuple[Any, ...]]) -> None:
    assert [(*loop.block, loop.calls) for loop in find_loops(tools.split())] == blocks


@given(st.lists(st.sampled_from("ab"), max_size=14))
def test_a_loop_is_where_it_says_and_cannot_be_longer(tools: list[str]) -> None:
    for loop in find_loops(tools):
        period, stretch = len(loop.block), tools[loop.start : loop.start + loop.calls]
        assert len(stretch) == loop.calls >= (3 if period == 1 else 2 * period)
        assert all(one == other for one, other in zip(stretch, stretch[period:], strict=False))
        assert sorted(stretch[:period]) == sorted(loop.block)
        end = loop.start + loop.calls
        assert end == len(tools) or tools[end] != tools[end - period]
        assert loop.start == 0 or tools[loop.start - 1] != tools[loop.start - 1 + period]


def test_a_call_is_the_same_whatever_the_order_of_its_arguments() -> None:
    rollout = make_rollout(tools=("search", "search", "search", "cat"))
    texts = ['{"a": 1, "b": [2]}', '{"b":[2],"a":1}', "not json", '{"a": 1, "b": [2]}']
    turns = tuple(
        replace(turn, tool_calls=(replace(turn.tool_calls[0], arguments=text),))
        for turn, text in zip(rollout.turns, texts, strict=False)
    )
    assert repeated_calls(replace(rollout, turns=turns)) == 1


def test_holm_and_the_exact_tests_of_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert binomial_p_value(0, 0) == 1
    assert binomial_p_value(1, 9) == pytest.approx(0.021484375)
    assert binomial_p_value(5, 5) == 1


def test_sign_flips_find_a_change_and_no_more_than_one_in_twenty_of_nothing() -> None:
    rng = np.random.default_rng(3)
    nothing = sign_flip_p_values(rng.normal(size=(40, 300)))
    assert 0.02 <= (nothing < 0.05).mean() <= 0.08
    assert (sign_flip_p_values(rng.normal(1.0, 1.0, size=(40, 20))) < 0.001).all()
    exact = sign_flip_p_values(np.array([[1.0], [1.0], [1.0], [1.0]]), flips=20_000)[0]
    assert exact == pytest.approx(2 / 16, abs=0.01)


def test_pieces_draw_what_one_draw_would(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(13, 2))
    whole = resampled_means(values, resamples=100)
    monkeypatch.setattr(Resamples, "PIECE", 13 * 7)
    for kept in (0, 10**6):
        monkeypatch.setattr(Resamples, "KEPT", kept)
        found = Resamples(13, resamples=100)
        assert found.means(values) == pytest.approx(whole, abs=1e-12)
        assert found.means(values) == pytest.approx(whole, abs=1e-12)


def test_a_quantile_gives_every_item_one_vote() -> None:
    """Nine quick episodes of one item weigh as much as the slow one of the other."""
    sides = ([[1.0] * 9, [10.0]], [[1.0], [10.0]])
    half, more = quantile_figures(sides, (0.5, 0.51))
    assert half.baseline == half.candidate == 1.0
    assert more.baseline == more.candidate == 10.0


def test_a_ratio_of_nothing_is_undefined() -> None:
    nothing = ratio_figure(np.ones((3, 2)), np.zeros((3, 2)))
    assert (np.isnan(nothing.baseline), nothing.change_interval, nothing.relative) == (True, None, None)


# what is shown

EVIL = '<script>alert(1)</script><img src=x onerror=alert(1)>"\x1b[31m\u202e`|@everyone'


class Page(HTMLParser):
    """What a browser would see of it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.shown += data


def evil(evaluation: Evaluation) -> Evaluation:
    """Every text that a model, a tool or a data set may write says something evil."""

    def turned(rollout: Rollout) -> Rollout:
        turns = tuple(
            replace(
                turn,
                text=EVIL,
                tool_calls=tuple(replace(call, name=EVIL, arguments=EVIL) for call in turn.tool_calls),
                tool_results=tuple(replace(each, name=EVIL, output=EVIL) for each in turn.tool_results),
            )
            for turn in rollout.turns
        )
        task = Task(f"{rollout.task.id}{EVIL}", ({"role": EVIL, "content": EVIL},), {"tags": [EVIL], "note": EVIL})
        return replace(rollout, task=task, turns=turns, answer=EVIL, grade=replace(rollout.grade, holdout={EVIL: 1.0}))

    return replace(
        evaluation, name=f"{evaluation.name} {EVIL}", tools=(), rollouts=tuple(map(turned, evaluation.rollouts))
    )


def test_no_text_of_a_model_gets_out_of_the_page() -> None:
    other = replace(evil(B), conditions={**CONDITIONS, EVIL: EVIL})
    found = compare(evil(A), other, allow_difference=[EVIL])
    page = Page(found.to_html())
    assert not {tag for tag, _ in page.tags} & {"script", "img", "a", "link", "iframe"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "\x1b" not in page.shown
    assert "\u202e" not in found.to_html()
    assert "<script>alert(1)</script>" in page.shown
    framed = Page(found._repr_html_())
    assert [tag for tag, _ in framed.tags] == ["iframe"]
    assert "sandbox" in framed.tags[0][1]


def test_no_text_of_a_model_gets_out_of_the_terminal_or_the_markdown() -> None:
    found = compare(evil(A), evil(B))
    for text in (found.to_text(), found.to_markdown()):
        assert "\x1b" not in text
        assert "\u202e" not in text
    for line in found.to_markdown().splitlines():
        spans = re.sub(r"`[^`]*`", "", line)
        assert "script" not in spans
        assert "@" not in spans
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (5, 6)


def test_the_page_needs_nothing_else_and_names_its_plots(found: PolicyComparison) -> None:
    html = found.to_html()
    page = Page(html)
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert not re.findall(r"(?:src|href)=|url\(|@import", html)
    plots = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(plots) == 3
    assert all(each["role"] == "img" and each["aria-label"] for each in plots)
    assert "prefers-color-scheme: dark" in html
    assert dict(page.tags)["html"] == {"lang": "en"}
    levels = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == "h1"
    assert levels.count("h1") == 1


def test_every_item_is_a_part_of_a_point(found: PolicyComparison) -> None:
    titles = re.findall(r"<title>(\d+) items?: reward", found.quadrant_plot().figure)
    assert sum(map(int, titles)) == found.n_items
    for plot in (found.quadrant_plot(), found.latency_plot(), found.tool_plot()):
        assert plot.figure in Page(plot._repr_html_()).tags[0][1]["srcdoc"]  # type: ignore[operator]


def test_plots_of_many_items_stay_small_and_count_all(monkeypatch: pytest.MonkeyPatch, found: PolicyComparison) -> None:
    monkeypatch.setattr(plots, "MAX_POINTS", 2)
    monkeypatch.setattr(plots, "CELLS", 1)
    titles = re.findall(r"<title>(\d+) items?: reward", found.quadrant_plot().figure)
    assert sum(map(int, titles)) == found.n_items
    assert "2 of 12 items" in found.latency_plot().title
    assert found.latency_plot().figure.count("<circle") == 2 * 2 + 2


def test_the_quadrants_are_in_every_output(found: PolicyComparison) -> None:
    counts = found.quadrants()
    assert sum(counts.values()) == found.n_items == 12
    assert json.loads(to_json(found.as_dict()))["quadrants"] == counts
    shares = found.quadrant_shares()
    assert all(share.interval.low <= share.count / 12 <= share.interval.high for share in shares.values())
    row = " | ".join(str(counts[f"better_{calls}"]) for calls in ("fewer", "equal", "more"))
    assert f"| higher reward | {row} |" in found.to_markdown()


def test_the_files_are_the_new_ones_or_the_old_ones(found: PolicyComparison, tmp_path: Path) -> None:
    found.write(tmp_path / "out")
    names = {"compare.html", "compare.json", "compare.md"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    (tmp_path / "out" / "compare.md").unlink()
    (tmp_path / "out" / "compare.md").mkdir()
    before = (tmp_path / "out" / "compare.html").read_text()
    with pytest.raises(OSError, match="directory"):
        found.write(tmp_path / "out", episodes=0)
    assert (tmp_path / "out" / "compare.html").read_text() == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_the_object_says_what_it_is(found: PolicyComparison) -> None:
    assert repr(found) == "PolicyComparison('old' -> 'new', 12 items, reward 0.333 -> 0.667)"


def test_graders_that_nobody_knows_are_not_silently_the_same() -> None:
    unknown = {**CONDITIONS, "graders": {"version": None}}
    a, b = (
        side(name, [graded(each, version="") for each in rollouts(score, 2)], conditions=unknown)
        for name, score in (("a", 0.4), ("b", 0.6))
    )
    found = compare(a, b)
    for shown in (found.to_text(), found.to_markdown(), found.to_html()):
        assert "taken on trust" in " ".join(shown.split())
    known = compare(
        side("a", [graded(each) for each in rollouts(0.4, 2)]), side("b", [graded(each) for each in rollouts(0.6, 2)])
    )
    assert "taken on trust" not in known.to_html()
