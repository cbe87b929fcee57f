"""A run's tokenizer, read without its model: what sampled tokens are as text."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from agentrl.runs.files import CHECKPOINTS, CONFIG
from agentrl.ui.index.places import open_plain
from agentrl.ui.traces.loose import mapping_of
from agentrl.ui.traces.tokens import Spelling

FILE = "tokenizer.json"


def spelling(run: Path) -> Spelling | None:
    """By the tokenizer of the run's checkpoints, else by that of the baseline that its config names."""
    for path in _candidates(run):
        try:
            facts = path.stat()
            if stat.S_ISREG(facts.st_mode) and (tokenizer := _tokenizer(path, facts.st_mtime_ns)):
                return _speller(tokenizer)
        except (OSError, ValueError):  # the latter of a name that no file can have
            continue
    return None


def _candidates(run: Path) -> Iterator[Path]:
    yield from sorted((run / CHECKPOINTS).glob(f"*/{FILE}"))[:1]
    try:
        with open_plain(run / CONFIG) as file:
            config = mapping_of(yaml.safe_load(file.read()))
        yield Path(mapping_of(config.get("workflow"))["baseline"]) / FILE
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
        return


@lru_cache(maxsize=4)
def _tokenizer(path: Path, changed_at: int) -> Any:
    """The tokenizer in a file, None where it is none; read once for as long as the file does not change."""
    del changed_at
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # the library raises no narrower one
        return None


def _speller(tokenizer: Any) -> Spelling:
    def spell(token_ids: Sequence[int], /) -> list[str | None]:
        from tokenizers.decoders import DecodeStream

        stream, texts = DecodeStream(skip_special_tokens=False), []
        for token_id in token_ids:
            try:
                texts.append(stream.step(tokenizer, token_id))
            except Exception:  # an id beyond the vocabulary, or bytes that never become a character
                stream = DecodeStream(skip_special_tokens=False)
                texts.append(None)
        return texts

    return spell
