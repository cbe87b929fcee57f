"""Text to unit vectors: the offline TF-IDF embedder, and two optional ones that need a model or an endpoint."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import httpx
import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

Vectors: TypeAlias = Any
"""[N, D] float32 with rows of length 1 (or 0 for a text without known words): an array or a scipy CSR matrix."""

# Words (with a number of their own: "company3") and years; figures find no pages.
WORD = re.compile(r"[a-z]+(?:(?!(?:19|20)\d\d)\d+)?|(?<![\d.,])(?:19|20)\d\d(?![\d.,]*\d)")
STOP_WORDS = frozenset(
    """a an and are as at be by did do does during for from had has have how if in is it its many much of on or
    s than that the to was were what when which with""".split()
)
SUFFIXES = {"ies": "y", "sses": "ss", "ments": "ment", "ings": "", "ing": "", "ed": "", "es": "e", "s": ""}


class EmbeddingError(RuntimeError):
    """The embedder's model or endpoint is missing or failed."""


class Embedder(Protocol):
    """Pages and queries pass through the same `embed`; `fit` sees the pages once."""

    def fit(self, texts: Sequence[str]) -> None: ...

    def embed(self, texts: Sequence[str]) -> Vectors: ...


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A light suffix stripper, so that "leases" finds "lease"."""
    for suffix, instead in SUFFIXES.items():
        if word.endswith(suffix) and not word.endswith("ss") and len(word) - len(suffix) >= 3:
            return word[: len(word) - len(suffix)] + instead
    return word


def single_words(text: str) -> list[list[str]]:
    """The stems of each line, without stop words."""
    return [[stem(word) for word in WORD.findall(line) if word not in STOP_WORDS] for line in text.lower().split("\n")]


def word_pairs(lines: list[list[str]]) -> Iterator[str]:
    """Neighbours and next-but-one neighbours in either order: "net revenue change" is near "change in net revenue"."""
    for line in lines:
        for distance in (1, 2):
            for one, other in zip(line, line[distance:], strict=False):
                yield f"{one} {other}" if one < other else f"{other} {one}"


class TfidfSvdEmbedder:
    """TF-IDF over words and over word pairs, each of unit length, and truncated-SVD topics beside them.

    Exact words carry most of the weight. The topics join different words for the same thing; they are left out where
    there are too few pages to learn them from (`n_topics` * 4). A term's weight is (1 + ln count) * idf with
    idf = ln((1 + pages) / (1 + pages that hold it)) + 1, scikit-learn's smoothed form.
    """

    def __init__(self, n_topics: int = 128, *, pair_weight: float = 0.9, topic_weight: float = 0.45, seed: int = 0):
        self.n_topics, self.pair_weight, self.topic_weight, self.seed = n_topics, pair_weight, topic_weight, seed
        self._columns: dict[str, int] = {}
        self._idf: list[float] = []
        self._topics: NDArray[np.float32] | None = None  # [n_topics, terms]

    def fit(self, texts: Sequence[str]) -> None:
        n_pages_with = Counter(term for text in texts for part in _parts(text) for term in set(part))
        self._columns = {term: column for column, term in enumerate(sorted(n_pages_with))}
        self._idf = [math.log((1 + len(texts)) / (1 + n_pages_with[term])) + 1 for term in self._columns]
        self._topics = None
        if len(texts) >= 4 * self.n_topics and len(self._columns) > self.n_topics:
            from sklearn.decomposition import TruncatedSVD  # type: ignore[import-untyped]
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

            with threadpool_limits(1):  # small products: more threads only wait for each other beside a trainer
                svd = TruncatedSVD(self.n_topics, n_iter=3, random_state=self.seed).fit(self.embed(texts))
            self._topics = svd.components_.astype(np.float32)

    def embed(self, texts: Sequence[str]) -> Vectors:
        columns: list[int] = []
        weights: list[float] = []
        starts = [0]
        for text in texts:
            row: dict[int, float] = {}
            for part, part_weight in zip(_parts(text), (1.0, self.pair_weight), strict=True):
                counts = Counter(self._columns[term] for term in part if term in self._columns)
                terms = {column: (1 + math.log(count)) * self._idf[column] for column, count in counts.items()}
                row |= _scaled(terms, part_weight)
            columns += row
            weights += _scaled(row, 1.0).values()
            starts.append(len(columns))
        shape = (len(texts), len(self._columns))
        vectors = sparse.csr_matrix((np.asarray(weights, np.float32), columns, starts), shape=shape)
        return vectors if self._topics is None else self._with_topics(vectors, self._topics)

    def _with_topics(self, vectors: Vectors, topics: NDArray[np.float32]) -> Vectors:
        placed = _unit_rows(vectors @ topics.T) * self.topic_weight
        joined = sparse.hstack([vectors, placed], format="csr", dtype=np.float32)
        return joined * np.float32(1 / math.hypot(1, self.topic_weight))


def _parts(text: str) -> tuple[Iterable[str], Iterable[str]]:
    lines = single_words(text)
    return (word for line in lines for word in line), word_pairs(lines)


def _scaled(row: dict[int, float], length: float) -> dict[int, float]:
    scale = length / (math.sqrt(sum(weight * weight for weight in row.values())) or 1.0)
    return {column: weight * scale for column, weight in row.items()}


class SentenceTransformerEmbedder:
    """A sentence-transformers model, by name or folder."""

    def __init__(self, model: str):
        try:
            from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]
        except ImportError:
            raise EmbeddingError("sentence-transformers is not installed: pip install sentence-transformers") from None
        self._model: Any = SentenceTransformer(model)

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn: the model is pre-trained."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return _unit_rows(self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False))


class OpenAIEmbedder:
    """An OpenAI-compatible `/embeddings` endpoint; the key is read from the environment variable `key_env`."""

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        base_url: str = "https://api.openai.com/v1",
        key_env: str = "OPENAI_API_KEY",
        batch_size: int = 128,
        client: httpx.Client | None = None,
    ):
        if not os.environ.get(key_env):
            raise EmbeddingError(f"environment variable {key_env} is not set; it holds the key of {base_url}")
        self.model, self.key_env, self.batch_size = model, key_env, batch_size
        self.url = f"{base_url.rstrip('/')}/embeddings"
        self._client = client or httpx.Client(timeout=30)

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn: the model is pre-trained."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows: list[list[float]] = []
        for start in range(0, len(texts), self.batch_size):
            body = {"model": self.model, "input": list(texts[start : start + self.batch_size])}
            headers = {"Authorization": f"Bearer {os.environ.get(self.key_env, '')}"}
            try:
                response = self._client.post(self.url, json=body, headers=headers).raise_for_status()
                found = sorted(response.json()["data"], key=lambda item: item["index"])
                rows += [item["embedding"] for item in found]
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                raise EmbeddingError(f"{self.url}: {error}") from error
        return _unit_rows(np.asarray(rows))


def _unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    rows = rows.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)
