"""Known answers, computed by hand from the papers' definitions, and bounds on what a text can cost."""

from __future__ import annotations

import asyncio
import math
import random
import sys
from typing import Any

import pytest

from agentrl.config.graders import TextSimilarityConfig
from agentrl.errors import ConfigError
from agentrl.grading import Submission, build_declared
from agentrl.grading.text_similarity import MAX_CHARS, measure_of, wordnet
from agentrl.types import Grade

METRICS = ("fuzzy_match", "bleu", "gleu", "meteor", *(f"rouge_{n}" for n in "12345l"))


def grade(metric: str, answer: str, reference: str) -> Grade:
    fields: dict[str, Any] = {
        "input": "{{sample.output_text}}",
        "reference": "{{item.ref}}",
        "evaluation_metric": metric,
    }
    grader = build_declared(TextSimilarityConfig(type="text_similarity", **fields))
    return asyncio.run(grader.grade(Submission.of_text(answer, {"ref": reference})))


CAT, MAT = "the cat sat on the mat", "the cat lay on the mat"


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "score"),
    [
        ("bleu", CAT, CAT, 1),
        ("bleu", "Paris", "Paris", 1),
        # 5/6 words, 3/5 pairs, 1/4 triples, 0.1/3 for no quadruple; equal lengths, so no penalty
        ("bleu", CAT, MAT, (5 / 6 * 3 / 5 * 1 / 4 * 0.1 / 3) ** 0.25),
        # every n-gram is right (three orders), half the length: exp(1 - 6/3)
        ("bleu", "the cat sat", CAT, math.exp(-1)),
        ("bleu", "a b", CAT, 0),
        ("gleu", CAT, CAT, 1),
        ("gleu", "Paris", "Paris", 1),
        # 5 + 3 + 1 + 0 of 6 + 5 + 4 + 3 n-grams
        ("gleu", CAT, MAT, 9 / 18),
        # all 6 n-grams of the answer, of 18 of the reference
        ("gleu", "the cat sat", CAT, 6 / 18),
        # one chunk of 6 words: 1 - 0.5 * (1/6)^3
        ("meteor", CAT, CAT, 1 - 0.5 / 216),
        ("meteor", "Paris", "Paris", 0.5),
        # 5 of 6 words in 2 chunks, precision = recall = 5/6
        ("meteor", CAT, MAT, 5 / 6 * (1 - 0.5 * (2 / 5) ** 3)),
        ("meteor", "Cats", "cat", 0.5),
        ("meteor", "dog", "cat", 0),
        ("rouge_1", CAT, MAT, 5 / 6),
        ("rouge_2", CAT, MAT, 3 / 5),
        ("rouge_3", CAT, MAT, 1 / 4),
        ("rouge_4", CAT, MAT, 0),
        # precision 1, recall 3/6
        ("rouge_1", "the cat sat", CAT, 2 * 0.5 / 1.5),
        ("rouge_l", CAT, MAT, 5 / 6),
        # "the sat mat" of 3 and 6 words
        ("rouge_l", "The sat, mat!", CAT, 2 * 0.5 / 1.5),
        ("rouge_5", "a b c d e", "a b c d e", 1),
        ("fuzzy_match", "New York Mets!", "new york mets", 1),
        # 4 letters in common, in order, of 6 and 7
        ("fuzzy_match", "kitten", "sitting", 2 * 4 / 13),
        # a part of the other, up to 8 times as long: 0.9 of the best part's ratio
        ("fuzzy_match", "mets", "new york mets vs", 0.9),
    ],
)
def test_known_answers(metric: str, answer: str, reference: str, score: float) -> None:
    if metric == "meteor" and wordnet() is not None:
        pytest.skip("counted without synonyms")
    found = grade(metric, answer, reference)
    assert found.score == pytest.approx(score, abs=1e-9)
    assert found.explanation.startswith(f"{metric} ")


def test_rouge_l_is_that_of_rouge_score() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer, ours, rng = RougeScorer(["rougeL"]), measure_of("rouge_l"), random.Random(1)
    for _ in range(100):
        text, reference = (" ".join(rng.choices("abcdef.", k=rng.randint(0, 30))) for _ in range(2))
        assert ours(text, reference) == pytest.approx(scorer.score(reference, text)["rougeL"].fmeasure)


@pytest.mark.parametrize("metric", METRICS)
def test_every_measure_lies_between_0_and_1_for_whatever_is_written(metric: str) -> None:
    rng, alphabet = random.Random(2), ["a", "b", " ", ".", "\n", "é", "中", "\u200b", "\ud800", "\x00", "1", "'"]
    texts = ["", " ", *("".join(rng.choices(alphabet, k=rng.randint(1, 30))) for _ in range(60))]
    for text, reference in zip(texts, reversed(texts), strict=True):
        found = grade(metric, text, reference)
        assert found.score is not None
        assert 0 <= found.score <= 1


@pytest.mark.parametrize("metric", METRICS)
def test_an_empty_answer_earns_nothing(metric: str) -> None:
    assert grade(metric, "", "the cat").score == 0
    assert grade(metric, "", "").score == 0


@pytest.mark.parametrize("metric", METRICS)
def test_t21_long_texts_are_cut_and_the_grade_says_so(metric: str) -> None:
    found = grade(metric, "a " * 100_000, "b a " * 50_000)
    assert found.score is not None
    assert f"of the first {MAX_CHARS.get(metric, 100_000):,} characters" in found.explanation


def test_a_measure_that_needs_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="found cosine, which needs an embedding model"):
        grade("cosine", "a", "b")


def test_a_missing_library_is_named_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidfuzz.fuzz", None)
    measure_of.cache_clear()
    with pytest.raises(ConfigError, match=r"fuzzy_match needs rapidfuzz: pip install 'agentrl\[graders\]'"):
        grade("fuzzy_match", "a", "b")
