"""What a folder of weights may hold: safetensors, JSON and text. No file that runs when it is loaded, by any name.

A pickle runs code while it is read, and `weights_only` loaders have been talked out of their promise before; so other
formats are refused by name, and these are looked into: a pickle that calls itself `model.safetensors` is one still.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from agentrl.errors import ReleaseError
from agentrl.strict_json import strict_json

WEIGHTS, JSON_FILES = (".safetensors",), (".json",)
TEXTS = (".jinja", ".txt", ".md", ".model")
"""`.model` is SentencePiece's vocabulary: data."""
PLAIN_NAMES = ("LICENSE", "NOTICE", "USE_POLICY", "merges.txt")
MAX_HEADER_BYTES = 100_000_000
"""Of a safetensors file, as its own reader has it."""
RUNS_CODE = ("auto_map", "custom_pipelines")
"""Keys of config.json that make transformers load Python files that lie beside it."""


class FormatError(ReleaseError):
    """A file that may not be part of a bundle."""


def check_format(path: Path, name: str) -> None:
    """Look at one file of a folder of weights, which goes by `name` there.

    Raises:
        FormatError: it is of no allowed kind, or not what its name says.
    """
    suffix = Path(name).suffix.lower()
    if suffix in WEIGHTS:
        _check_safetensors(path, name)
    elif suffix in JSON_FILES:
        _check_json(path, name)
    elif suffix not in TEXTS and Path(name).name not in PLAIN_NAMES:
        raise FormatError(
            f"{name}: found {suffix or 'a file without a suffix'}; allowed: .safetensors, .json and text "
            f"({', '.join(TEXTS)}), as other formats may run code when they are loaded"
        )


def _check_safetensors(path: Path, name: str) -> None:
    """Eight bytes with the header's length, a JSON header, and tensors that fill the rest to the byte."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise FormatError(f"{name}: is no safetensors file (its header would be {length} bytes long)")
        raw = file.read(length)
    try:
        header = strict_json(raw.decode("utf-8"))
        ends = [int(each["data_offsets"][1]) for key, each in header.items() if key != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise FormatError(f"{name}: is no safetensors file (its header cannot be read)") from None
    if 8 + length + max(ends, default=0) != size:
        raise FormatError(f"{name}: {size} bytes, its header tells of {8 + length + max(ends, default=0)}")


def _check_json(path: Path, name: str) -> None:
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise FormatError(f"{name}: is no JSON") from None
    if isinstance(found, dict) and (keys := [key for key in RUNS_CODE if found.get(key)]):
        raise FormatError(f"{name}: found {keys[0]}, which loads Python code from the folder; allowed: built-in models")
