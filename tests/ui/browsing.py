"""A server of the pages on a free port of this machine, and what is asked of every page."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def serving(runs_dir: Path, port: int = 0) -> Iterator[str]:
    """The address of a server of that directory; port 0 is any."""
    pytest.importorskip("duckdb", reason="the extra agentrl[ui] is not installed")
    import uvicorn

    from agentrl.ui.app import create_app

    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(runs_dir), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


def is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname == "127.0.0.1"


def expect(found: Any) -> Any:
    """Playwright's assertions, which wait for what they state."""
    from playwright.sync_api import expect as waiting

    return waiting(found)


def keep_screenshot(page: Page, name: str) -> Path:
    """The whole page as build/screenshots/NAME.png."""
    path = SCREENSHOTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=True)
    return path


def assert_fits(page: Page) -> None:
    """Nothing has to be scrolled sideways to be read, but for what scrolls in itself."""
    width, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= shown, f"{page.url} is {width} pixels wide in a window of {shown}"


def assert_named(page: Page) -> None:
    """Whatever can be reached by keyboard has a name for whoever does not see it, and no two things have one id."""
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(TWICE) == []


NAMELESS = """
[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")]
  .filter((each) => !(each.innerText || "").trim() && !each.ariaLabel && !each.labels?.length && !each.title)
  .map((each) => each.outerHTML)"""
TWICE = "(ids => ids.filter((id, n) => ids.indexOf(id) !== n))([...document.querySelectorAll('[id]')].map((e) => e.id))"
