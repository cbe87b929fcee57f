"""promptfoo's tests, of a promptfooconfig.yaml or of the redteam.yaml that it generates.

What a test says to the model becomes the user's message on the team's own agent; assertions that can be decided by
reading the answer become violations. Those that a judge of promptfoo's decides, by an LLM or by code, stay behind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentrl.config.source import read
from agentrl.errors import ConfigError
from agentrl.evaluation.adversarial.forms import MIN_CHARS, plain
from agentrl.evaluation.adversarial.imports.imported import ImportedAttacks

VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}")
CODE = re.compile(r"\{%|\{\{")
PREFIX = "promptfoo:redteam:"
FORBIDDEN = {"not-contains", "not-icontains", "not-contains-any", "not-icontains-any"}
WANTED = {"contains", "icontains", "contains-any", "icontains-any"}
WANTED_ALL = {"contains-all", "icontains-all"}
MISUSE = ("excessive-agency", "rbac", "bola", "bfla", "ssrf", "sql-injection", "shell-injection", "debug-access")
JUDGED = "is decided by an LLM of promptfoo's; a score_model or label_model grader can ask the same of your own tasks"


class _LeftOut(Exception):  # what happened, as in asyncio
    """An assertion, or a whole test, that has no place here; the message is why."""


def import_promptfoo(path: Path) -> ImportedAttacks:
    """The tests of a file.

    Raises:
        ConfigError: it cannot be read, or has no list of tests.
    """
    source = read(path, starts_with="tests:")
    found = source.values
    tests = found.get("tests")
    if isinstance(tests, str):
        raise ConfigError(
            f"{path}: tests: found {tests!r:.60}, another file; give that one's tests in the config itself"
        )
    if not isinstance(tests, list) or not tests:
        raise ConfigError(f"{path}: found no list of `tests`")
    given = found.get("defaultTest")
    default = given if isinstance(given, Mapping) else {}
    imported = ImportedAttacks(f"promptfoo's {path}")
    if given is not None and not isinstance(given, Mapping):
        imported.left_out.append(("defaultTest", "is another file"))
    for key in ("scenarios", "derivedMetrics", "extensions"):
        if key in found:
            imported.left_out.append((key, "has no place in an attack"))
    redteam = found.get("redteam")
    inject = redteam.get("injectVar") if isinstance(redteam, Mapping) else None
    for number, test in enumerate(tests, 1):
        name = f"test {number}"
        if not isinstance(test, Mapping):
            imported.left_out.append((name, "is another file, or no object"))
            continue
        try:
            imported.cases += _cases(name, number, test, default, found.get("prompts"), inject, imported)
        except _LeftOut as error:
            imported.left_out.append((name, str(error)))
    return imported


def _cases(
    name: str,
    number: int,
    test: Mapping[str, Any],
    default: Mapping[str, Any],
    prompts: Any,
    inject: Any,
    imported: ImportedAttacks,
) -> Iterator[dict[str, Any]]:
    variables = {**_object(default, "vars"), **_object(test, "vars")}
    metadata = {**_object(default, "metadata"), **_object(test, "metadata")}
    assertions = [*_list(default, "assert"), *_list(test, "assert")]
    rules = []
    for each in assertions:
        try:
            rules += _rules(each, variables)
        except _LeftOut as error:
            kind = each.get("type") if isinstance(each, Mapping) else "assertion"
            imported.left_out.append((f"{name}: {kind}", str(error)))
    if not rules:
        raise _LeftOut("has no assertion that can be decided by reading the answer")
    plugin = str(metadata.get("pluginId") or "")
    cases = []
    for index, (text, before) in enumerate(_said(variables, prompts, inject)):
        case: dict[str, Any] = {
            "id": f"promptfoo-{number}{f'-{index + 1}' * (index > 0)}",
            "attack": _attack(plugin),
            "technique": str(metadata.get("strategyId") or plugin or "promptfoo"),
            "plant" if _attack(plugin) == "tool_injection" else "user": text,
            "violations": rules,
        }
        if before and "user" in case:
            case["history"] = before
        cases.append(case)
    return iter(cases)


def _said(variables: Mapping[str, Any], prompts: Any, inject: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(user's message, messages before it) of each prompt; a generated attack is said as it is."""
    if isinstance(inject, str) and isinstance(attack := variables.get(inject), str):
        yield attack, []
        return
    found = False
    for prompt in prompts if isinstance(prompts, list) else [prompts]:
        if (
            not isinstance(prompt, str)
            or prompt.startswith(("file://", "exec:"))
            or re.search(r"\.(txt|json|py|js)$", prompt)
        ):
            continue
        messages = _messages(_rendered(prompt, variables))
        said = [each for each in messages if each["role"] in ("user", "assistant")]  # the agent has its own system
        if said and said[-1]["role"] == "user" and said[-1]["content"].strip():
            found = True
            yield said[-1]["content"], said[:-1]
    if not found:
        raise _LeftOut("its prompt is another file, or ends with no message of a user")


def _messages(prompt: str) -> list[dict[str, Any]]:
    """A prompt that is a JSON list of messages, or a text."""
    try:
        value = json.loads(prompt)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return [{"role": str(each.get("role")), "content": str(each.get("content"))} for each in value]
    return [{"role": "user", "content": prompt}]


def _rendered(text: str, variables: Mapping[str, Any]) -> str:
    """`{{name}}` replaced.

    Raises:
        _LeftOut: it is a template that computes.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in variables:
            raise _LeftOut(f"its prompt asks for the variable {found[1]}, which it does not have")
        given = variables[found[1]]
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)

    if CODE.search(VARIABLE.sub("", text)):
        raise _LeftOut("its prompt is a template that computes")
    return VARIABLE.sub(value, text)


def _rules(found: Any, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(found, Mapping) or not isinstance(kind := found.get("type"), str):
        raise _LeftOut("is no assertion")
    if kind.startswith(f"{PREFIX}pii"):
        return [{"kind": "personal_data"}]  # promptfoo asks an LLM; forms and check digits are what can be read
    if kind.startswith(PREFIX) or kind in ("llm-rubric", "model-graded-closedqa", "model-graded-factuality", "g-eval"):
        raise _LeftOut(JUDGED)
    if kind not in FORBIDDEN | WANTED | WANTED_ALL:
        raise _LeftOut("is of a kind that is not read here")
    given = found.get("value")
    values = given if isinstance(given, list) else [given]
    texts = [_rendered(each, variables) for each in values if isinstance(each, str)]
    if not texts or len(texts) < len(values):
        raise _LeftOut("has no text as its value")
    if short := [text for text in texts if len(plain(text)) < MIN_CHARS]:
        found_short = f"looks for {short[0]!r:.20}"
        raise _LeftOut(f"{found_short}; allowed: {MIN_CHARS} letters and digits, as shorter texts occur by chance")
    if kind in FORBIDDEN:
        return [{"kind": "said", "texts": texts}]
    if kind in WANTED_ALL:
        return [{"kind": "lacks", "texts": [text]} for text in texts]
    return [{"kind": "lacks", "texts": texts}]


def _attack(plugin: str) -> str:
    if plugin.startswith("pii"):
        return "personal_data"
    if plugin.startswith("indirect-prompt-injection"):
        return "tool_injection"
    return "tool_misuse" if plugin.startswith(MISUSE) else "jailbreak"


def _object(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    value = found.get(key)
    return value if isinstance(value, list) else []
