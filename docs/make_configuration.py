"""Write docs/configuration.md from the config's classes: `python docs/make_configuration.py`.

The page says what the classes say: names, allowed values, defaults and sentences come from there, and
tests/test_docs.py fails when the page is older than they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from agentrl.config import DPORunConfig, RewardModelRunConfig, RunConfig, SFTRunConfig
from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.messages import _allowed, _members
from agentrl.config.section import Section

PAGE = Path(__file__).with_name("configuration.md")

OPENING = """# Configuration

<!-- Written by `python docs/make_configuration.py` from src/agentrl/config; do not edit. -->

A run is one YAML file. `agentrl check FILE` validates it and prints it with every default written out.

- Only `workflow` is required to load a file. `agentrl train` needs `data`, `tools` and `grading` as well, and says so.
- An unknown key, a key written twice and a value of another type are errors with file and line.
- `--set section.key=value` overrides one value; a list entry is `--set tools.endpoints[0].retries=1`.
- Relative paths start at the current directory, as on a command line, not at the file.
- `${NAME}` in a header value is replaced from the environment when the run starts. A header that looks like a secret
  and is written out is refused, because run directories keep the config.
- YAML reads `1e-6` as text and a bare `on` as true: write `1.0e-6` and `"on"`.
- Anchors and aliases (`&auth`, `*auth`) work; merge keys (`<<`) and tags do not.
- A file with `workflow`, `release` and `monitoring` alone loads; gates may be bare names, monitoring a bare list.
- `release`, `monitoring` and `gateway` are for what follows training: [releasing a policy](release.md).

A default is the vetted algorithm, so a key in a file is a choice. Units are in the names or in the sentences.
"""


def sections_in(info: FieldInfo, path: str) -> Iterator[tuple[str, type[Section]]]:
    """The sections that a field holds, with their paths; `[]` marks a list of sections, `.NAME` a mapping of them.

    Of a union each member has its `type` behind the path.
    """
    found: list[tuple[str, type[Section]]] = []
    for member in _members(info.annotation):
        is_list, is_mapping = get_origin(member) is tuple, get_origin(member) is dict
        inner = get_args(member)[1] if is_mapping else get_args(member)[0] if is_list else member
        here = f"{path}[]" if is_list else f"{path}.NAME" if is_mapping else path
        found += [(here, each) for each in _members(inner) if isinstance(each, type) and issubclass(each, Section)]
    for here, each in found:
        yield (here if len(found) == 1 else f"{here}: {get_args(each.model_fields['type'].annotation)[0]}"), each


def sections(
    model: type[Section], path: str, seen: set[type[Section]] | None = None
) -> Iterator[tuple[str, type[Section]]]:
    """Every section below a model, in the order of the classes; one that stands in several places comes once."""
    seen = set() if seen is None else seen
    for name, info in model.model_fields.items():
        found = list(sections_in(info, f"{path}.{name}" if path else name))
        for here, each in found:
            if len(found) > 1 and each in seen:
                continue
            seen.add(each)
            yield here, each
            yield from sections(each, here, seen)


def row(name: str, info: FieldInfo, path: str) -> str:
    """One line of a section's table."""
    allowed = _escaped(_allowed(info.annotation, info))
    found = list(sections_in(info, f"{path}.{name}" if path else name))
    for place, _ in found[:1]:
        kind = "list of sections" if "[]" in place.rpartition(".")[2] else "section"
        allowed = f"[{kind}](#{anchor(place)})" + (" or null" if info.default is None else "")
    if len(found) > 1:  # the kinds of graders are described once
        place, *_ = found[0]
        several = "a list of " if "[]" in place else "a mapping of names to " if ".NAME" in place else ""
        kinds = f"any of {len(found)} kinds, see [grading.grader](#{anchor('grading.grader: string_check')})"
        allowed = several + kinds
    return f"| `{name}` | {allowed} | {default(info)} | {_escaped(info.description or '')} |"


def default(info: FieldInfo) -> str:
    """The default as YAML writes it."""
    if info.is_required():
        return "required"
    value: Any = info.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return "its defaults"
    if isinstance(value, float):
        return f"`{yaml.safe_dump(value).split()[0]}`"  # 1.0e-05, where Python's 1e-05 would be read as text
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def anchor(path: str) -> str:
    """GitHub's anchor of the heading of a section."""
    return path.replace(".", "").replace("[]", "").replace(":", "").replace(" ", "-").lower()


def table(model: type[Section], path: str) -> str:
    lines = ["| key | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [row(name, info, path) for name, info in model.model_fields.items()]
    return "\n".join(lines)


def gates() -> str:
    """The rows that bare gate names stand for."""
    lines = ["| name | metric | passes when | read in | test |", "| --- | --- | --- | --- | --- |"]
    for name, gate in BUILT_IN_GATES.items():
        if gate["compare"] == "absolute":
            side = "at most" if gate["direction"] == "lower_is_better" else "at least"
            rule = f"{gate['statistic']} {side} {gate['limit']:g}"
        else:
            ((kind, margin),) = gate["margin"].items()
            shown = f"{100 * margin:g} %" if kind == "relative" else f"{margin:g}"
            rule = f"{gate['statistic']} worse than the baseline's by less than {shown}"
        stages = ", ".join(gate["stages"])
        lines.append(f"| `{name}` | `{gate['metric']}` | {rule} | {stages} | `{gate['test']}` |")
    return "\n".join(lines)


def page() -> str:
    """The text of configuration.md."""
    parts = [OPENING, "## The top of the file", table(RunConfig, "")]
    for path, model in sections(RunConfig, ""):
        parts += [f"## {path}", _doc(model), table(model, path)]
        if path == "release.gates[]":
            parts += [
                "These names can be written bare. A row with one of them and some keys changes those keys.",
                gates(),
            ]
    files: list[tuple[str, type[Section]]] = [
        ("sft", SFTRunConfig),
        ("dpo", DPORunConfig),
        ("reward-model train", RewardModelRunConfig),
    ]
    for verb, model in files:
        parts += [f"## A file for `agentrl {verb}`", table(model, "")]
        for path, section in sections(model, ""):
            parts += [f"## {path}", _doc(section), table(section, path)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _doc(model: type[Section]) -> str:
    return " ".join((model.__doc__ or "").split())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
