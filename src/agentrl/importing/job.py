"""The JSON of a reinforcement job: the body of the request that made it, or the job as the API returns it.

{"model": "o4-mini-2025-04-16", "training_file": "file-...", "validation_file": "file-...", "suffix": "finqa",
 "method": {"type": "reinforcement", "reinforcement": {
    "grader": {...}, "tools": [{"name", "server_url", "headers"}], "max_episode_steps": 50,
    "response_format": {...}, "hyperparameters": {"batch_size": 16, ...}}}}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.json_files import read_json_file

REQUEST = ("model", "training_file", "validation_file", "method", "suffix", "seed", "metadata", "integrations")
STATUS = (
    "object", "id", "created_at", "finished_at", "fine_tuned_model", "organization_id", "project_id", "result_files",
    "status", "trained_tokens", "error", "estimated_finish", "hyperparameters", "user_provided_suffix", "usage_metrics",
    "shared_with_openai", "eval_id", "statusDetails", "trainingType",
)  # fmt: skip
"""What a returned job says of itself: nothing that a new run is made of. Its `hyperparameters` are the method's."""
REINFORCEMENT = ("grader", "tools", "max_episode_steps", "response_format", "hyperparameters")
OTHER_METHODS = {
    "supervised": "`agentrl sft` learns from conversations",
    "dpo": "`agentrl dpo` learns from pairs of episodes",
}
EFFORTS = ("default", "minimal", "low", "medium", "high")
MAX_SUFFIX = 64


@dataclass(frozen=True)
class Job:
    """A reinforcement job whose parts have the types that they should have; the grader is not looked at."""

    source: str
    """The file, as the user wrote it."""
    model: str
    training_file: str
    """A file id or a path."""
    validation_file: str | None
    grader: dict[str, Any] = field(repr=False)
    tools: tuple[dict[str, Any], ...] = field(repr=False)
    """Each with `name` and `server_url`, and whatever else was written."""
    max_episode_steps: int | None
    response_format: dict[str, Any] | None = field(repr=False)
    """{"type": "json_schema", "json_schema": {"name", "strict", "schema"}}, whichever form was written."""
    hyperparameters: dict[str, Any]
    """Without those that are `auto` or null."""
    suffix: str | None
    seed: int | None
    metadata: dict[str, Any] = field(repr=False)
    integrations: tuple[str, ...]
    """Their types."""
    unknown: tuple[str, ...]
    """Keys that no such job is known to have, dotted."""


def read_job(path: Path) -> Job:
    """Read and check a job.

    Raises:
        ConfigError: no such file, no JSON (file, line, column), another method, or values that no such job has.
    """
    body = read_json_file(path)
    _refuse_other_things(path, body)
    problems: list[str] = []
    job = _Reader(problems, path).job(body)
    if problems:
        lines = "\n  ".join([f"{path}: {len(problems)} mistakes", *problems])
        raise ConfigError(f"{path}: {problems[0]}" if len(problems) == 1 else lines)
    return job


def _refuse_other_things(path: Path, body: Any) -> None:
    """What is no reinforcement job at all gets one message, not a list of all that it lacks."""
    if isinstance(body, dict) and body.get("object") == "list":
        raise ConfigError(f"{path}: found a list of jobs; save one of them to a file of its own")
    if not isinstance(body, dict):
        raise ConfigError(f"{path}: found {kind(body)}; allowed: a job, an object with model, training_file and method")
    method = body.get("method")
    if method is None:
        what = "a job without method is one of supervised fine-tuning"
        raise ConfigError(f"{path}: found no method; {what}, for which {OTHER_METHODS['supervised']}")
    if not isinstance(method, dict):
        raise ConfigError(f'{path}: method: found {kind(method)}; allowed: {{"type": "reinforcement", ...}}')
    found = method.get("type")
    if found != "reinforcement":
        hint = f"; {OTHER_METHODS[found]}" if isinstance(found, str) and found in OTHER_METHODS else ""
        raise ConfigError(f"{path}: method.type: found {found!r:.80}; allowed: reinforcement{hint}")
    if not isinstance(method.get("reinforcement"), dict):
        found = kind(method.get("reinforcement"))
        raise ConfigError(f"{path}: method.reinforcement: found {found}; allowed: an object with grader")


