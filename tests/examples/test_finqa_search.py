"""Search finds pages by what they say, the same way each time, fast, and well enough on the real pages."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from examples.finqa.corpus import Page, load_corpus
from examples.finqa.embedders import EmbeddingError, OpenAIEmbedder, SentenceTransformerEmbedder, TfidfSvdEmbedder
from examples.finqa.search import SearchIndex, make_embedder
from examples.finqa.search_accuracy import main, search_accuracy

REAL = Path(__file__).parents[2].parent / "shared/finqa"
LINES = ("net sales", "rent expense", "service cost", "share repurchases", "inventories", "operating leases")


def pages(n_companies: int) -> list[Page]:
    """Six short pages a company, one a line item."""
    return [
        Page(
            f"company{c}-steel/2014/page_{p}",
            f"company{c} steel 2014 report",
            [["", "2014"], [line, "1"]],
            "",
        )
        for c in range(n_companies)
        for p, line in enumerate(LINES)
    ]


def test_the_page_that_holds_the_words_comes_first_with_cosine_scores() -> None:
    index = SearchIndex(pages(5))
    results = index.search("how much were the share repurchases of company3 steel ?", 4)
    assert results[0][0] == "company3-steel/2014/page_3"
    scores = [score for _, score in results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1.000001 for score in scores)


def test_a_query_without_known_words_scores_zero_and_k_may_exceed_the_pages() -> None:
    assert [score for _, score in SearchIndex(pages(1)).search("zzz", 50)] == [0.0] * 6
    assert SearchIndex(pages(1)).search("", 1)[0][1] == 0.0


def test_word_endings_do_not_matter() -> None:
    assert SearchIndex(pages(1)).search("operating lease", 1)[0][0].endswith("page_5")


@pytest.mark.parametrize("n_topics", [128, 4])
def test_embeddings_are_unit_rows_in_float32_and_the_same_each_time(n_topics: int) -> None:
    texts = [f"{page.pre_text} {page.table[1][0]}" for page in pages(5)]
    rows = []
    for _ in range(2):
        embedder = TfidfSvdEmbedder(n_topics)
        embedder.fit(texts)
        rows.append(embedder.embed(texts).toarray())
    assert rows[0].dtype == np.float32
    assert np.allclose(np.linalg.norm(rows[0], axis=1), 1, atol=1e-5)
    assert np.array_equal(rows[0], rows[1])


def test_topics_are_added_only_where_there_are_pages_to_learn_them_from() -> None:
    small, large = TfidfSvdEmbedder(8), TfidfSvdEmbedder(4)
    texts = [" ".join(LINES[i % 6 :]) + f" {chr(97 + i)}x" for i in range(20)]
    for embedder in (small, large):
        embedder.fit(texts)
    assert large.embed(["sales"]).shape[1] == small.embed(["sales"]).shape[1] + 4


def test_2800_pages_are_indexed_within_3_seconds_and_a_query_takes_under_3_ms() -> None:
    many = pages(467)
    start = time.process_time()
    index = SearchIndex(many)
    assert time.process_time() - start < 3
    start = time.process_time()
    for number in range(50):
        index.search(f"what was the rent expense of company{number} steel in 2014 ?", 4)
    assert (time.process_time() - start) / 50 < 0.003


def embeddings_endpoint(request: httpx.Request) -> httpx.Response:
    assert request.headers["authorization"] == "Bearer secret"
    texts = json.loads(request.content)["input"]
    data = [{"index": i, "embedding": [float("rent" in text), 2.0]} for i, text in enumerate(texts)]
    return httpx.Response(200, json={"data": data[::-1]})


def test_an_openai_endpoint_embeds_in_batches_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    client = httpx.Client(transport=httpx.MockTransport(embeddings_endpoint))
    embedder = OpenAIEmbedder("m", base_url="http://x/v1/", key_env="MY_KEY", batch_size=2, client=client)
    assert SearchIndex(pages(1), embedder).search("rent", 1)[0][0].endswith("page_1")
    assert np.allclose(np.linalg.norm(embedder.embed(["rent", "b", "c"]), axis=1), 1)


def test_a_failing_endpoint_and_missing_pieces_have_clear_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(EmbeddingError, match="MY_KEY is not set"):
        OpenAIEmbedder(key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "secret")
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(503)))
    with pytest.raises(EmbeddingError, match=r"http://x/embeddings: .*503"):
        OpenAIEmbedder(base_url="http://x", key_env="MY_KEY", client=client).embed(["a"])
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(EmbeddingError, match="pip install sentence-transformers"):
        SentenceTransformerEmbedder("m")
    with pytest.raises(ValueError, match="unknown embedder 'bert'; allowed: tfidf"):
        make_embedder("bert")


def test_a_missing_folder_or_one_without_questions_exits_2_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), "--json"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "nowhere: no such file or folder" in captured.err
    (tmp_path / "reports.jsonl").write_text('{"path": "a", "pre_text": "b"}\n')
    assert main([str(tmp_path)]) == 2
    assert "no questions" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.exists(), reason="the real pages (../shared/finqa) are not here")
def test_the_right_real_page_is_in_the_top_three_for_92_percent_and_first_for_75(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(REAL), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["n"] == 298
    assert figures["top3"] >= 0.92
    assert figures["top1"] >= 0.75


@pytest.mark.skipif(not REAL.exists(), reason="the real pages (../shared/finqa) are not here")
def test_the_order_of_the_pages_does_not_matter() -> None:
    corpus = load_corpus(REAL)
    turned = type(corpus)(corpus.pages[::-1], corpus.questions)
    there, back = search_accuracy(corpus), search_accuracy(turned)
    assert abs(there["top1"] - back["top1"]) < 0.01
    assert abs(there["top3"] - back["top3"]) < 0.01
