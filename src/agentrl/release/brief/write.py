"""A release's brief in a language, as three files: the page as HTML and PDF, and all its numbers as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.disk import replacing, write_text
from agentrl.errors import ConfigError
from agentrl.release.brief.fit import fit
from agentrl.release.brief.locale import load_locale
from agentrl.release.brief.records import read_records
from agentrl.release.brief.twin import brief_twin, twin_digest
from agentrl.release.store import Store
from agentrl.runs.files import to_json


@dataclass(frozen=True)
class WrittenBrief:
    """Where it is."""

    html: Path
    pdf: Path
    json: Path
    digest: str
    """Of the twin; the same in every language."""
    level: int
    """How dense the page is: 0 shows the most."""


def write_brief(store: Store, release_id: str, locale: str, folder: Path) -> WrittenBrief:
    """Write RELEASE.LOCALE.html, RELEASE.LOCALE.pdf and RELEASE.json into `folder`, which is made.

    Raises:
        ConfigError: there is no such release or locale, weasyprint is missing, or the folder cannot be written.
        ReleaseError: the store cannot be read, or the page would not be one.
    """
    words = load_locale(locale)
    twin = brief_twin(read_records(store, release_id))
    name = file_name(release_id)
    twin_name = f"{name}.json"
    fitted = fit(twin, words, twin_name)
    html, pdf, json = (folder / each for each in (f"{name}.{locale}.html", f"{name}.{locale}.pdf", twin_name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(json, to_json(_with_digest(twin), indent=2) + "\n")
        write_text(html, fitted.html)
        with replacing(pdf) as file:
            file.write(fitted.pdf)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    return WrittenBrief(html, pdf, json, twin_digest(twin), fitted.level)


def file_name(release_id: str) -> str:
    """The id as a file may be called: no part of a path."""
    kept = "".join(char if char.isalnum() or char in "._-" else "-" for char in release_id)
    return kept.lstrip(".")[:120] or "release"


def _with_digest(twin: dict[str, Any]) -> dict[str, Any]:
    return {**twin, "digest": twin_digest(twin)}
