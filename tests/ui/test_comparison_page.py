"""compare.html in a real browser, opened from disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrl.evaluation.comparison import compare
from tests.evaluation.test_comparison import A, B, evil
from tests.ui.browsing import NARROW, WIDE, assert_fits, expect, keep_screenshot

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


NAMELESS = """[...document.querySelectorAll("summary, [tabindex], [role=img], [role=region]")]
  .filter((each) => !each.textContent.trim() && !each.ariaLabel).map((each) => each.outerHTML)"""
"""Also inside of what is folded."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two policies whose every text is hostile."""
    return compare(evil(A), evil(B)).write(tmp_path_factory.mktemp("out"), episodes=2) / "compare.html"


def opened(browser: Browser, file: Path, **context: Any) -> tuple[Page, list[str]]:
    """The page, and what it asked for or complained of beside itself."""
    page, found = browser.new_context(**context).new_page(), list[str]()
    page.on("request", lambda request: found.append(request.url) if request.url != file.as_uri() else None)
    page.on("console", lambda said: found.append(said.text))
    page.on("dialog", lambda dialog: (found.append("a script ran"), dialog.dismiss()))
    page.goto(file.as_uri())
    return page, found


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["1280", "390"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_from_disk_at_any_size_and_in_both_schemes(
    size: dict[str, int], scheme: str, browser: Browser, file: Path
) -> None:
    page, found = opened(browser, file, viewport=size, color_scheme=scheme)
    assert_fits(page)
    assert page.evaluate(NAMELESS) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.get_by_role("img").count() == 3
    assert found == []
    keep_screenshot(page, f"compare-{size['width']}-{scheme}")
    page.context.close()


def test_episodes_are_opened_with_the_keyboard(browser: Browser, file: Path) -> None:
    page, found = opened(browser, file, viewport=WIDE)
    items = page.locator("details.part")
    expect(items.nth(0)).to_have_attribute("open", "")
    expect(items.nth(1).locator("article").first).to_be_hidden()
    items.nth(1).locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(items.nth(1).locator("article").first).to_be_visible()
    assert items.nth(1).locator("article").count() == 2
    assert found == []
    page.context.close()
