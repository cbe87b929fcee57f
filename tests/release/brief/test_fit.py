"""One page in each language on its paper: an ordinary release, one without evidence, one with far too much to tell."""

from __future__ import annotations

import contextlib
import copy
import re
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrl.errors import ReleaseError
from agentrl.release.brief import fit as fit_module
from agentrl.release.brief.fit import Fitted, fit, render
from agentrl.release.brief.locale import LOCALES, load_locale
from agentrl.release.brief.records import read_records
from agentrl.release.brief.twin import brief_twin
from agentrl.release.brief.write import write_brief
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.store import open_store
from tests.release.story import PROMOTED, incident, keep_weeks, release_config, tell

pytest.importorskip("weasyprint")

PAPER = {"en-US": (612, 792), "en-GB": (595, 841), "fr-FR": (595, 841)}
"""Points."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasePlace]:
    folder = tmp_path_factory.mktemp("fit")
    place = ReleasePlace("FinQA support", folder, open_store(f"sqlite:///{folder / 'release.db'}"))
    story = tell(place, canary_sessions=1000, is_shown=True)
    incident(place, story.release.id, PROMOTED - 86400)
    keep_weeks(place, release_config())
    tell(place, state=ReleaseState.DRAFT, release_id="support-empty", is_first=False)
    yield place
    place.store.close()


def opened(pdf: bytes) -> bytes:
    """The file with its packed objects unpacked."""
    found = [pdf]
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompressobj().decompress(stream))
    return b"\n".join(found)


def pages_of(pdf: bytes) -> int:
    """As a reader of the file counts them."""
    return len(re.findall(rb"/Type /Page\b", opened(pdf)))


def paper_of(pdf: bytes) -> tuple[int, int]:
    found = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", opened(pdf))
    assert found is not None
    return int(float(found[1])), int(float(found[2]))


def overfull(twin: dict[str, Any]) -> dict[str, Any]:
    """40 gates with names of 60 characters, 200 failed cases, and people who write much."""
    full = copy.deepcopy(twin)
    rows = full["gates"]["rows"]
    outcomes = ("pass", "fail", "inconclusive", "invalid")
    full["gates"]["rows"] = [
        {
            **copy.deepcopy(rows[number % len(rows)]),
            "gate": f"gate_{number:02d}_with_a_name_that_is_sixty_characters_long_or_so_too",
            "verdict": outcomes[number % 4],
            "reason": "a reason that explains itself at length, " * 12,
        }
        for number in range(40)
    ]
    case = {"suite": "s" * 60, "kind": "capability", "case": "case-of-a-suite-" * 4, "reason": "because " * 40}
    full["tested"]["failures"] = [case] * 200
    full["tested"]["rows"] = [{**row, "name": "n" * 60} for row in full["tested"]["rows"]] * 4
    for row in full["changed"]["rows"]:
        row["state"], row["old"], row["new"] = "changed", row["new"] * 6, row["new"] * 6
        for label in row["new"]:
            label["name"] = "a-very-long-name-of-a-part-of-a-bundle-" * 3
    for owner in ("ml", "platform", "product", "contact"):
        full["owners"][owner] = "The Extraordinarily Long Name Of A Team With Many People In It And A Comma, " * 2
    full["owners"]["approvals"] *= 12
    full["owners"]["log"] *= 10
    full["limits"]["known"] = ["A limit that somebody described in all of its details, at length. " * 4] * 15
    full["limits"]["undecided"] = [row["gate"] for row in full["gates"]["rows"]]
    full["limits"]["approval_tools"] = [f"tool_with_quite_a_long_name_{number}" for number in range(30)]
    full["incidents"]["rows"] = [
        {
            **full["incidents"]["rows"][0],
            "is_closed": False,
            "cause": "c " * 300,
            "follow_up": "w" * 300,
            "text": "t" * 99,
        }
    ] * 25
    full["header"]["workflow"] = "A workflow that has been given a whole sentence for a name, and one more"
    full["header"]["reason"] = "r " * 400
    full["header"]["state"] = "rolled_back"
    return full


@pytest.mark.parametrize("locale", LOCALES)
def test_an_ordinary_release_is_one_page(place: ReleasePlace, tmp_path: Path, locale: str) -> None:
    """F61."""
    written = write_brief(place.store, "support-20261020-4f1c2a", locale, tmp_path / "briefs")
    pdf = written.pdf.read_bytes()
    assert pages_of(pdf) == 1
    assert paper_of(pdf) == PAPER[locale]
    assert written.level <= 4  # of 9: most of it is there
    assert len(render(written.html.read_text("utf-8")).pages) == 1


@pytest.mark.parametrize("locale", LOCALES)
def test_a_release_without_evidence_is_one_page_that_says_so(place: ReleasePlace, locale: str) -> None:
    twin = brief_twin(read_records(place.store, "support-empty"))
    words = load_locale(locale)
    fitted = fit(twin, words, "x.json")
    assert pages_of(fitted.pdf) == 1
    assert words.word("headline.no_evidence") in fitted.html
    assert words.word("suites_none") in fitted.html
    assert words.word("live_none") in fitted.html
    assert words.word("drills_none") in fitted.html


@pytest.mark.parametrize("locale", LOCALES)
def test_far_too_much_is_one_page_and_what_is_cut_is_counted(place: ReleasePlace, locale: str) -> None:
    """F61: 40 gates, names of 60 characters, 200 failures, long owners."""
    twin = overfull(brief_twin(read_records(place.store, "support-20261020-4f1c2a")))
    fitted = fit(twin, load_locale(locale), "x.json")
    assert pages_of(fitted.pdf) == 1
    assert paper_of(fitted.pdf) == PAPER[locale]
    cut = {int(value) for value in re.findall(r'class="cut" value="(\d+)"', fitted.html)}
    gates = len(re.findall(r'<th scope="row" class="g">', fitted.html))
    assert gates >= 6
    assert 40 - gates in cut
    assert max(cut) >= 190
    table = fitted.html[fitted.html.index('<table class="gates">') :]
    assert table.count('<tr class="fail"') == min(10, gates)


def test_what_fits_nowhere_is_an_error_not_a_second_page(place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = brief_twin(read_records(place.store, "support-empty"))
    monkeypatch.setattr(fit_module, "LEVELS", tuple(fit_module.LEVELS[:1]))
    monkeypatch.setattr(fit_module, "brief_page", lambda *_: "<p style='break-after: page'>a</p><p>b</p>")
    with pytest.raises(ReleaseError, match="does not fit on one page"):
        fit(twin, load_locale("en-US"), "x.json")


def test_the_same_brief_is_the_same_file(place: ReleasePlace) -> None:
    twin = brief_twin(read_records(place.store, "support-empty"))
    first, second = (fit(twin, load_locale("en-GB"), "x.json") for _ in range(2))
    assert isinstance(first, Fitted)
    assert first.html == second.html
    assert first.pdf == second.pdf


def test_a_page_that_asks_for_something_is_given_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a brief opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert (
        len(render('<img src="http://127.0.0.1:9/x.png"><link rel="stylesheet" href="http://127.0.0.1:9/a.css">').pages)
        == 1
    )
