"""One page, whatever there is to tell: the least dense of `density.LEVELS` that fits, and the PDF of that HTML."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.brief.density import LEVELS
from agentrl.release.brief.locale import Locale
from agentrl.release.brief.page import brief_page


@dataclass(frozen=True)
class Fitted:
    """A brief of one page in one language."""

    html: str
    pdf: bytes
    level: int
    """Which of `LEVELS` it took; 0 shows the most."""


def fit(twin: Mapping[str, Any], locale: Locale, json_name: str) -> Fitted:
    """The page, and the same page as PDF.

    Raises:
        ConfigError: weasyprint is not installed, or does not find its libraries.
        ReleaseError: even the densest page is more than one.
    """
    found: Fitted | None = None
    first, last = 0, len(LEVELS)
    while first < last:  # each level shows less than the one before it
        level = (first + last) // 2 if found or first else 0
        html = brief_page(twin, locale, LEVELS[level], json_name)
        document = render(html)
        if len(document.pages) == 1:
            # an identifier of its own: the same brief is the same file
            pdf: bytes = document.write_pdf(pdf_identifier=b"agentrl-brief", pdf_tags=True)
            found, last = Fitted(html, pdf, level), level
        else:
            first = level + 1
    if found is None:
        raise ReleaseError(f"the brief in {locale.name} does not fit on one page; its fonts may be unusually wide")
    return found


def render(html: str) -> Any:
    """The document as laid out; nothing is loaded from anywhere.

    Raises:
        ConfigError: weasyprint is not installed, or does not find its libraries.
    """
    try:
        import weasyprint  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(f"a brief needs weasyprint: pip install 'agentrl[release]' ({error})") from None
    except OSError as error:
        libraries = "apt install libpango-1.0-0 libpangoft2-1.0-0"
        raise ConfigError(f"weasyprint does not find the libraries that it draws with: {libraries} ({error})") from None
    logging.getLogger("weasyprint").setLevel(logging.ERROR)  # it warns of every rule that is for screens alone

    class Nothing(weasyprint.urls.URLFetcher):  # type: ignore[misc]
        """Refuses whatever a page asks for; none of ours asks."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            del headers
            raise ValueError(f"a brief loads nothing; found {url}")

    return weasyprint.HTML(string=html, url_fetcher=Nothing()).render()
