"""YAML to plain values, with the place of each: the file and line, or the `--set`, that a message can point to.

Stricter than PyYAML where a config would silently mean something else: a key twice, a key that is no text (a bare
`on` is true), merge keys, tags, aliases that blow up.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agentrl.config.section import PathParts, did_you_mean, dotted
from agentrl.errors import ConfigError

PLAIN_KINDS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in PLAIN_KINDS}
SHORT_LISTS = {("monitoring", "metrics"), ("tools", "endpoints")}
"""(section, key): a bare list in the section's place is short for a mapping with the key alone."""
SHORT_SECTIONS = {("grading", "grader")}
"""(section, key): what belongs under the key may stand in the section itself, where the key is not written."""
MAX_VALUES = 100_000  # an alias bomb is a few lines long and has billions


@dataclass
class Source:
    """What was read, before it is known to be a config."""

    name: str
    """The file as the user wrote it."""
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[PathParts, str] = field(default_factory=dict)
    """`file:line` or `--set key=value` of each value."""
    texts: dict[PathParts, str] = field(default_factory=dict)
    """Scalars as written, before YAML gave them a type."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(place, message) of what YAML allows and a config does not."""
    refused: set[PathParts] = field(default_factory=set)
    """Values among the problems: what pydantic says about them is of no interest."""

    def place(self, path: PathParts) -> str:
        """Where `path` was written; for a value that was not, where its nearest section was."""
        while path:
            if path in self.places:
                return self.places[path]
            if is_short(self.values, path) and (path[0], *path[2:]) in self.places:
                return self.places[(path[0], *path[2:])]
            path = path[:-1]
        return self.name


def is_short(values: dict[str, Any], path: PathParts) -> bool:
    """Whether a path into a resolved config leads, in the file, one key less deep."""
    section = values.get(str(path[0])) if path else None
    if path[:2] in SHORT_LISTS:
        return isinstance(section, list)
    return path[:2] in SHORT_SECTIONS and isinstance(section, dict) and path[1] not in section


def read(path: str | Path, *, starts_with: str = "workflow:") -> Source:
    """Read a YAML file whose top is a mapping; one named .json is read as JSON.

    Args:
        starts_with: a key of such files, for messages.

    Raises:
        ConfigError: missing, unreadable, not YAML, empty, or no mapping.
    """
    name = str(path)
    source = Source(name)
    text = _text(Path(path))
    is_json = Path(path).suffix.lower() == ".json"
    plain: Any = _json(text, name) if is_json and text.strip() else None
    # JSON has no tabs inside of texts; YAML refuses those between them
    root = _compose(text.replace("\t", " ") if is_json else text, name)
    if root is None:
        raise ConfigError(f"{name}: found an empty file; allowed: a mapping that starts with `{starts_with}`")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        line = root.start_mark.line + 1
        raise ConfigError(f"{name}:{line}: found {kind}; allowed: a mapping that starts with `{starts_with}`")
    source.values = _Builder(source, lambda node: f"{name}:{node.start_mark.line + 1}").build(root, ())
    if is_json:  # YAML reads 1e-6 as text, and half a character for each half of an escaped pair
        source.values = plain
    return source


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}:{error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply for a config") from None


def read_value(source: Source, text: str, path: PathParts, place: str) -> Any:
    """Read the value of an override into `source`'s places; it is typed as YAML types it."""
    root = _compose(text, place)
    source.places[path] = place
    return None if root is None else _Builder(source, lambda _: place).build(root, path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_near_file(path)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no directory {path.parent} here ({Path.cwd()})"
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return did_you_mean(str(path.parent / near[0]), [str(path.parent / near[0])]) if near else ""


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and not name.startswith("--set") else ""
        why = ", ".join(part for part in (error.context, error.problem) if part)
        tab = "; indent with spaces, not tabs" if "\\t" in why else ""
        raise ConfigError(f"{name}{line}: not YAML: {why}{tab}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply for a config") from None


class _Builder:
    """Turns nodes into values, noting places; what it refuses becomes a problem, so that all are reported at once."""

    def __init__(self, source: Source, place: Callable[[yaml.Node], str]) -> None:
        self._source = source
        self._place = place
        self._scalars = yaml.constructor.SafeConstructor()
        self._count = 0

    def build(self, node: yaml.Node, path: PathParts) -> Any:
        self._count += 1
        if self._count > MAX_VALUES or len(path) > 50:
            raise ConfigError(f"{self._place(node)}: too many or too deeply nested values; are aliases (*) in a loop?")
        self._source.places.setdefault(path, self._place(node))
        if node.tag not in PLAIN_TAGS:
            self._source.refused.add(path)
            self._problem(self._place(node), path, f"tag {node.tag} is not allowed; write a plain value")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        self._source.texts[path] = node.value
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: PathParts) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, str] = {}
        for key_node, value_node in node.value:
            here = self._place(key_node)
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in values:
                self._problem(here, (*path, key), f"key written twice, first at {first[key]}; keep one")
                continue
            first[key] = here
            self._source.places[(*path, key)] = here
            values[key] = self.build(value_node, (*path, key))
        return values

    def _key(self, node: yaml.Node, path: PathParts) -> str | None:
        where = self._place(node)
        if not isinstance(node, yaml.ScalarNode):
            self._problem(where, path, "found a key that is a list or a mapping; allowed: text")
        elif node.tag == "tag:yaml.org,2002:merge":
            self._problem(where, path, "merge keys (<<) are not supported; write the keys out")
        elif node.tag != "tag:yaml.org,2002:str":
            value = self._scalar(node, path)
            seen = str(value).lower() if isinstance(value, bool) else repr(value)
            self._problem(where, path, f'YAML reads the key {node.value} as {seen}; write "{node.value}" in quotes')
        else:
            return str(node.value)
        return None

    def _scalar(self, node: yaml.Node, path: PathParts) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (ValueError, yaml.YAMLError):
            self._source.refused.add(path)
            self._problem(self._place(node), path, f"found {node.value!r}, which YAML takes for another type; quote it")
            return None

    def _problem(self, place: str, path: PathParts, message: str) -> None:
        name = f"{dotted(path)}: " if path else ""
        self._source.problems.append((place, f"{name}{message}"))
