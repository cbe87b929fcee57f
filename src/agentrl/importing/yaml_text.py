"""YAML that people read: sections with blank lines between them, comments beside keys, source code as it is written."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Longer texts with line breaks stand as blocks; nothing is written as an alias of something else."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    if any(char == "\ufeff" or not (char.isprintable() or char in "\n\t") for char in value):
        style = '"'  # escaped; PyYAML would write a next-line character as it is, and read it back as a blank
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def config_text(head: Sequence[str], values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """The config as text; it loads as `values`.

    Args:
        head: comment lines at the top.
        values: sections and plain values.
        comments: dotted path of a key at the top or one below -> its comment, one line.
    """
    blocks = ["".join(f"# {line}\n" if line else "#\n" for line in map(one_line, head))]
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            lines = [_commented(dump({key: inner}), comments.get(f"{name}.{key}")) for key, inner in value.items()]
            body = textwrap.indent("".join(lines), "  ")
            above = f"# {one_line(comments[name])}\n" if name in comments else ""
            blocks.append(f"{above}{dump({name: None}).split(':')[0]}:\n{body}")
        else:
            blocks.append(_commented(dump({name: value}), comments.get(name)))
    text = blocks[0]
    for previous, block in zip(["", *blocks[1:]], blocks[1:], strict=False):
        text += ("\n" if "\n" in block.rstrip("\n") or "\n" in previous.rstrip("\n") or not previous else "") + block
    return text


def dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def one_line(text: str) -> str:
    """As a comment may hold it: no line break ends it early."""
    return "".join(char if char.isprintable() else " " for char in text)


def _commented(text: str, comment: str | None) -> str:
    """The comment behind a single line, and above several."""
    if comment is None:
        return text
    if "\n" in text.rstrip("\n"):
        return f"# {one_line(comment)}\n{text}"
    return f"{text.rstrip()} # {one_line(comment)}\n"
