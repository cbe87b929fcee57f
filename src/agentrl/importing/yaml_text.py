"""YAML that people read: sections with blank lines between them, comments beside keys, source code as it is written."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from agentrl.printable import printable


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
    blocks = ["".join(f"# {line}\n" if line else "#\n" for line in map(printable, head))]
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            lines = [_commented(dump({key: inner}), comments.get(f"{name}.{key}")) for key, inner in value.items()]
            body = textwrap.indent("".join(lines), "  ")
            above = f"# {printable(comments[name])}\n" if name in comments else ""
            blocks.append(f"{above}{dump({name: None}).split(':')[0]}:\n{body}")
        else:
            blocks.append(_commented(dump({name: value}), comments.get(name)))
    text = blocks[0]
    for previous, block in zip(["", *blocks[1:]], blocks[1:], strict=False):
        text += ("\n" if "\n" in block.rstrip("\n") or "\n" in previous.rstrip("\n") or not previous else "") + block
    return text


def dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _commented(text: str, comment: str | None) -> str:
    """The comment behind a single line, and above several."""
    if comment is None:
        return text
    if "\n" in text.rstrip("\n"):
        return f"# {printable(comment)}\n{text}"
    return f"{text.rstrip()} # {printable(comment)}\n"