class _Reader:
    """Takes a body apart, and notes all that is wrong with it."""

    def __init__(self, problems: list[str], path: Path) -> None:
        self._problems = problems
        self._path = path

    def job(self, body: Mapping[str, Any]) -> Job:
        method = body["method"]
        reinforcement = method["reinforcement"]
        suffix = self._optional(body, "suffix", "", is_text, f"text of at most {MAX_SUFFIX} characters")
        if suffix is not None and len(suffix) > MAX_SUFFIX:
            self._wrong("suffix", f"{len(suffix)} characters", f"at most {MAX_SUFFIX}")
        under = "method.reinforcement"
        return Job(
            source=str(self._path),
            model=self._required(body, "model", "", is_text, "text"),
            training_file=self._required(body, "training_file", "", is_text, "a file id or a path"),
            validation_file=self._optional(body, "validation_file", "", is_text, "a file id or a path"),
            grader=self._required(reinforcement, "grader", under, is_object, "an object with type"),
            tools=tuple(self._tools(reinforcement.get("tools"), f"{under}.tools")),
            max_episode_steps=self._optional(
                reinforcement, "max_episode_steps", under, is_count, "a whole number of at least 1"
            ),
            response_format=self._response_format(reinforcement.get("response_format"), f"{under}.response_format"),
            hyperparameters=self._hyperparameters(reinforcement.get("hyperparameters"), f"{under}.hyperparameters"),
            suffix=suffix,
            seed=self._optional(body, "seed", "", lambda value: is_count(value, 0), "a whole number of at least 0"),
            metadata=self._optional(body, "metadata", "", is_object, "an object") or {},
            integrations=tuple(self._integrations(body.get("integrations"))),
            unknown=tuple(self._unknown(body, method, reinforcement)),
        )

    def _wrong(self, where: str, found: str, allowed: str) -> None:
        self._problems.append(f"{where}: found {found}; allowed: {allowed}")

    def _optional(
        self, values: Mapping[str, Any], key: str, under: str, is_good: Callable[[Any], bool], allowed: str
    ) -> Any:
        value = values.get(key)
        if value in (None, ""):  # some clients write empty texts for what is not set
            return None
        if is_good(value):
            return value
        self._wrong(f"{under}.{key}".lstrip("."), shown(value), allowed)
        return None

    def _required(
        self, values: Mapping[str, Any], key: str, under: str, is_good: Callable[[Any], bool], allowed: str
    ) -> Any:
        if values.get(key) in (None, ""):
            self._problems.append(f"{f'{under}.{key}'.lstrip('.')}: missing; it is required: {allowed}")
        return self._optional(values, key, under, is_good, allowed)

    def _tools(self, tools: Any, where: str) -> Iterator[dict[str, Any]]:
        if tools is not None and not isinstance(tools, list):
            self._wrong(where, kind(tools), "a list of objects with name, server_url and headers")
            return
        names: list[Any] = []
        for index, tool in enumerate(tools or ()):
            here = f"{where}[{index}]"
            if not isinstance(tool, dict):
                self._wrong(here, kind(tool), "an object with name, server_url and headers")
                continue
            name = self._required(tool, "name", here, is_text, "text")
            self._required(tool, "server_url", here, is_text, "an address that starts with https://")
            self._optional(tool, "headers", here, is_headers, "an object of texts (values are not shown)")
            if name is not None and name in names:
                self._wrong(f"{here}.name", f"{name!r} a second time", "one tool a name")
            names.append(name)
            yield tool

    def _response_format(self, value: Any, where: str) -> dict[str, Any] | None:
        """Chat-completions form of both forms in use; null for plain text."""
        allowed = "json_schema with json_schema (or name and schema beside it), json_object or text"
        if value is None:
            return None
        if not isinstance(value, dict) or value.get("type") not in ("json_schema", "json_object", "text"):
            self._wrong(where, kind(value) if not isinstance(value, dict) else repr(value.get("type")), allowed)
            return None
        if value["type"] != "json_schema":
            return {"type": "json_object"} if value["type"] == "json_object" else None
        inner = value.get("json_schema", value)
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
            self._wrong(where, "no schema, an object,", allowed)
            return None
        kept = {key: inner[key] for key in ("name", "strict", "schema") if key in inner}
        return {"type": "json_schema", "json_schema": kept}

    def _hyperparameters(self, values: Any, where: str) -> dict[str, Any]:
        if values is not None and not isinstance(values, dict):
            self._wrong(where, kind(values), "an object")
            return {}
        given = {key: value for key, value in (values or {}).items() if value not in (None, "auto")}
        for key, value in given.items():
            if key in HYPERPARAMETERS:
                is_good, allowed = HYPERPARAMETERS[key]
                if not is_good(value):
                    self._wrong(f"{where}.{key}", shown(value), allowed)
        return given

    def _integrations(self, values: Any) -> Iterator[str]:
        for each in values if isinstance(values, list) else ():
            yield str(each.get("type", "?")) if isinstance(each, dict) else "?"

    def _unknown(
        self, body: Mapping[str, Any], method: Mapping[str, Any], reinforcement: Mapping[str, Any]
    ) -> Iterator[str]:
        yield from (key for key in body if key not in REQUEST + STATUS)
        yield from (f"method.{key}" for key in method if key not in ("type", "reinforcement", *OTHER_METHODS))
        yield from (f"method.reinforcement.{key}" for key in reinforcement if key not in REINFORCEMENT)
        values = reinforcement.get("hyperparameters")
        for key in values if isinstance(values, dict) else ():
            if key not in HYPERPARAMETERS:
                yield f"method.reinforcement.hyperparameters.{key}"


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def is_count(value: Any, least: int = 1, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any, more_than: float = 0.0, most: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and more_than < value <= most


HYPERPARAMETERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch_size": (lambda value: is_count(value, 1, 256), "auto, or a whole number from 1 to 256"),
    "n_epochs": (lambda value: is_count(value, 1, 50), "auto, or a whole number from 1 to 50"),
    "learning_rate_multiplier": (is_number, "auto, or a number above 0"),
    "compute_multiplier": (lambda value: is_number(value, 1.0e-5, 10), "auto, or a number above 0.00001, at most 10"),
    "eval_interval": (is_count, "auto, or a whole number of at least 1"),
    "eval_samples": (is_count, "auto, or a whole number of at least 1"),
    "reasoning_effort": (lambda value: isinstance(value, str) and value in EFFORTS, ", ".join(EFFORTS)),
}


def kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """A value in a message; of objects and lists only their kind, as they may hold secrets."""
    return kind(value) if isinstance(value, dict | list) else f"{value!r:.80}"
