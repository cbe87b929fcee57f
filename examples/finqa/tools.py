"""What the agent may do: search, list, cat and calculate, each answering with a text of limited length.

`FinqaTools.call` is what the server runs; demonstrations and tests call it without HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from examples.finqa.calculator import calculate
from examples.finqa.corpus import Corpus, page_title, render_page
from examples.finqa.embedders import Embedder, OpenAIEmbedder
from examples.finqa.search import SearchIndex

ARGUMENTS = MappingProxyType({"search": "query", "list": "path", "cat": "path", "calculate": "expression"})
MAX_OUTPUT_CHARS = MappingProxyType({"search": 1_000, "list": 1_000, "cat": 10_000, "calculate": 200})
MAX_CHILDREN = 50
CUT = "... cut"


class FinqaTools:
    """The four tools over one corpus.

    Args:
        top_k: results of a search.
        max_output_chars: overrides of `MAX_OUTPUT_CHARS`, by tool.
        embedder: how search compares texts; TF-IDF with SVD where not given.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        top_k: int = 3,
        max_output_chars: Mapping[str, int] | None = None,
        embedder: Embedder | None = None,
    ):
        self.top_k = top_k
        self.max_output_chars = {**MAX_OUTPUT_CHARS, **(max_output_chars or {})}
        if unknown := set(self.max_output_chars) - set(ARGUMENTS):
            raise ValueError(f"unknown tool {min(unknown)!r}; allowed: {', '.join(ARGUMENTS)}")
        self.waits_for_network = isinstance(embedder, OpenAIEmbedder)
        self._pages = {page.path: page for page in corpus.pages}
        self._titles = {page.path: page_title(page) for page in corpus.pages}
        self._index = SearchIndex(corpus.pages, embedder)
        children: dict[str, dict[str, None]] = {}  # dicts, for their order
        for path in sorted(self._pages):
            parts = path.split("/")
            for depth in range(len(parts)):
                children.setdefault("/".join(parts[:depth]), {})["/".join(parts[: depth + 1])] = None
        self._children = {folder: list(entries) for folder, entries in children.items()}
        self._by_plain_name = {_plain(path): path for path in (*self._children, *self._pages)}
        self._tools: dict[str, Callable[[str], str]] = {
            "search": self._search,
            "list": self._list,
            "cat": self._cat,
            "calculate": calculate,
        }

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Run one tool. A mistake of the caller's is answered by a text that starts with "error:".

        Raises:
            EmbeddingError: the embeddings endpoint failed, which is nobody's mistake here.
        """
        if name not in self._tools:
            return f"error: no tool {name[:40]!r}; tools are {', '.join(ARGUMENTS)}"
        key = ARGUMENTS[name]
        value = arguments.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            return f"error: {name} needs the text argument {key!r}"
        try:
            output = self._tools[name](value.strip())
        except ValueError as error:
            output = f"error: {error}"
        return _cut(output, self.max_output_chars[name])

    def _search(self, query: str) -> str:
        if not query:
            raise ValueError("empty query")
        found = [path for path, score in self._index.search(query, self.top_k) if score > 0]
        return "\n".join(f"{path}: {self._titles[path]}" for path in found) or "no page found"

    def _list(self, path: str) -> str:
        folder = self._find(path, self._children)
        if folder is None:
            if self._find(path, self._pages) is not None:
                raise ValueError(f"{path[:80]} is a page; read it with cat")
            raise ValueError(f"no folder {path[:80]!r}; an empty path lists the companies")
        entries = self._children[folder]
        hidden = len(entries) - MAX_CHILDREN
        return "\n".join([*entries[:MAX_CHILDREN], *([f"... {hidden} more"] if hidden > 0 else [])])

    def _cat(self, path: str) -> str:
        found = self._find(path, self._pages)
        if found is None:
            if self._find(path, self._children) is not None:
                raise ValueError(f"{path[:80] or '/'} is a folder; see its pages with list")
            raise ValueError(f"no page {path[:80]!r}; search for its path")
        return render_page(self._pages[found])

    def _find(self, path: str, among: Mapping[str, object]) -> str | None:
        """The exact path, or the one that differs in case, in outer slashes or in ".pdf" only."""
        if path in among:
            return path
        near = self._by_plain_name.get(_plain(path))
        return near if near in among else None


def _plain(path: str) -> str:
    return path.strip("/").casefold().removesuffix(".pdf")


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters and a mark. Cut between words: half a number would be another number."""
    if len(text) <= limit:
        return text
    kept = text[: limit + 1]
    place = max(kept.rfind(" "), kept.rfind("\n"))
    return f"{kept[: max(place, 0)].rstrip()}\n{CUT}"
