"""All that two measurements must share before their difference is the policy's: tasks, tools, graders, limits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from agentrl.config.section import did_you_mean
from agentrl.config.tracking import SECRET_NAME
from agentrl.errors import ConfigError
from agentrl.runs.identity import ABSENT, Change, changes
from agentrl.types import Task

SAMPLING = ("temperature", "top_p", "top_k")
"""Keys of `inference:` that change what a policy says; the others say where its tokens come from."""
SECRET = ("headers", "env")
HIDDEN = "***"
DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
NOTHING = {repr({}), repr(ABSENT)}
"""A section without keys and one that is not there are the same."""


def conditions(config: Mapping[str, Any], versions: Mapping[str, Any], tasks: Iterable[Task]) -> dict[str, Any]:
    """What a measurement was made under, nested, as `runs.identity.changes` compares it.

    The policy itself (weights, tokenizer, chat template) is no condition: it is what is compared.

    Args:
        config: the resolved config, as JSON, that the rollouts were made with.
        versions: of manifest.json, or of `evaluation.versions.versions`.
        tasks: those measured on; of several samples of one task, one counts.
    """
    grading, tools, inference = (config.get(section) or {} for section in ("grading", "tools", "inference"))
    return {
        "tasks": tasks_digest(tasks),
        "tools": {
            **{kind: _named(tools[kind]) for kind in ("endpoints", "python", "mcp") if tools.get(kind)},
            "versions": dict(versions.get("tools") or {}),
            **({"policy": tools["policy"]} if tools.get("policy") else {}),
        },
        "graders": {**dict(versions.get("graders") or {}), "version": versions.get("grader")},
        "rubric": versions.get("rubric"),
        "pass_threshold": grading.get("pass_threshold"),
        "rollout": dict(config.get("rollout") or {}),
        "inference": {key: inference.get(key) for key in SAMPLING},
    }


def tasks_digest(tasks: Iterable[Task]) -> str:
    """`sha256:... (N items)`: equal for the same tasks in any order and any number of samples."""
    found = {task.id: {"id": task.id, "messages": task.messages, "item": task.item} for task in tasks}
    text = json.dumps([found[key] for key in sorted(found)], sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()} ({len(found)} items)"


def differing_conditions(
    before: Mapping[str, Any], after: Mapping[str, Any], allowed: Iterable[str] = ()
) -> tuple[list[Change], list[Change]]:
    """What differs: (refused, allowed). A key allows itself and all below it."""
    found = [each for each in changes(before, after) if {repr(each.before), repr(each.after)} != NOTHING]
    permitted = [each for each in found if each.is_below(tuple(allowed))]
    return [each for each in found if each not in permitted], permitted


def refuse_other_conditions(
    names: tuple[str, str], before: Mapping[str, Any], after: Mapping[str, Any], allowed: Sequence[str] = ()
) -> list[Change]:
    """Only the policy may differ; returns the differences that were allowed by name.

    Raises:
        ConfigError: something else differs; every difference is named, with the option that allows it. Or a key that is
            allowed names no condition of either.
    """
    _refuse_unknown(allowed, before, after)
    refused, permitted = differing_conditions(before, after, allowed)
    if not refused:
        return permitted
    lines = [f"{each.key}: {shown(each.before)} in {names[0]}, {shown(each.after)} in {names[1]}" for each in refused]
    keys = " ".join(f"--allow-difference {key}" for key in dict.fromkeys(each.key for each in refused))
    raise ConfigError(
        f"{names[0]} and {names[1]} differ in more than the policy:\n  "
        + "\n  ".join(lines)
        + f"\nMeasure both under the same conditions, or compare all the same, which the report says: {keys}"
    )


def _refuse_unknown(allowed: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """A key with a typo would allow nothing, and say nothing."""
    conditions = [*changes(before, {}), *changes({}, after)]
    sections = sorted({*before, *after})
    for key in allowed:
        if key not in sections and not any(each.is_below((key,)) for each in conditions):
            hint = did_you_mean(key, {*sections, *(each.key for each in conditions)})
            raise ConfigError(
                f"--allow-difference {key}: names no condition{hint}; allowed: {', '.join(sections)}, or a key below "
                "one of them"
            )


def _named(declared: Any) -> dict[str, Any]:
    """Declared tools by name, without what holds secrets: evaluations are handed on."""
    return {
        str(each.get("name") or each.get("function") or index): public_declaration(each)
        for index, each in enumerate(declared)
    }


def public_declaration(declared: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's or grader's declaration as JSON, without headers, environment and keys: it may be handed on."""
    return {key: _public(key, value) for key, value in declared.items() if key not in SECRET}


def _public(name: str, value: Any) -> Any:
    """The value with `***` for keys in addresses, on command lines and under names of secrets."""
    if isinstance(value, Mapping):
        return {str(key): _public(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        before = ("", *map(str, value))
        return [_public(_option(option), each) for option, each in zip(before, value, strict=False)]
    if not isinstance(value, str) or "${" in value:
        return value
    if SECRET_NAME.search(name):
        return HIDDEN
    if "://" in value:
        return _public_url(value)
    option, equals, _ = value.partition("=")
    return f"{option}={HIDDEN}" if equals and SECRET_NAME.search(option) else value


def _option(text: str) -> str:
    """`--token` of a command line, whose value stands behind it; nothing of what is no option."""
    return text if text.startswith("-") and "=" not in text else ""


def _public_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        query = [(key, HIDDEN if SECRET_NAME.search(key) else each) for key, each in parse_qsl(parts.query, True)]
    except ValueError:
        return HIDDEN
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=urlencode(query, safe="*{}")))


def shown(value: Any) -> str:
    """A value for people: digests are cut to their first digits, and what is long to its beginning."""
    text = "absent" if value is ABSENT else DIGEST.sub(r"\1...", repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
