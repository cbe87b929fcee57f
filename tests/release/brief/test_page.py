"""The page: the twin's numbers in every language, blocks in one order, and nothing that runs, loads or deceives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agentrl.release.brief.density import LEVELS, chosen_gates, clipped
from agentrl.release.brief.figure import figures_in
from agentrl.release.brief.locale import LOCALES, load_locale
from agentrl.release.brief.page import brief_page
from agentrl.release.brief.records import read_records
from agentrl.release.brief.twin import BLOCKS, brief_twin
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.store import open_store
from tests.release.brief.test_locale import CLAIMS
from tests.release.story import PROMOTED, incident, keep_weeks, release_config, tell

EVIL = "</script><script>alert(1)</script>\x1b[31m\u202ered =cmd|' /C calc'!A0"


class Page(HTMLParser):
    """What a reader sees, apart by what kind of element it stands in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.numbers: list[tuple[str, float]] = []
        self.blocks: list[str] = []
        self.loose = ""
        """Text that is neither a figure nor a name that others gave."""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._inside: list[tuple[str, bool]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags.add(tag)
        self.attributes |= {f"{name}={value}" if name in ("href", "src") else name for name, value in attrs}
        if "data-block" in told:
            self.blocks.append(str(told["data-block"]))
        if tag == "data" and "data-key" in told:
            self.numbers.append((str(told["data-key"]), float(told["value"] or "nan")))
        classes = (told.get("class") or "").split()
        if tag not in ("meta", "br"):
            quiet = tag in ("data", "style", "svg", "title") or "id" in classes
            self._inside.append((tag, quiet))

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not any(quiet for _, quiet in self._inside):
            self.loose += data


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    yield from _twin(tmp_path_factory.mktemp("brief"))


def _twin(folder: Path, **changes: Any) -> Iterator[dict[str, Any]]:
    place = ReleasePlace("FinQA support", folder, open_store(f"sqlite:///{folder / 'release.db'}"))
    story = tell(place, canary_sessions=1000, is_shown=True, **changes)
    incident(place, story.release.id, PROMOTED - 86400)
    keep_weeks(place, release_config())
    yield brief_twin(read_records(place.store, story.release.id))
    place.store.close()


def page(twin: dict[str, Any], locale: str, level: int = 0) -> Page:
    return Page(brief_page(twin, load_locale(locale), LEVELS[level], "x.json"))


@pytest.mark.parametrize("locale", LOCALES)
def test_every_number_on_the_page_is_the_twins(twin: dict[str, Any], locale: str) -> None:
    found = page(twin, locale)
    values = {path: figure["value"] for path, figure in figures_in(twin)}
    assert len(found.numbers) > 80
    for key, value in found.numbers:
        assert values[key] == pytest.approx(value, rel=1e-12), key


@pytest.mark.parametrize("locale", LOCALES)
def test_no_number_stands_in_a_sentence_of_ours(twin: dict[str, Any], locale: str) -> None:
    """All digits are figures of the store, or part of a name that people gave."""
    loose = page(twin, locale).loose
    assert load_locale(locale).word("block.reproduce") in loose
    assert re.findall(r".{0,30}\d.{0,30}", loose) == []


def test_blocks_and_numbers_are_the_same_in_all_languages(twin: dict[str, Any]) -> None:
    """F61."""
    us, gb, fr = (page(twin, name) for name in LOCALES)
    for each in (us, gb, fr):
        assert each.blocks == list(BLOCKS)
    told = [dict(each.numbers) for each in (us, gb, fr)]
    for key in set.union(*map(set, told)):
        assert len({numbers[key] for numbers in told if key in numbers}) == 1, key
    shared = set.intersection(*map(set, told))
    assert {key.split(".")[0] for key in shared} >= {
        "header",
        "tested",
        "gates",
        "live",
        "rollback",
        "limits",
        "incidents",
    }
    assert len(shared) > 0.85 * len(set(told[0]))


def test_french_punctuation_is_set_apart_by_a_narrow_no_break_space(twin: dict[str, Any]) -> None:
    """F61."""
    loose = page(twin, "fr-FR").loose
    assert re.findall(r".{0,12}[^\u202f][;:!?»%]", loose) == []
    assert "\u202f:" in loose
    assert "\u202f;" in loose


def test_depth_of_proof_differs_by_language(twin: dict[str, Any]) -> None:
    us, gb, fr = (brief_page(twin, load_locale(name), LEVELS[0], "x.json") for name in LOCALES)
    assert "Decision log" in gb
    assert "Decision log" not in us
    assert fr.count('class="unchanged"') == 4
    assert 'class="unchanged"' not in us
    assert '<table class="failures">' in fr


@pytest.mark.parametrize("locale", LOCALES)
def test_failed_cases_are_listed_and_the_rest_is_counted(twin: dict[str, Any], locale: str) -> None:
    html = brief_page(twin, load_locale(locale), LEVELS[0], "x.json")
    listed = sum(f"finqa-test/{number:04d}" in html for number in range(36))
    cut = [int(value) for value in re.findall(r'class="cut" value="(\d+)"', html)]
    assert listed >= 4
    assert twin["tested"]["failed"]["value"] - listed in cut


@pytest.mark.parametrize("locale", LOCALES)
def test_nothing_runs_and_nothing_is_loaded(twin: dict[str, Any], locale: str) -> None:
    found = page(twin, locale)
    html = brief_page(twin, load_locale(locale), LEVELS[0], "x.json")
    assert not found.tags & {"script", "link", "img", "iframe", "object", "a"}
    assert not [name for name in found.attributes if name.startswith(("on", "src", "href"))]
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html
    assert "url(" not in html
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


@pytest.mark.parametrize("locale", LOCALES)
def test_the_page_claims_no_certification(twin: dict[str, Any], locale: str) -> None:
    assert CLAIMS.findall(page(twin, locale).loose) == []


@pytest.mark.parametrize("locale", LOCALES)
def test_what_models_and_people_wrote_is_text(tmp_path: Path, locale: str) -> None:
    """T17."""
    (evil,) = _twin(
        tmp_path,
        state=ReleaseState.OFFLINE_EVAL,
        names=EVIL,
        config=release_config(limits=[EVIL], owners={"ml": EVIL, "platform": EVIL, "product": EVIL}, contact=EVIL),
    )
    html = brief_page(evil, load_locale(locale), LEVELS[0], EVIL)
    assert "<script" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "script" not in Page(html).tags


def test_a_verdict_is_told_by_word_and_shape_not_by_colour(twin: dict[str, Any]) -> None:
    from agentrl.release.brief.marks import SIGNS

    shapes = [re.sub(r'#[0-9a-f]{3,6}|"[^"]*#[^"]*"', "", sign) for sign in SIGNS.values()]
    assert len(set(shapes)) == len(SIGNS)
    html = brief_page(twin, load_locale("en-US"), LEVELS[0], "x.json")
    assert html.count("</svg>pass</td>") == twin["header"]["counts"]["pass"]["value"]


def test_what_did_not_pass_is_cut_last() -> None:
    rows = [{"verdict": "pass", "stage": "canary", "gate": str(number)} for number in range(30)]
    rows[17]["verdict"], rows[22]["verdict"], rows[29]["verdict"] = "fail", "inconclusive", "invalid"
    kept, left = chosen_gates(rows, 4)
    assert [row["verdict"] for row in kept] == ["pass", "fail", "inconclusive", "invalid"]
    assert left == 26


def test_a_long_name_keeps_its_end() -> None:
    name = "human_override_rate_not_worse_in_the_segment_of_new_customers"
    assert clipped(name, 30).endswith("w_customers"[-10:])
    assert len(clipped(name, 30)) <= 30
    assert clipped(name, 61) == name


def test_type_is_never_smaller_than_seven_and_a_half_points() -> None:
    assert min(level.points for level in LEVELS) >= 7.5
    css = brief_page.__globals__["_file"]("page.css")
    sizes = [float(size) for size in re.findall(r"font-size: ?([\d.]+)pt", css)]
    assert min(sizes) >= 7.5
    assert all(float(size) >= 1 for size in re.findall(r"font-size: ?([\d.]+)em", css))
