"""A search finds just the rows that contain what is sought, whatever the characters."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.ui.index.text_files import TextFiles, TextWriter
from agentrl.ui.index.text_search import rows_with
from agentrl.ui.index.tokens import LONGEST, MARK, fold, tokens

ODD = "a b  c, (net INCOME)\t7.3%_\n\r\x00'\"\\ßİı中文字ｶ\u0301\u05d0\u202e\u00a0€🙂"
LONG = "k3y" * 30
ROWS = [
    ["Net income  rose; net\nincome fell", "5% of $7.3"],
    ["the internet: incoming", "a_b", ""],
    [f"key {LONG} end", "ab"],
    [f"x{'中文' * 30}y", "中文", "Straße STRASSE"],
    ["İstanbul ıİ", 'quote "it\'s" \\n \x00 nul', "\u202eright to left אבג"],
    [" leading and trailing ", "\n\n", "   "],
    ["-" * 80 + " | " + "=" * 50],
    [],
]


def search(folder: Path, rows: list[list[str]], wanted: str) -> list[bool]:
    if not (folder / "texts.bin").exists():
        writer = TextWriter()
        for texts in rows:
            writer.add(texts)
        writer.write(folder)
    return rows_with(TextFiles(folder), wanted).tolist()


def brute(rows: list[list[str]], wanted: str) -> list[bool]:
    return [any(wanted.casefold() in text.casefold() for text in (texts or [""])) for texts in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@pytest.mark.parametrize(
    "wanted",
    [
        "net income", "Net  Income", "net\nincome", "t income", "income ", " income", "nco", "rnet: inc", "internet",
        "5%", "%", "7.3", "$7", "_", "a_", "3yk", LONG, LONG + " e", "y " + LONG[:40], "ab", "k3y" * 11, LONG[5:70],
        "中", "中文", "文中文", "x中", "文y", "strasse", "STRASSE", "ß", "i̇stanbul", "İ", "ı", '"it', "'s\" \\n",
        "\x00", "l \x00", "\u202er", "אב", " ", "  ", "   ", "    ", "\n", "\n\n", "\n\n\n", " leading", "trailing ",
        "-", "--", "- |", "-" * 40, "-" * 80, "-" * 81, "---- | ====", "zebra", "income net", "rose;", "; n", "é", "",
    ],
)  # fmt: skip
def test_a_search_finds_what_contains_it(folder: Path, wanted: str) -> None:
    assert search(folder, ROWS, wanted) == brute(ROWS, wanted)


TEXTS = st.lists(
    st.text(alphabet=ODD, max_size=12)
    | st.lists(
        st.sampled_from(["net", "income ", ", ", "a" * 40, "ab" * 20, " ", "\n", "中" * 35, "7"]), max_size=6
    ).map("".join),
    max_size=4,
)


@settings(max_examples=100)
@given(st.data())
def test_any_search_in_any_texts_is_exact(data: st.DataObject) -> None:
    rows = data.draw(st.lists(TEXTS, min_size=1, max_size=6))
    whole = data.draw(st.sampled_from([text for texts in rows for text in texts] or [""])).casefold()
    start, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 50))
    other = data.draw(st.text(alphabet=ODD, max_size=4))
    with TemporaryDirectory() as folder:
        for wanted in (whole[start : start + length], other, whole[start : start + 2] + other):
            assert search(Path(folder), rows, wanted) == brute(rows, wanted)


def test_tokens_lose_nothing() -> None:
    for text in (fold(text) for texts in ROWS for text in texts):
        assert "".join(tokens(text)).replace(MARK, "") == text


def test_long_runs_leave_the_vocabulary_small(tmp_path: Path) -> None:
    writer = TextWriter()
    for number in range(50):
        writer.add([f"{number:064x} " * 20 + "字" * 2000])
    writer.write(tmp_path)
    assert max(len(word) for word in TextFiles(tmp_path).words.tobytes().split(b"\xff")) <= LONGEST + 4
    assert len(TextFiles(tmp_path).word_starts) < 100


def test_a_text_that_many_rows_hold_is_kept_once(tmp_path: Path) -> None:
    page = "total assets of atlas pharma " * 100
    writer = TextWriter()
    for number in range(200):
        writer.add([page, f"row {number}"])
    assert writer.n_places < 600 + 2 * len(tokens(page))
    writer.write(tmp_path)
    assert rows_with(TextFiles(tmp_path), "ATLAS pharma total").all()
    assert np.flatnonzero(rows_with(TextFiles(tmp_path), "row 17")).tolist() == [17, *range(170, 180)]
