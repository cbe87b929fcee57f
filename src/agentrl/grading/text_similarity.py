"""`type: text_similarity`: how alike two texts are, from 0 to 1, by the usual measures of the usual libraries.

Hosted graders do not say with which options they compute theirs; docs/graders.md says with which we do. Only the first
characters of a text count (`MAX_CHARS`): the time of some measures grows with the product of the lengths or faster, and
one of the texts is the model's.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from agentrl.config.graders import TextSimilarityConfig
from agentrl.grading.extras import extra, versions_of
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.submission import Submission
from agentrl.grading.templates import MissingValue, render
from agentrl.types import Grade

Measure = Callable[[str, str], float]
"""(answer, reference) -> similarity."""
MAX_CHARS = {"fuzzy_match": 4_000, "meteor": 10_000}
"""By metric; the others read `MAX_CHARS_OF_OTHERS`."""
MAX_CHARS_OF_OTHERS = 100_000
LIBRARIES = {"fuzzy_match": ("rapidfuzz",), "rouge_l": ("rouge-score", "rapidfuzz")}


class TextSimilarityGrader:
    """Compares two templates by one measure.

    Raises:
        ConfigError: the measure's library is not installed.
    """

    def __init__(self, config: TextSimilarityConfig) -> None:
        self._config = config
        self._measure, metric = measure_of(config.evaluation_metric), config.evaluation_metric
        self._max_chars = MAX_CHARS.get(metric, MAX_CHARS_OF_OTHERS)
        libraries = LIBRARIES.get(metric, ("rouge-score",) if metric.startswith("rouge") else ("nltk",))
        has_synonyms = metric == "meteor" and wordnet() is not None
        self.version = content_version(config, libraries=versions_of(*libraries), has_synonyms=has_synonyms)

    def __repr__(self) -> str:
        return f"TextSimilarityGrader({self._config.evaluation_metric})"

    async def aclose(self) -> None:
        """Nothing is held."""

    async def grade(self, submission: Submission) -> Grade:
        started = time.perf_counter()
        try:
            text = render(self._config.input, submission)
            reference = render(self._config.reference, submission)
        except MissingValue as missing:
            return missing.grade()
        is_cut = max(len(text), len(reference)) > self._max_chars
        text, reference = text[: self._max_chars], reference[: self._max_chars]
        score = await asyncio.to_thread(self._measure, text, reference)
        seconds = time.perf_counter() - started
        if not math.isfinite(score):
            return ungraded(f"{self._config.evaluation_metric}: found {score}", "other_error", seconds=seconds)
        says = f"{self._config.evaluation_metric} {score:.3f}"
        cut = f", of the first {self._max_chars:,} characters" if is_cut else ""
        return Grade(min(1.0, max(0.0, score)), seconds=seconds, explanation=says + cut)


@cache
def measure_of(metric: str) -> Measure:
    """The function that computes a metric.

    Raises:
        ConfigError: its library is not installed.
        KeyError: there is no such metric here, such as cosine.
    """
    if metric.startswith("rouge_"):
        return _rouge(metric.removeprefix("rouge_"))
    return {"fuzzy_match": _fuzzy_match, "bleu": _bleu, "gleu": _gleu, "meteor": _meteor}[metric]()


def _fuzzy_match() -> Measure:
    """rapidfuzz's WRatio over texts in lower case and without punctuation, over 100."""
    fuzz, utils = extra("rapidfuzz.fuzz", "fuzzy_match"), extra("rapidfuzz.utils", "fuzzy_match")
    return lambda text, reference: fuzz.WRatio(text, reference, processor=utils.default_process) / 100


def _bleu() -> Measure:
    """BLEU-4 of a sentence (Papineni et al. 2002); counts of 0 are 0.1, and an answer of fewer than four words is
    measured by the n-grams that it has."""
    bleu = extra("nltk.translate.bleu_score", "bleu")
    smoothing = bleu.SmoothingFunction().method1
    return lambda text, reference: float(
        bleu.sentence_bleu([_words(reference)], _words(text), smoothing_function=smoothing, auto_reweigh=True)
    )


def _gleu() -> Measure:
    """Google's BLEU for single sentences: the lesser of precision and recall over 1- to 4-grams (Wu et al. 2016)."""
    gleu = extra("nltk.translate.gleu_score", "gleu")
    return lambda text, reference: float(gleu.sentence_gleu([_words(reference)], _words(text)))


def _meteor() -> Measure:
    """METEOR (Banerjee and Lavie 2005): equal words, then equal stems, then synonyms where WordNet is installed."""
    meteor = extra("nltk.translate.meteor_score", "meteor")
    synonyms = wordnet() or _NoSynonyms()
    return lambda text, reference: float(meteor.meteor_score([_words(reference)], _words(text), wordnet=synonyms))


def _rouge(order: str) -> Measure:
    """F-measure of rouge-score, without stemming: n-grams, or the longest common subsequence for "l"."""
    what = f"rouge_{order}"
    if order != "l":
        scorer = extra("rouge_score.rouge_scorer", what).RougeScorer([f"rouge{order}"], use_stemmer=False)
        return lambda text, reference: float(scorer.score(reference, text)[f"rouge{order}"].fmeasure)
    tokenize, scoring = extra("rouge_score.tokenize", what), extra("rouge_score.scoring", what)
    longest = extra("rapidfuzz.distance", what).LCSseq.similarity  # rouge-score's own fills a table of all pairs

    def rouge_l(text: str, reference: str) -> float:
        ours, theirs = tokenize.tokenize(text, None), tokenize.tokenize(reference, None)
        if not ours or not theirs:
            return 0.0
        common = longest(ours, theirs)
        return float(scoring.fmeasure(common / len(ours), common / len(theirs)))

    return rouge_l


def _words(text: str) -> list[str]:
    """Words and marks apart: "don't go." -> don ' t go ."""
    words: list[str] = extra("nltk.tokenize", "words").wordpunct_tokenize(text)
    return words


class _NoSynonyms:
    """What METEOR asks where WordNet is not installed."""

    def synsets(self, word: str) -> list[Any]:
        del word
        return []


@cache
def wordnet() -> Any:
    """WordNet as nltk finds it on this machine, or None; nothing is downloaded."""
    corpus = extra("nltk.corpus", "meteor").wordnet
    try:
        corpus.ensure_loaded()
    except LookupError:
        return None
    return corpus
