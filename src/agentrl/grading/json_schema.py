"""`type: json_schema`: 1 where the answer is JSON of a schema, else 0, or the share of its properties that hold.

The schema is the config's, the JSON is the model's: patterns and the validation as a whole have a time limit, and no
reference leaves the schema. What takes too long or is nested too deeply is ungraded.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from agentrl.config.graders import JsonSchemaConfig
from agentrl.errors import ConfigError
from agentrl.grading.extras import extra, versions_of
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.patterns import Pattern, PatternTimeout
from agentrl.grading.submission import Submission
from agentrl.grading.templates import MissingValue, render
from agentrl.strict_json import strict_json
from agentrl.types import Grade

SECONDS = 1.0
"""Of computing, for one validation; a single pattern has half of it."""
MAX_CHARS = 1_000_000
SHOWN_ERRORS = 3
BEYOND_THE_LIBRARY = (RecursionError, ArithmeticError, ValueError, TypeError)
"""What jsonschema raises on JSON that is nested deeply, or has integers beyond every float."""


class TooSlowError(Exception):
    """A validation was stopped."""


class JsonSchemaGrader:
    """Validates an answer.

    Raises:
        ConfigError: a pattern of the schema is too large; or jsonschema is missing.
    """

    def __init__(self, config: JsonSchemaConfig) -> None:
        self._config, schema = config, config.schema_alone
        name = f"grader {config.name or config.type}: json_schema"
        jsonschema, referencing = extra("jsonschema", name), extra("referencing", name)
        try:
            for pattern in config.patterns:
                _pattern(pattern)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        self._validator = _limited(kind)(schema, registry=referencing.Registry())
        self._unusable = (TooSlowError, PatternTimeout, referencing.exceptions.Unresolvable, *BEYOND_THE_LIBRARY)
        self._parts = tuple(schema.get("required") or schema.get("properties") or ())
        self.version = content_version(config, libraries=versions_of("jsonschema", "regex"))

    def __repr__(self) -> str:
        return f"JsonSchemaGrader({', '.join(self._parts):.80})"

    async def aclose(self) -> None:
        """Nothing is held."""

    async def grade(self, submission: Submission) -> Grade:
        started = time.perf_counter()
        try:
            text = render(self._config.input, submission)
        except MissingValue as missing:
            return missing.grade()
        if len(text) > MAX_CHARS:
            found = f"json_schema: found {len(text):,} characters; allowed: {MAX_CHARS:,}"
            return ungraded(found, "sample_parse_error")
        try:
            value = strict_json(text)
        except ValueError as error:
            if isinstance(error.__cause__, RecursionError):
                return ungraded("json_schema: the answer is nested too deeply", "sample_parse_error")
            return Grade(0.0, explanation=f"no JSON: {error}", errors=("sample_parse_error",))
        try:
            score, errors = await asyncio.to_thread(self._validate, value)
        except self._unusable as error:
            why = str(error) or type(error).__name__
            return ungraded(f"json_schema: {why:.200}", "other_error", seconds=time.perf_counter() - started)
        shown = "; ".join(errors[:SHOWN_ERRORS]) + (f" and {len(errors) - SHOWN_ERRORS} more" if errors[3:] else "")
        return Grade(score, seconds=time.perf_counter() - started, explanation=shown or "the schema holds")

    def _validate(self, value: Any) -> tuple[float, list[str]]:
        """The score, and what is wrong."""
        _clock.ends = time.thread_time() + SECONDS
        errors: list[str] = []
        broken: set[str] = set()
        for error in self._validator.iter_errors(value):
            place = "/".join(map(str, error.absolute_path))
            errors.append(f"{place}: {error.message:.120}" if place else f"{error.message:.120}")
            if not self._config.partial_credit:
                break
            broken |= self._broken_by(error, value)
        if not errors or not self._config.partial_credit or not isinstance(value, dict):
            return float(not errors), errors
        parts = {*self._parts, *broken}
        return len(parts - broken) / len(parts), errors

    def _broken_by(self, error: Any, value: Any) -> set[str]:
        """The property that an error lies in, the missing ones, or "" for the object as a whole."""
        if error.absolute_path:
            return {str(error.absolute_path[0])}
        if error.validator == "required" and isinstance(value, dict):
            return {name for name in error.validator_value if name not in value}
        return {""}


_clock = threading.local()


@cache
def _pattern(pattern: str) -> Pattern:
    return Pattern(pattern, timeout_seconds=SECONDS / 2)


@cache
def _limited(kind: Any) -> Any:
    """A class of validators that looks at the clock before each keyword, and whose patterns are ours."""
    keywords = {**kind.VALIDATORS, **OURS}
    return extra("jsonschema.validators", "json_schema").extend(
        kind, {name: _on_time(check) for name, check in keywords.items() if name in kind.VALIDATORS}
    )


def _look_at_the_clock() -> None:
    if time.thread_time() > _clock.ends:
        raise TooSlowError(f"the validation took more than {SECONDS:g} s")


def _on_time(check: Any) -> Any:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        _look_at_the_clock()
        yield from check(validator, value, instance, schema) or ()

    return checked


def _error(message: str) -> Any:
    return extra("jsonschema", "json_schema").ValidationError(message)


def _matches(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    del schema
    if validator.is_type(instance, "string") and not _pattern(pattern).search(instance):
        yield _error(f"{instance!r:.80} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    del schema
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                _look_at_the_clock()  # a model may write many names, each of which takes a pattern long
                if _pattern(pattern).search(name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        _look_at_the_clock()
        if name in known or any(_pattern(pattern).search(name) for pattern in patterns):
            continue
        if allowed is False:
            yield _error(f"{name!r:.80} is no property of the schema")
        else:
            yield from validator.descend(value, allowed, path=name)


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """In time linear in the length: the library compares all pairs where items cannot be sorted."""
    del schema
    if wanted and validator.is_type(instance, "array"):
        texts = {json.dumps(_plain(item), sort_keys=True) for item in instance}
        if len(texts) < len(instance):
            yield _error("has items that are equal")


def _plain(value: Any) -> Any:
    """1.0 and 1 are equal in JSON, 1 and true are not."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


OURS = {
    "pattern": _matches,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
