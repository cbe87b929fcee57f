"""Two other ways to find text, on some of the rollouts: what they would compute for a million."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from agentrl.ui.index.episodes import read_episodes
from agentrl.ui.index.text_files import TextFiles, TextWriter
from agentrl.ui.index.text_search import rows_with

from .made_runs import COMMON, RARE

SOUGHT = (RARE, COMMON, "annual report", "income net report", "7.3", "e")


def compare_designs(root: Path, rollouts: int) -> dict[str, dict[str, float]]:
    """Build, size and searches, for a million rollouts by rule of three; times are of all threads together."""
    files = sorted(root.glob("*/rollouts/*.jsonl.gz"))
    texts = [episode.texts for episode in islice((each for file in files for each in read_episodes(file)), rollouts)]
    joined = ["\x01".join(each).casefold() for each in texts]
    scale = 1_000_000 / len(joined)
    designs: dict[str, Callable[[Path], Callable[[str], int]]] = {
        "this index": lambda folder: _places(folder, texts),
        "Parquet, scanned by DuckDB": lambda folder: _parquet(folder, joined),
        "SQLite FTS5, trigrams": lambda folder: _fts(folder, joined),
    }
    print(f"\n{'for 1,000,000 rollouts':28} {'build s':>8} {'GB':>6} " + " ".join(f"{each:>18}" for each in SOUGHT))
    found = {}
    for name, build in designs.items():
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            search = build(Path(folder))
            figures = {"build": (time.process_time() - started) * scale}
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
            figures["gigabytes"] = size * scale / 1e9
            for sought in SOUGHT:
                figures[sought] = min(_seconds(search, sought) for _ in range(3)) * scale
        found[name] = figures
        times = " ".join(f"{figures[each]:18.2f}" for each in SOUGHT)
        print(f"{name:28} {figures['build']:8.0f} {figures['gigabytes']:6.2f} {times}", flush=True)
    return found


def _seconds(search: Callable[[str], int], sought: str) -> float:
    started = time.process_time()
    search(sought)
    return time.process_time() - started


def _places(folder: Path, texts: list[tuple[str, ...]]) -> Callable[[str], int]:
    writer = TextWriter()
    for each in texts:
        writer.add(each)
    writer.write(folder)
    return lambda sought: int(rows_with(TextFiles(folder), sought).sum())


def _parquet(folder: Path, texts: list[str]) -> Callable[[str], int]:
    path = str(folder / "texts.parquet")
    connection = duckdb.connect()
    connection.register("texts", {"text": np.array(texts, object)})
    connection.table("texts").write_parquet(path, compression="zstd", row_group_size=8192)
    statement = "SELECT count(*) FROM read_parquet(?) WHERE contains(text, ?)"
    return lambda sought: _count(connection.execute(statement, [path, sought.casefold()]))


def _fts(folder: Path, texts: list[str]) -> Callable[[str], int]:
    connection = sqlite3.connect(folder / "texts.db")
    connection.execute("PRAGMA journal_mode=off")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='trigram')")
    connection.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", enumerate(texts))
    connection.commit()

    def search(sought: str) -> int:
        if len(sought) < 3:  # FTS5's trigrams know nothing shorter
            return 0
        return _count(connection.execute("SELECT count(*) FROM texts WHERE texts MATCH ?", [f'"{sought}"']))

    return search


def _count(answered: Any) -> int:
    return int(answered.fetchone()[0])
