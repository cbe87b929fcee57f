"""Episodes in a browser: what is looked for is found, keys and buttons do the same, labels reach `agentrl audit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from agentrl.cli.main import app
from tests.ui.browsing import NARROW, WIDE, assert_fits, keep_screenshot
from tests.ui.episode_runs import nasty_rollout, write_demo, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
Serve = Callable[[Path], str]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    write_demo(path / "demo")
    write_demo(path / "sweep" / "other")
    nasty = [nasty_rollout(0), nasty_rollout(1)]
    write_run(path / "nasty", validation_baseline=nasty[:1], validation_best=nasty[1:])
    return path


@pytest.fixture(scope="module")
def url(serve: Serve, runs_dir: Path) -> str:
    return serve(runs_dir)


@pytest.fixture(scope="module")
def demo(url: str) -> str:
    return f"{url}/runs/demo/episodes"


def total(page: Page) -> str:
    return page.locator(".total b").inner_text()


def cells(page: Page, label: str) -> list[str]:
    page.wait_for_load_state()  # after a click, the next page may still be on its way
    return page.locator(f'.episodes td[data-label="{label}"]').all_inner_texts()


# --- the list ---


def test_every_filter_is_a_link_and_every_chip_keeps_the_others(page: Page, demo: str) -> None:
    page.goto(demo)
    assert total(page) == "99"  # the test episode is for those who ask
    page.get_by_role("link", name="Lowest reward").click()
    assert set(cells(page, "score")[:5]) == {"0"}
    page.get_by_label("split").select_option("validation")
    page.get_by_role("searchbox", name="contains").fill("REVENUE 10")
    page.get_by_role("button", name="Filter").click()
    assert "contains=REVENUE+10" in page.url
    assert "order=lowest_reward" in page.url
    assert total(page) == "30"
    assert page.locator(".excerpt mark").first.inner_text() == "revenue 10"
    page.get_by_role("link", name="Repeated tools").click()
    assert "contains=REVENUE+10" in page.url
    assert page.get_by_role("link", name="Repeated tools").get_attribute("aria-current") == "true"
    assert cells(page, "tools")[0].split() == ["search", "cat×3", "calculate"]
    page.goto(page.url)
    assert total(page) == "30"
    page.get_by_role("link", name="Clear").click()
    assert total(page) == "99"


def test_orders_put_first_what_they_say(page: Page, demo: str) -> None:
    page.goto(f"{demo}?order=longest")
    assert cells(page, "tokens")[:2] == ["49", "49"]
    page.get_by_role("link", name="Slowest").click()
    assert cells(page, "time")[0] == "5.90 s"
    page.get_by_role("link", name="Largest change").click()
    assert cells(page, "change")[0] in ("+1", "−1")
    page.get_by_role("link", name="Infra failures").click()
    assert "tool" in cells(page, "ended")[0]
    page.get_by_role("link", name="Infra failures").click()  # off again
    assert total(page) == "99"


def test_pages_of_a_list_and_what_a_list_says_when_it_is_empty(page: Page, url: str, demo: str) -> None:
    page.goto(f"{demo}?contains=nowhere")
    page.get_by_role("link", name="Show all episodes").click()
    page.wait_for_load_state()
    page.locator("a.row").first.wait_for()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**page=2")
    assert page.locator(".total").inner_text() == "99 episodes, 51 to 99 shown; the test split is left out show it too"
    page.get_by_role("link", name="Previous page").click()
    page.wait_for_url("**/episodes")
    page.goto(f"{demo}?order=best&min_score=x&page=-1")
    assert [text[:12] for text in page.locator(".problem").all_inner_texts()] == [
        "order: found",
        "min_score: f",
        "page: found ",
    ]
    page.get_by_role("link", name="Contains text").click()
    page.locator("#contains:focus").wait_for()
    page.goto(f"{demo}?page=99")
    page.get_by_role("link", name="First page").click()
    page.goto(f"{url}/episodes?run=demo&run=nowhere")
    assert total(page) == "99"
    assert "no run 'nowhere'" in page.locator(".problem").inner_text()


# --- keys ---


def test_the_keyboard_alone_leads_through_a_list_and_its_episodes(page: Page, demo: str) -> None:
    page.goto(f"{demo}?order=lowest_reward&split=validation")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    links = page.locator("a.row").evaluate_all("rows => rows.map(row => row.pathname)")
    assert page.evaluate("document.activeElement.pathname") == links[0]
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{links[0]}*")
    page.keyboard.press("j")
    page.wait_for_url(f"**{links[1]}*")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**{links[2]}*")
    page.keyboard.press("k")
    page.wait_for_url(f"**{links[1]}*")
    page.get_by_role("link", name="← Previous").click()
    page.wait_for_url(f"**{links[0]}*")
    page.keyboard.press("u")
    page.wait_for_url(f"{demo}?split=validation&order=lowest_reward")


def test_what_was_looked_for_is_marked_and_gone_to(page: Page, demo: str) -> None:
    page.goto(f"{demo}/trace_base_q01-0?contains=REVENUE")
    assert page.locator(".episode mark").all_inner_texts() == ["revenue"] * 3
    page.keyboard.press("n")
    page.get_by_role("button", name="Next match").click()
    assert page.locator("mark").evaluate_all("marks => marks.map(mark => mark.className)") == ["", "now", ""]


def test_keys_are_left_to_those_who_type(page: Page, demo: str) -> None:
    page.goto(f"{demo}?task=q07")
    page.locator("a.row").first.click()
    page.wait_for_url("**/episodes/trace_*")
    at = page.url
    page.keyboard.press("/")
    page.keyboard.type("jkstl? revenue")
    assert page.get_by_role("searchbox").input_value() == "jkstl? revenue"
    assert page.url == at
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("Control+j")
    page.keyboard.press("l")
    page.locator("#score:focus").wait_for()
    page.keyboard.type("0.5s")
    assert page.url.split("#")[0] == at
    page.locator("h1").click()
    page.keyboard.press("?")
    assert "next episode of the list" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("s")  # the dialog is open
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    page.keyboard.press("s")
    page.wait_for_url("**/items/q07*")


# --- tokens ---


def test_tokens_come_when_asked_with_numbers_colours_and_keys(page: Page, demo: str) -> None:
    page.goto(f"{demo}/trace_train_t1-0")
    assert page.locator(".spelled").count() == 0
    page.keyboard.press("t")
    page.locator(".spelled").nth(2).wait_for()
    strip = page.get_by_role("group", name="Tokens of turn 1")
    first = strip.locator(".spelled .token").first
    assert "log-probability −0.1235 (p 0.884) · advantage +0.5 · value +0.25" in (first.get_attribute("title") or "")
    before = first.evaluate("token => getComputedStyle(token).backgroundColor")
    strip.get_by_role("radio", name="advantage").check()
    assert first.evaluate("token => getComputedStyle(token).backgroundColor") != before
    assert strip.locator(".of-advantage").is_visible()
    assert not strip.locator(".of-logprob").is_visible()
    first.focus()
    page.keyboard.press("ArrowRight")
    assert "token 2, id 11" in strip.locator(".pointed-at").inner_text()
    assert page.url.endswith("trace_train_t1-0")  # the arrow was the token's
    page.get_by_role("button", name="Tokens t").click()
    page.locator(".spelled").first.wait_for(state="detached")
    page.goto(f"{demo}/trace_base_q01-0/tokens?turn=2")  # where scripts do not run
    assert "what an update learned from" in page.locator(".tokens").inner_text()
    assert page.locator(".spelled .token").count() == 5


# --- side by side ---


def test_before_and_after_stand_beside_each_other(page: Page, url: str) -> None:
    page.goto(f"{url}/runs/demo/items/q02")
    assert page.get_by_label("episode").first.input_value() == "validation-baseline/trace_base_q02-0"
    assert page.get_by_label("episode").last.input_value() == "validation-best/trace_best_q02-0"
    figures = dict(row.split("\t", 1) for row in page.locator(".differences tbody tr").all_inner_texts())
    assert figures["score"].split("\t") == ["0.5", "1", "+0.5 better"]
    assert figures["tool calls"].split("\t") == ["3", "2", "−1"]
    assert page.locator(".how").all_inner_texts() == [
        "the same calls",
        "only on the left",
        "the same tools, other arguments",
        "another text",
    ]
    assert page.locator(".differs").all_inner_texts() == ["item 2", "item 1"]
    page.get_by_label("episode").first.select_option("validation-baseline/trace_base_q02-1")
    page.wait_for_url("**left=validation-baseline%2Ftrace_base_q02-1*")
    page.keyboard.press("x")
    page.wait_for_url("**right=validation-baseline%2Ftrace_base_q02-1*")
    assert page.get_by_label("episode").first.input_value() == "validation-best/trace_best_q02-0"


def test_two_runs_stand_beside_each_other(page: Page, url: str) -> None:
    page.goto(f"{url}/runs/demo/items/q02?left=validation-best/trace_best_q02-0")
    page.get_by_label("run").last.select_option("sweep/other")
    page.wait_for_url("**right_run=sweep%2Fother*")
    assert page.locator(".side h2").all_inner_texts() == [
        "demo validation-best 1 completed",
        "sweep/other validation-baseline 0.5 completed",
    ]
    page.goto(f"{url}/runs/demo/items/q02?right_run=sweep/other&right=validation-best/an-id-of-the-run-before")
    assert page.locator(".side h2").last.inner_text() == "sweep/other validation-best 1 completed"
    page.goto(f"{url}/runs/demo/items/q02?left=validation-best/nothing&right_run=nowhere")
    assert len(page.locator(".problem").all_inner_texts()) == 2
    page.goto(f"{url}/runs/demo/items/t1")  # measured once
    assert "no two episodes" in page.locator(".empty").inner_text()


# --- labels ---


def audit(run: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["audit", str(run), "--rater", "ana", "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_a_label_of_the_page_is_seen_by_agentrl_audit_and_can_be_taken_back(
    page: Page, demo: str, runs_dir: Path
) -> None:
    page.goto(f"{demo}/trace_base_q05-0?order=longest")
    page.get_by_label("why should people look at it?").fill("why so <long>?")
    page.get_by_role("button", name="Queue for audit").click()
    page.wait_for_url("**order=longest#label")
    assert page.locator("#label p").first.inner_text() == "in the audit queue picked: why so <long>?"
    found = audit(runs_dir / "demo")
    assert (found["queued"], found["waiting"], found["labelled"]) == (1, 1, 0)
    for rollout_id, score, rater in (("base_q05-0", "0,25", "ana"), ("train_t1-0", "1", "ana")):
        page.goto(f"{demo}/trace_{rollout_id}")
        page.keyboard.press("l")
        page.locator("#score:focus").wait_for()
        page.keyboard.type(score)
        page.get_by_label("rater").fill(rater)
        page.get_by_label("note", exact=True).fill("right, <i>by luck</i>")
        page.keyboard.press("Enter")
        page.wait_for_url("**#label")
        assert "by ana: right, <i>by luck</i>" in page.locator(".ratings").inner_text()
    found = audit(runs_dir / "demo")
    assert (found["queued"], found["waiting"], found["labelled"], found["by_rater"]) == (2, 0, 2, {"ana": 2})
    assert page.get_by_label("rater").input_value() == "ana"  # remembered
    page.get_by_role("button", name="Take back the rating by ana").click()
    page.wait_for_url("**#label")
    page.get_by_role("button", name="Take out of the queue").click()
    page.get_by_role("button", name="Queue for audit").wait_for()
    found = audit(runs_dir / "demo")
    assert (found["queued"], found["waiting"], found["labelled"]) == (1, 0, 1)


def test_a_score_that_is_none_is_said_and_nothing_is_written(
    page: Page, demo: str, runs_dir: Path, complaints: list[str]
) -> None:
    page.goto(f"{demo}/trace_base_q06-0")
    page.locator("#score").fill("very good")
    page.get_by_role("button", name="Save rating").click()
    said = page.get_by_role("alert")
    assert said.inner_text() == "found score 'very good'; allowed: a number from 0 to 1"
    assert "q06" not in "".join(path.read_text() for path in (runs_dir / "demo" / "audit").rglob("*.jsonl"))
    assert "422" in complaints[0]
    complaints.clear()


# --- what models write ---


def test_t17_nothing_that_a_model_writes_is_obeyed(page: Page, url: str) -> None:
    episode = "/runs/nasty/episodes/trace_nasty-0"
    pages = [
        "/runs/nasty/episodes",
        "/episodes?contains=script",
        f"{episode}?contains=script",
        f"{episode}/tokens?turn=1",
        "/runs/nasty/episodes?contains=%3Cscript%3Ewindow.owned%3D1%3C%2Fscript%3E&tool=%22%3E%3Cscript%3E&order=%3Cb%3E",
    ]
    for address in pages:
        page.goto(url + address)
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert page.evaluate("window.owned") is None
        body = page.locator("body")
        assert "<script>" in body.inner_text() or "/tokens" in address or "tool=" in address
        assert (
            page.locator("main script, main img, main b b, main a[href^=javascript], main a[href*=evil]").count() == 0
        )
        text = page.evaluate("document.documentElement.outerHTML")
        assert not set(text) & set("\x1b\x07\x00\u202e\u202c\u2066\u2069")
    page.goto(url + episode)
    for part in (".turns", "#grade"):
        said = page.locator(part).inner_text()
        assert all(each in said for each in ("␛[31mred␇", "[U+202E]back[U+202C]", "[U+200B][U+E0041]", "{{7*7}}"))
    page.get_by_role("link", name="Side by side").click()
    page.wait_for_url("**/items/*")
    assert page.evaluate("window.owned") is None
    assert page.locator(".beside .turn").count() == 6


# --- looks ---


UNNAMED = """
[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")]
  .filter(each => !(each.innerText || "").trim() && !each.ariaLabel && !each.labels?.length && !each.title)
  .map(each => each.outerHTML)
"""
"""What can be reached and has no name."""
ALL = ("episodes", "episode", "episode-nasty", "side-by-side")


@pytest.mark.parametrize(
    ("scheme", "size", "kept"),
    [("light", WIDE, ALL), ("dark", NARROW, ALL), ("dark", WIDE, ALL[1:2]), ("light", NARROW, ALL[:1])],
)
def test_pages_fit_and_are_kept_as_pictures(
    page: Page, url: str, scheme: Any, size: Any, kept: tuple[str, ...]
) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    name = f"{scheme}-{size['width']}"
    addresses = {
        "episodes": "/episodes?contains=revenue&min_score=0",
        "episode": "/runs/demo/episodes/trace_train_t1-0",
        "episode-nasty": "/runs/nasty/episodes/trace_nasty-0",
        "side-by-side": "/runs/demo/items/q02",
    }
    for what in kept:
        page.goto(url + addresses[what])
        if what == "episode":
            page.keyboard.press("t")
            page.locator(".spelled").nth(2).wait_for()
        assert_fits(page)
        assert page.evaluate(UNNAMED) == []
        keep_screenshot(page, f"{what}-{name}")
