"""Semantic search over report pages: embeddings and cosine similarity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from examples.finqa.corpus import Page, render_page
from examples.finqa.embedders import (
    Embedder,
    EmbeddingError,
    OpenAIEmbedder,
    SentenceTransformerEmbedder,
    TfidfSvdEmbedder,
)

__all__ = [
    "Embedder",
    "EmbeddingError",
    "OpenAIEmbedder",
    "SearchIndex",
    "SentenceTransformerEmbedder",
    "TfidfSvdEmbedder",
    "index_text",
    "make_embedder",
]

PAGE_CHARS = 8_000  # what most embedding models read of a page


def index_text(page: Page) -> str:
    """What is indexed: company and year of the path, the page as `cat` shows it, and the table's names once more.

    The names count twice because they say what a page is about, where the prose around them often does not.
    """
    folders = " ".join(page.path.split("/")[:-1]).replace("-", " ")
    names = [*(page.table[0] if page.table else ()), *(row[0] for row in page.table[1:] if row)]
    return f"{folders}\n{' ; '.join(names)}\n{render_page(page)}"


def make_embedder(name: str) -> Embedder:
    """`tfidf`, `sentence-transformers:MODEL` or `openai:MODEL`."""
    kind, _, model = name.partition(":")
    if kind == "tfidf" and not model:
        return TfidfSvdEmbedder()
    if kind == "sentence-transformers" and model:
        return SentenceTransformerEmbedder(model)
    if kind == "openai" and model:
        return OpenAIEmbedder(model)
    raise ValueError(f"unknown embedder {name!r}; allowed: tfidf, sentence-transformers:MODEL, openai:MODEL")


class SearchIndex:
    """The pages' vectors, made once; queries are compared with all of them.

    Raises:
        EmbeddingError: the embedder's model or endpoint failed, here or in `search`.
    """

    def __init__(self, pages: Sequence[Page], embedder: Embedder | None = None):
        self.paths = [page.path for page in pages]
        self.embedder = TfidfSvdEmbedder() if embedder is None else embedder
        texts = [index_text(page) for page in pages]
        if not isinstance(self.embedder, TfidfSvdEmbedder):
            texts = [text[:PAGE_CHARS] for text in texts]
        self.embedder.fit(texts)
        vectors = self.embedder.embed(texts)
        # [D, N], so that a sparse query touches only the rows of its own words
        self._by_feature = vectors.T if isinstance(vectors, np.ndarray) else vectors.T.tocsr()

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """The k nearest pages as (path, cosine similarity), best first; equal scores keep the order of the pages."""
        product = self.embedder.embed([query]) @ self._by_feature
        scores = np.asarray(product if isinstance(product, np.ndarray) else product.toarray()).ravel()
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.paths[i], float(scores[i])) for i in best]
