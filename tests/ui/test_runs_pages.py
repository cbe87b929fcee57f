"""The list of runs, a run followed live and runs compared, in a real browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ui.browsing import NARROW, WIDE, assert_fits, assert_named, expect, keep_screenshot, serving
from tests.ui.made_runs import NASTY, Training, finish, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

Serve = Callable[[Path], str]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs: finished, of another learning rate in a folder, stopped by a guard, interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "first")
    write_run(folder / "sweep" / "second", learning_rate=2e-4, started_at="2026-11-21T17:00:00+00:00")
    stopped = write_run(folder / "stopped", 4, extra={"grad_norm": 150.0})
    finish(stopped, 4, stopped_by="grad_norm")
    stop = {"rule": "grad_norm", "message": "grad_norm is above 100", "step": 4, "repair": "lower it"}
    (stopped / "stop.json").write_text(json.dumps(stop))
    write_run(folder / "left", 2, is_finished=False)
    return folder


@pytest.fixture
def home(serve: Serve, runs_dir: Path) -> str:
    return serve(runs_dir)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    found = Training(tmp_path / "runs" / "now")
    yield found
    found.end()


def listed(page: Page) -> Any:
    return expect(page.locator("table.runs tbody th a"))


def lookup(page: Page) -> None:
    """Lets the time pass after which a page asks for what is new."""
    page.clock.run_for(2100)


# --- the list


def test_the_list_is_sorted_and_filtered_by_the_server(page: Page, home: str) -> None:
    page.goto(home)
    steps = expect(page.locator("th.col-steps"))
    listed(page).to_have_text(["sweep/second", "first", "left", "stopped"])  # the one that was started last is first
    page.get_by_role("link", name="Steps").click()
    steps.to_have_attribute("aria-sort", "descending")
    listed(page).to_have_text(["first", "sweep/second", "stopped", "left"])
    page.locator("#sort-steps").focus()
    page.keyboard.press("Enter")
    steps.to_have_attribute("aria-sort", "ascending")
    listed(page).to_have_text(["left", "stopped", "first", "sweep/second"])
    page.get_by_label("Name contains").fill("SECOND")
    page.keyboard.press("Enter")
    listed(page).to_have_text(["sweep/second"])
    page.get_by_role("link", name="Show all").click()
    listed(page).to_have_count(4)
    page.get_by_label("State").select_option("stopped")
    page.get_by_role("button", name="Filter").click()
    listed(page).to_have_text(["stopped"])
    page.get_by_label("Name contains").fill("nothing like that")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("No run has")


def test_runs_are_selected_and_compared_by_keyboard_alone(page: Page, home: str) -> None:
    page.goto(home)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id || location.hash") in ("main", "#main")
    compare = page.get_by_role("button", name="Compare selected runs")
    assert compare.is_disabled()
    for name in ("first", "sweep/second"):
        page.get_by_label(f"Compare {name}").focus()
        page.keyboard.press("Space")
    page.locator("#sort-name").focus()
    page.keyboard.press("Enter")  # the selection outlives sorting
    page.wait_for_url("**sort=name**")
    expect(page.locator("[data-selected]")).to_have_text("2 selected")
    compare.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare?**")
    expect(page.get_by_role("heading", level=1)).to_have_text("2 runs compared")


def test_without_a_script_the_list_still_sorts_filters_and_compares(browser: Any, home: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(home)
    page.get_by_label("Compare first").check()
    page.get_by_label("Compare stopped").check()
    page.get_by_role("button", name="Compare selected runs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 runs compared")
    assert page.locator("#plot-kl_per_token .curve").count() == 2
    context.close()


# --- one run


def test_a_run_is_followed_while_it_writes(page: Page, serve: Serve, training: Training) -> None:
    training.step()
    page.clock.install()
    page.goto(f"{serve(training.path.parent)}/runs/now")
    bar, points = page.locator(".live-bar"), page.locator("#plot-reward .curve[data-label=train]")
    expect(page.locator(".live-bar")).to_contain_text("live, step 1 of 6, updated")
    with page.expect_response("**/live"):
        lookup(page)
    page.evaluate("document.querySelector('[data-part=records]').firstElementChild.marked = true")
    page.evaluate("window.scrollTo(0, 700)")
    page.locator("#plot-reward svg.plot").focus()
    page.keyboard.press("End")
    before = page.evaluate("window.scrollY")

    writing = threading.Thread(target=lambda: [training.step() for _ in range(3)])
    writing.start()
    writing.join()
    (training.path / "warnings.jsonl").write_text(json.dumps({"step": 4, "rule": "kl", "message": "kl is high"}) + "\n")
    lookup(page)
    expect(page.locator(".live-bar")).to_contain_text("step 4 of 6")
    assert len((points.get_attribute("data-points") or "").split()) == 4
    assert "kl is high" in page.locator("[data-part=guards]").inner_text()
    assert page.evaluate("window.scrollY") == before
    assert page.evaluate("document.activeElement.closest('figure')?.id") == "plot-reward"
    assert "step 1" in page.locator("#plot-reward .readout").inner_text()  # what was pointed at still is
    assert page.evaluate("document.querySelector('[data-part=records]').firstElementChild.marked")
    assert page.get_by_role("status").inner_text() == "Step 4 of 6, validation reward 0.5."

    training.end()
    lookup(page)
    expect(page.locator(".live-bar")).to_contain_text("not running")
    assert page.locator("[data-part=status] .tag").first.inner_text() == "finished"
    assert "The run is finished" in page.get_by_role("status").inner_text()
    assert "live" not in bar.inner_text()


def test_what_is_being_marked_to_copy_stays(page: Page, serve: Serve, training: Training) -> None:
    training.step()
    page.clock.install()
    page.goto(f"{serve(training.path.parent)}/runs/now")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('[data-part=status] .figures'))")
    training.step()
    with page.expect_response("**/live"):
        lookup(page)
    expect(page.locator(".live-bar")).to_contain_text("step 2 of 6")
    latest = page.locator("[data-part=status] .figures dd").nth(1)
    expect(latest).to_have_text("0.250")
    page.evaluate("getSelection().removeAllRanges()")
    lookup(page)
    expect(latest).to_have_text("0.400")


def test_hidden_tabs_do_not_ask_and_ask_at_once_when_they_are_seen(
    page: Page, serve: Serve, training: Training
) -> None:
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{serve(training.path.parent)}/runs/now")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true")
    asked.clear()
    page.clock.run_for(60_000)
    assert asked == []
    assert "paused" in page.locator(".live-bar").inner_text()
    with page.expect_response("**/live"):
        page.evaluate(hide % "false")


def test_a_page_outlives_its_server(page: Page, training: Training, complaints: list[str]) -> None:
    training.step()
    with serving(training.path.parent) as address:
        page.clock.install()
        page.goto(f"{address}/runs/now")
        with page.expect_response("**/live"):
            lookup(page)
    lookup(page)
    expect(page.locator(".live-bar")).to_contain_text("does not answer")
    training.step()
    with serving(training.path.parent, port=int(address.rpartition(":")[2])):
        page.clock.run_for(4100)
        expect(page.locator(".live-bar")).to_contain_text("step 2 of 6")
    assert complaints
    complaints.clear()  # of the browser, about the connection


def test_the_guards_of_a_stopped_run_say_why(page: Page, home: str) -> None:
    page.goto(f"{home}/runs/stopped")
    assert "Stopped by grad_norm after step 4" in page.get_by_role("group", name="Stopped").inner_text()
    page.get_by_role("link", name="stopped by grad_norm").click()
    first = page.locator("table.guards tbody tr").first
    assert first.locator("th").inner_text().startswith("grad_norm")
    assert [re.sub(r"\s+", " ", text) for text in first.locator("td").all_inner_texts()] == [
        "stopped", "150step 4", "never", "above 100",
    ]  # fmt: skip


def test_values_can_be_read_by_keyboard(page: Page, home: str) -> None:
    page.goto(f"{home}/runs/first")
    page.locator("#plot-entropy svg.plot").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    readout = page.locator("#plot-entropy .readout")
    assert readout.inner_text().split("\n") == ["step 2", "0.5"]
    page.keyboard.press("Escape")
    assert readout.inner_text() == ""
    label = page.locator("#plot-entropy svg.plot").get_attribute("aria-label")
    assert label == "Entropy, nats per token by step. 1 at step 1 to 0.1667 at step 6."


# --- downloads


def test_a_plot_is_downloaded_as_its_numbers(page: Page, home: str) -> None:
    page.goto(f"{home}/runs/first")
    with page.expect_download() as download:
        page.get_by_role("link", name="Reward as CSV").click()
    lines = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    drawn = page.locator("#plot-reward .curve").evaluate_all(
        "curves => Object.fromEntries(curves.map(each => [each.dataset.label, each.dataset.points]))"
    )
    for label, key in (("validation", "reward_validation"), ("train", "reward_train"), ("train, score", "score_train")):
        told = {float(line["step"]): float(line[key]) for line in lines if line[key]}
        shown = dict(tuple(map(float, pair.split(","))) for pair in drawn[label].split())
        assert shown == pytest.approx(told)
    assert lines[0]["reward_validation_low"] == "0.15"  # the baseline's


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_plot_is_downloaded_as_a_picture(page: Page, home: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{home}/runs/first")
    with page.expect_download() as download:
        page.get_by_role("button", name="Reward as PNG").click()
    assert download.value.suggested_filename == "first-reward.png"
    picture = download.value.path().read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, colours, corner = page.evaluate(LOOK_AT, base64.b64encode(picture).decode())
    assert (width, height > 500) == (1120, True)
    assert corner == ([255, 255, 255, 255] if scheme == "light" else [20, 23, 27, 255])
    curve = [37, 99, 201, 255] if scheme == "light" else [110, 168, 255, 255]  # --s0: styles are in the picture
    assert curve in colours
    assert len(colours) > 20


LOOK_AT = """async (base64) => {
  const image = new Image();
  image.src = "data:image/png;base64," + base64;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const pixels = new Uint32Array(pen.getImageData(0, 0, image.width, image.height).data.buffer);
  const parts = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255, pixel >>> 24];
  return [image.width, image.height, [...new Set(pixels)].map(parts), parts(pixels[0])];
}"""


# --- compared


def test_runs_are_compared_on_the_same_axes(page: Page, home: str) -> None:
    page.goto(f"{home}/compare?runs=first&runs=sweep%2Fsecond&runs=stopped")
    figure = page.locator("#plot-reward_validation")
    assert figure.locator(".key").all_inner_texts() == ["first", "sweep/second", "stopped"]
    looks = figure.locator(".curve .line").evaluate_all(
        "lines => lines.map(each => [getComputedStyle(each).stroke, getComputedStyle(each).strokeDasharray])"
    )
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == 3
    changed = page.locator("table.changes tbody tr").all_inner_texts()
    assert ["ppo.learning_rate", "0.0001", "0.0002", "0.0001"] in [re.split(r"\s+", line.strip()) for line in changed]
    page.get_by_role("link", name="time", exact=True).click()
    page.wait_for_url("**x=minutes**")
    label = page.locator("#plot-reward_train svg.plot").get_attribute("aria-label") or ""
    assert "first: 0.35 at minutes 0.25 to 0.6 at minutes 1.75" in label
    with page.expect_download() as download:
        page.get_by_role("link", name="Reward: train as CSV").click()
    heads, *lines = csv.reader(io.StringIO(download.value.path().read_text()))
    assert heads == ["minutes", "first", "sweep/second", "stopped"]
    assert [float(cell) for cell in lines[0]] == pytest.approx([0.25, 0.35, 0.35, 0.35])


def test_a_comparison_needs_two_runs(page: Page, home: str) -> None:
    page.goto(f"{home}/compare?runs=first")
    assert "first alone is not a comparison" in page.locator("main").inner_text()


# --- what runs may say


def test_nothing_that_a_run_says_is_obeyed(page: Page, serve: Serve, tmp_path: Path) -> None:
    name = NASTY.replace("/", "|").replace("\x07", "")
    run = write_run(tmp_path / name, extra={NASTY: 0.5, f"tool_calls_{NASTY}": 1.0}, config={"name": NASTY})
    write_run(tmp_path / "plain")
    stop = dict.fromkeys(("rule", "message", "repair", "checkpoint", "step"), NASTY)
    (run / "stop.json").write_text(json.dumps(stop))
    finish(run, 6, stopped_by=NASTY)
    (run / "warnings.jsonl").write_text(json.dumps(dict.fromkeys(("step", "rule", "message", "repair"), NASTY)) + "\n")
    manifest = {"started_at": NASTY, "git_commit": NASTY, "versions": {NASTY: NASTY}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    address = serve(tmp_path)
    page.goto(address)
    page.locator("table.runs tbody th a").filter(has_text="owned").click()
    assert "<script>window.owned=1" in page.get_by_role("heading", level=1).inner_text()
    assert "\u241b[31m" in page.content()
    assert "\x1b" not in page.content()
    assert "\u202e" not in page.content()
    page.locator("details#other summary").click()
    with page.expect_download() as download:
        page.locator("details#other a.button").first.click()
    heads = next(csv.reader(io.StringIO(download.value.path().read_text())))
    assert not heads[1].startswith(("=", "+", "-", "@"))
    page.goto(address)
    for box in page.locator("input[name=runs]").all():
        box.check()
    page.get_by_role("button", name="Compare selected runs").click()
    page.wait_for_url("**/compare?**")
    assert page.locator("#plot-reward_train .key").count() == 2
    assert page.evaluate("window.owned") is None
    assert page.locator("main script, main img").count() == 0


# --- how it looks


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", NARROW)], ids=["light-1280", "dark-390"])
def test_pages_fit_in_both_schemes_and_all_has_a_name(page: Page, home: str, scheme: Any, size: Any) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    pages = {"runs": "/", "run": "/runs/stopped", "compare": "/compare?runs=first&runs=sweep/second&runs=stopped"}
    for name, path in pages.items():
        page.goto(f"{home}{path}")
        assert_fits(page)
        assert_named(page)
        keep_screenshot(page, f"{name}-{size['width']}-{scheme}")


def test_a_directory_without_runs_says_how_to_make_one(page: Page, serve: Serve, tmp_path: Path) -> None:
    address = serve(tmp_path)
    page.goto(address)
    assert "There is no run in this directory yet" in page.locator("main").inner_text()
    assert f"agentrl train CONFIG --run-dir {tmp_path}/NAME" in page.locator("main").inner_text()


def test_the_first_run_of_a_directory_ends_the_empty_page(page: Page, serve: Serve, tmp_path: Path) -> None:
    page.clock.install()
    page.goto(serve(tmp_path))
    expect(page.locator("main")).to_contain_text("There is no run")
    write_run(tmp_path / "first", 2)
    for _ in range(50):  # the server looks for runs in its own time
        page.clock.run_for(15_100)
        if page.locator("table.runs").count():
            break
        page.wait_for_timeout(200)
    listed(page).to_have_text(["first"])
    expect(page.locator("main")).not_to_contain_text("There is no run")
    expect(page.get_by_role("button", name="Compare selected runs")).to_be_visible()
