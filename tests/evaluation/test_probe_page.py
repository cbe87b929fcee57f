"""The picture shows what was measured, the page is safe and works offline, and the JSON holds every figure."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from agentrl.evaluation.charts import Frame
from agentrl.evaluation.probe.lines import large, percent, report_lines
from agentrl.evaluation.probe.measure import Probed, measure
from agentrl.evaluation.probe.page import fragment, page
from agentrl.evaluation.probe.picture import BEST, MEAN, by_mean, picture, picture_file, picture_lines
from agentrl.evaluation.probe.report import ProbeReport
from agentrl.evaluation.probe.samples import ItemScores
from agentrl.runs.files import to_json
from agentrl.types import Rollout
from benchmarks.probe.truths import Truth, evenly
from tests.factories import make_rollout

EVIL = "<script>alert(1)</script>\x1b[31m"


def report(scores: dict[str, list[float | None]], **changes: Any) -> ProbeReport:
    rollouts: list[Rollout] = [
        make_rollout(task_id, i, score) for task_id, each in scores.items() for i, score in enumerate(each)
    ]
    half = len(rollouts) // 2
    options: dict[str, Any] = {
        "name": "n", "policy": "p", "splits": {"train": rollouts[:half], "validation": rollouts[half:]},
        "samples": 3, "min_score": 0.0, "max_score": 1.0, "pass_threshold": 0.75, "max_lost": 0.1, "planned_samples": 4,
        "validation_items": 30, "validation_samples": 3,
    }  # fmt: skip
    return measure(Probed(**(options | changes)))


SCORES: dict[str, list[float | None]] = {f"t{n}": [0.0, n / 10, 1.0] for n in range(10)}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_loads_nothing_and_escapes_what_others_wrote() -> None:
    found = report({EVIL: [0.0, 1.0, None], **SCORES}, name=EVIL, policy=EVIL, max_lost=0.5)
    shown = page(found)
    tags = Tags()
    tags.feed(shown)
    assert tags.open == []
    assert "script" not in tags.seen
    assert tags.addresses == []
    assert "default-src 'none'" in shown
    assert "\x1b" not in shown
    assert "&lt;script&gt;" in shown
    assert "url(" not in shown
    assert "prefers-color-scheme: dark" in shown


def test_a_notebook_gets_the_verdict_in_a_frame_of_its_own() -> None:
    shown = report({EVIL: [0.0, 1.0, 1.0], **SCORES})._repr_html_()
    assert shown.startswith("<iframe ")
    assert "sandbox" in shown
    tags = Tags()
    tags.feed(shown)
    assert tags.seen == ["iframe"]
    assert fragment(report(SCORES)).count("srcdoc=") == 1


def test_the_terminal_is_sent_nothing_that_it_would_obey() -> None:
    found = report({EVIL: [None, None, None], **SCORES}, unplanned=EVIL, max_lost=0.5)
    text = "\n".join(report_lines(found))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 110
    assert f"verdict: {found.verdict}" in text
    assert "no forecast: <script>" in text


def test_the_json_holds_every_figure_and_is_strict() -> None:
    found = report({**SCORES, "lost": [None, None, None]})
    record = json.loads(to_json(found.as_dict()), parse_constant=pytest.fail)
    assert record["format"] == "agentrl-probe/1"
    assert record["verdict"] == found.verdict
    assert [item["task_id"] for item in record["items"]] == [item.task_id for item in found.items]
    assert record["groups"]["share"] == found.groups.share
    assert record["shares"]["8"]["value"] == found.shares[8].value
    assert {reason["code"] for reason in record["reasons"]} == {reason.code for reason in found.reasons}
    for split in record["splits"]:
        assert set(split["passes"]) == {"pass_at_k", "pass_hat_k"}
        assert set(split["passes"]["pass_at_k"]) == {"1", "2", "3"}


def item(task_id: str, *scores: float) -> ItemScores:
    return ItemScores(task_id, "train", len(scores), tuple((score,) for score in scores), (False,) * len(scores))


def test_items_stand_in_order_of_their_mean() -> None:
    items = [item("b", 1.0, 1.0), item("a", 0.0, 1.0), item("c", 0.5, 0.5), ItemScores("d", "train", 2, (), ())]
    assert [each.task_id for each in by_mean(items)] == ["c", "a", "b"]
    assert by_mean(items) == by_mean(items[::-1])


def test_the_picture_has_a_mark_for_each_items_best_and_is_well_formed() -> None:
    items = Truth("", evenly(0.1, 0.9), n_items=37).items(0)
    shown = picture("train", items, 3)
    figure = ElementTree.fromstring(shown)
    svg = figure.find("svg")
    assert svg is not None
    assert len(svg.findall("circle")) == 37
    heights = [float(each.get("cy", "nan")) for each in svg.findall("circle")]
    frame = Frame([1.0], 0.0, 1.0)
    assert heights == pytest.approx([frame.y(each.best) for each in by_mean(items)], abs=0.1)
    assert len(svg.findall("polygon")) == 1
    assert "items sorted by mean" in str(svg.get("aria-label"))
    assert len(shown) < 30_000
    assert picture("train", [], 3) == ""
    assert "<polygon" not in picture("train", items[:1], 3)


def test_the_picture_is_a_file_too() -> None:
    items = Truth("", evenly(0.1, 0.9), n_items=20).items(0)
    svg = ElementTree.fromstring(picture_file([(EVIL.replace("\x1b", ""), items), ("validation", items[:5])], 3))
    assert len(svg.findall("{*}g")) == 2
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 25
    assert not list(svg.iter("{http://www.w3.org/2000/svg}script"))
    ElementTree.fromstring(picture_file([], 3))


def test_a_thousand_items_are_drawn_by_fewer_marks() -> None:
    shown = picture("train", Truth("", evenly(0.1, 0.9), n_items=1000).items(0), 3)
    assert len(re.findall("<circle", shown)) <= 400


def test_the_picture_in_characters_shows_means_and_bests() -> None:
    lines = picture_lines([item("a", 0.0, 0.0), item("b", 0.0, 1.0), item("c", 1.0, 1.0)])
    body = [line.partition("|")[2].ljust(12)[::4] for line in lines[:-1]]  # four columns an item, where there are few
    assert body[0] == f" {BEST}{MEAN}"
    assert body[4][1] == MEAN
    assert body[-1][0] == MEAN
    assert lines[0].startswith(" 1.00 |")
    assert picture_lines([]) == []
    many = picture_lines(Truth("", evenly(0, 1), n_items=500).items(0))
    assert max(map(len, many)) <= 67


def test_numbers_are_short() -> None:
    assert [percent(value) for value in (0.0, 0.004, 0.05, 0.25, 0.995, 1.0)] == [
        "0%",
        "0.4%",
        "5.0%",
        "25%",
        "99.5%",
        "100%",
    ]
    assert [large(value) for value in (27680.93, 0.30523, 4.0, 0.0)] == ["27,681", "0.305", "4", "0"]


def test_a_report_of_nothing_is_shown_all_the_same() -> None:
    nothing = report({"a": [None] * 3, "b": [None] * 3})
    assert nothing.verdict == "unmeasured"
    assert "infrastructure" in "\n".join(report_lines(nothing))
    tags = Tags()
    tags.feed(page(nothing))
    assert tags.open == []
    assert repr(replace(nothing, seconds=1.0)).startswith("ProbeReport(name='n', policy='p', verdict='unmeasured'")
