"""`serve` starts servers, `page` is a page in a real browser. A test that takes `page` also states that nothing was
loaded from elsewhere and that no script complained.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ui.browsing import WIDE, is_local, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 10_000


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Starts servers that live until the file's tests are done; one a directory."""
    with ExitStack() as servers:
        known: dict[Path, str] = {}

        def start(runs_dir: Path) -> str:
            if runs_dir not in known:
                known[runs_dir] = servers.enter_context(serving(runs_dir))
            return known[runs_dir]

        yield start


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the tests of a file. Not for all: while it lives, its event loop keeps other tests from theirs."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=options)
        except sync_api.Error as error:
            pytest.skip(f"no browser: install chromium, or run `playwright install chromium` ({str(error)[:200]})")
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What pages said on their consoles; a test that provokes some takes and clears it."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """A page of 1280 pixels without a past. Fails its test where a request left this machine or a script complained."""
    context = browser.new_context(viewport=WIDE, accept_downloads=True)  # type: ignore[arg-type]
    context.set_default_timeout(TIMEOUT_MS)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert [url for url in asked if not is_local(url)] == []
    assert complaints == []
