"""Chat templates that never rewrite what was said, for families whose own templates do; package data."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from agentrl.errors import BaselineError

TEMPLATES = ("gpt-oss", "qwen3")


def load_template(name_or_path: str) -> str:
    """The text of a template that ships with agentrl, or of a .jinja file.

    Raises:
        BaselineError: it is neither.
    """
    if name_or_path in TEMPLATES:
        return (files(__name__) / f"{name_or_path}.jinja").read_text("utf-8")
    path = Path(name_or_path)
    if not path.is_file():
        raise BaselineError(
            f"chat template {name_or_path}: no such file; give a .jinja file or one of: {', '.join(TEMPLATES)}"
        )
    return path.read_text("utf-8")
