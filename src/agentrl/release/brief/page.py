"""The twin in one language, as HTML: no script, nothing that is loaded, and nothing that a model wrote but text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from agentrl.printable import visible
from agentrl.release.brief.density import Density, chosen_gates, clipped, head
from agentrl.release.brief.figure import is_figure
from agentrl.release.brief.locale import DASH, Locale
from agentrl.release.brief.marks import interval_mark, sign, sparkline

BADGES = {
    "general": "pass",
    "canary": "inconclusive",
    "shadow": "inconclusive",
    "offline_eval": "inconclusive",
    "draft": "missing",
    "rejected": "fail",
    "rolled_back": "fail",
    "superseded": "missing",
}
"""The sign beside a release's state."""


def brief_page(twin: Mapping[str, Any], locale: Locale, density: Density, json_name: str) -> str:
    """One HTML document.

    Args:
        json_name: of the twin's file, which the page names.
    """
    blocks = {name: _placed(block, name) for name, block in twin.items() if isinstance(block, Mapping)}
    words = Words(locale, density)
    template = _environment().from_string(_file("page.html.jinja"))
    return template.render(
        **blocks,
        w=words,
        locale=locale,
        density=density,
        css=Markup(_file("page.css")),
        json_name=json_name,
        badge=BADGES.get(twin["header"]["state"], "missing"),
        sign=sign,
        mark=interval_mark,
        spark=sparkline,
        gate_rows=chosen_gates(blocks["gates"]["rows"], density.gates),
        head=head,
        dash=DASH,
    )


class Words:
    """What the template says: sentences of the language, figures, names of others."""

    def __init__(self, locale: Locale, density: Density) -> None:
        self.locale = locale
        self.density = density

    def __call__(self, key: str, /, **values: Any) -> Markup:
        """A sentence; a figure in it is told with its unit, a text as a name."""
        return self.locale.say(key, **{name: self.told(value) for name, value in values.items()})

    def told(self, value: Any) -> Markup:
        """A figure, markup of ours, or a name that others gave."""
        if isinstance(value, Markup):
            return value
        return self.figure(value) if isinstance(value, Mapping) else self.name(str(value))

    def figure(self, figure: Mapping[str, Any]) -> Markup:
        """A number as the country writes it; its exact value and its place in the JSON are in the markup."""
        text = escape(self.locale.show(figure))
        if figure["value"] is None:
            return Markup('<span class="none">{}</span>').format(text)
        kind = "time" if figure["unit"] == "date" else "data"
        return Markup('<data class="{}" value="{}" data-key="{}">{}</data>').format(
            kind, repr(figure["value"]), figure["key"], text
        )

    def name(self, text: str, chars: int | None = None) -> Markup:
        """What people, files or models are called; clipped where it is long."""
        return _quoted(clipped(text, chars or self.density.name_chars))

    def text(self, text: str, chars: int | None = None) -> Markup:
        """A sentence of others."""
        return _quoted(clipped(text, chars or self.density.text_chars))

    def digest(self, text: str) -> Markup:
        """The beginning of a digest."""
        return (
            Markup('<code class="id">{}</code>').format(visible(text.removeprefix("sha256:")[:12]))
            if text
            else Markup(DASH)
        )

    def listed(self, items: Sequence[Any], count: int | None = None) -> Markup:
        """Names with commas, as many as there is room for, and how many more there are."""
        shown, left = head(items, count or self.density.listed)
        parts = [self.told(item) for item in shown]
        return Markup(", ").join([*parts, self.more(left)] if left else parts)

    def listed_words(self, key: str, names: Iterable[str]) -> Markup:
        """Words of the language with commas."""
        return Markup(", ").join(self.locale.word(f"{key}.{name}") for name in names)

    def more(self, left: int) -> Markup:
        """How many rows are left out; nothing where none is."""
        return self.cut("more", left) if left else Markup()

    def cut(self, key: str, left: int) -> Markup:
        """A number of what is left out, in these words; it is counted on the page and of no record."""
        count = Markup('<data class="cut" value="{}">{}</data>').format(left, self.locale.number(left, 0))
        return Markup('<span class="more">{}</span>').format(self.locale.say(key, n=count))

    def versions(self, labels: Sequence[Mapping[str, str]]) -> Markup:
        """Parts of a bundle by name, version and digest."""
        shown, left = head(labels, self.density.versions)
        parts = [
            Markup("{} {}").format(
                self.name(" ".join(filter(None, (label["name"], label["version"]))), self.density.version_chars),
                Markup('<code class="id">{}</code>').format(visible(label["digest"][:8])),
            )
            for label in shown
        ]
        told = Markup(", ").join([*parts, self.cut("plus", left)] if left else parts)
        return told or Markup("{}").format(self.locale.word("change.none"))

    def sentence(self, key: str, header: Mapping[str, Any]) -> Markup:
        """What the release is, in one sentence."""
        return self(f"headline.{key}", since=header["since"], share=header["share"])


def _quoted(text: str) -> Markup:
    """Text of others: escaped, and what would not be seen, or would be obeyed, as a symbol."""
    return Markup('<span class="id">{}</span>').format(visible(" ".join(text.split())))


def _placed(part: Any, path: str) -> Any:
    """The same with `key` in every figure: its place in the twin."""
    if is_figure(part):
        return {**part, "key": path}
    if isinstance(part, Mapping):
        return {key: _placed(value, f"{path}.{key}") for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_placed(value, f"{path}.{index}") for index, value in enumerate(part)]
    return part


@cache
def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
