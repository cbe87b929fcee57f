"""What pydantic found, said so that the user can repair it: `file:line: section.key: found X; allowed Y`."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from agentrl.config.section import BrokenRules, PathParts, Section, did_you_mean, dotted
from agentrl.config.source import SHORT_SECTIONS, Source, is_short

KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
}
NOTHING = object()
PATTERNS = {
    r"^(https?://|\{serve\}).*": "an address that starts with http:// or https:// (or {serve})",
    r"^https?://.*": "an address that starts with http:// or https://",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$": "up to 80 letters, digits, dots, dashes and underscores",
    r"^[A-Za-z0-9_-]{1,64}$": "up to 64 letters, digits, dashes and underscores",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "package.module:function",
    r"^sha256:[0-9a-f]{64}$": "sha256: and 64 hexadecimal digits",
    r"^P(\d+D|T\d+[HMS]|\d+DT\d+[HMS])$": "an ISO 8601 duration such as P7D or PT24H",
}


def explain(error: ValidationError, model: type[Section], source: Source) -> list[tuple[str, str]]:
    """(place, message) of every mistake."""
    messages: list[tuple[str, str]] = []
    for detail in error.errors(include_url=False):
        loc = tuple(detail["loc"])
        if detail["type"] == "too_short" and detail["input"] and not detail["ctx"]["actual_length"]:
            continue  # elements that are wrong are told by themselves, and pydantic counts none of them
        is_short_list = detail["type"] == "missing" and isinstance(loc[-1], int)
        path, annotation, info = _resolve(model, loc[:-1] if is_short_list else loc)
        broken = detail.get("ctx", {}).get("error")
        if isinstance(broken, BrokenRules):
            found = [((*path, *problem.path), problem.message) for problem in broken.problems]
        elif detail["type"] == "extra_forbidden":
            key = str(detail["loc"][-1])
            around = _resolve(model, path[:-1])[1] if len(path) == 2 and is_short(source.values, path) else None
            found = [((*path, key), _unknown_key(key, annotation, model, around))]
        elif detail["type"] == "union_tag_invalid":
            found = [((*path, "type"), _unknown_kind(detail["ctx"], source_value(source, (*path, "type"))))]
        elif detail["type"] == "too_short" and not isinstance(detail["input"], str):
            found = [(path, f"found {_shown(source_value(source, path))}; allowed: {_at_least(detail['ctx'])}")]
        elif detail["type"] == "missing" and not is_short_list:
            what = info.description if info and info.description else _allowed(annotation, info)
            found = [(path, f"missing; it is required: {what}")]
        else:
            value = source_value(source, path)
            is_private = "headers" in path or "env" in path  # may be a secret
            wrong = "found another type; allowed: text (in quotes)" if is_private else None
            found = [(path, wrong or _wrong_value(value, annotation, info, source.texts.get(path)))]
        for where, message in found:
            is_in_place = where[:2] in SHORT_SECTIONS and is_short(source.values, where)
            shown = dotted((where[0], *where[2:]) if is_in_place else where)
            entry = (source.place(where), f"{shown}: {message}" if where else message)
            if entry not in messages and where not in source.refused:  # a union reports once per alternative
                messages.append(entry)
    return messages


def source_value(source: Source, path: PathParts) -> Any:
    """The value as it stands in the source, or NOTHING."""
    value: Any = source.values
    if is_short(value, path):
        path = (path[0], *path[2:])
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return NOTHING
    return value


def _resolve(model: type[Section], loc: tuple[str | int, ...]) -> tuple[PathParts, Any, FieldInfo | None]:
    """Follow `loc` as far as it names keys and positions: pydantic adds tags of unions and of mapping keys."""
    path: list[str | int] = []
    annotation: Any = model
    info: FieldInfo | None = None
    for part in loc:
        inner = _members(annotation)
        sections = [member for member in inner if _is_section(member)]
        if len(sections) > 1:  # a union: its tag follows
            chosen = [member for member in sections if part in get_args(member.model_fields["type"].annotation)]
            if not chosen:
                break
            annotation = chosen[0]
            continue
        if sections and part in sections[0].model_fields:
            info = sections[0].model_fields[str(part)]
            annotation = info.annotation
        elif isinstance(part, int) and (items := [get_args(m) for m in inner if get_origin(m) is tuple]):
            annotation, info = items[0][0], None
        elif part != "[key]" and (values := [get_args(m)[1] for m in inner if get_origin(m) is dict]):
            annotation, info = values[0], None
        else:
            break
        path.append(part)
    return tuple(path), annotation, info


def _members(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, bare of Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member) if inner is not types.NoneType]
    return [annotation]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _unknown_key(key: str, annotation: Any, model: type[Section], around: Any = None) -> str:
    """What to write instead; `around` is the section whose keys may stand beside those of the one that is meant."""
    section = next(member for member in _members(annotation) if _is_section(member))
    known = list(section.model_fields)
    known += [name for member in _members(around) if _is_section(member) for name in member.model_fields]
    if hint := did_you_mean(key, known):
        return f"unknown key{hint}"
    homes = [place for place in dict.fromkeys(_sections_with(key, model, ())) if place]  # a union has a place once
    if homes:
        return f"unknown key; '{key}' belongs under {' or '.join(homes)}"
    return f"unknown key; allowed: {', '.join(known)}"


def _unknown_kind(context: Mapping[str, Any], value: Any) -> str:
    """What pydantic found in a `type` that tells the members of a union apart."""
    known = re.findall(r"'(\w+)'", context["expected_tags"])
    hint = did_you_mean(context["tag"], known)
    return f"found {_shown(value)}; allowed: {', '.join(known)}{hint}"


def _sections_with(key: str, section: type[Section], path: PathParts) -> Iterator[str]:
    if key in section.model_fields:
        yield dotted(path) or "the top of the file"
    for name, info in section.model_fields.items():
        for member in _members(info.annotation):
            if _is_section(member):
                yield from _sections_with(key, member, (*path, name))


def _wrong_value(value: Any, annotation: Any, info: FieldInfo | None, text: str | None) -> str:
    message = f"found {_shown(value)}; allowed: {_allowed(annotation, info)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{message}, never infinite or NaN"
    members = _members(annotation)
    words = [word for member in members if get_origin(member) is Literal for word in get_args(member)]
    if isinstance(value, str):
        if {int, float} & set(members) and (number := _as_number(value)) is not None:
            wanted = _yaml_number(number, is_count=float not in members)
            yaml_says = "YAML reads it as text" if "e" in value.lower() else "in quotes it is text"
            return f"{message}; {yaml_says}: write {wanted}" if wanted else message
        return message + did_you_mean(value, words)
    if isinstance(value, bool) and text is not None and (str in members or text in words):
        return f'{message}; YAML reads a bare {text} as {_shown(value)}: write "{text}" in quotes'
    if value is None and any(_is_section(member) for member in members):
        return f"{message}; to take the defaults, delete the line"
    if not isinstance(value, bool | None) and value is not NOTHING and str in members and text is not None:
        return f'{message}; write "{text}" in quotes'
    return message


def _at_least(context: Mapping[str, Any]) -> str:
    least = context["min_length"]
    return f"at least {least} {'entry' if least == 1 else 'entries'}"


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _yaml_number(number: float, *, is_count: bool) -> str:
    """A number as PyYAML reads it: the mantissa has a dot, the exponent a sign."""
    if number.is_integer() and (is_count or abs(number) < 1e6):
        return str(int(number)) if is_count else f"{number:.1f}"
    if is_count:
        return ""
    mantissa, e, exponent = repr(number).partition("e")
    if not e:
        return mantissa
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"


def _shown(value: Any) -> str:
    if value is NOTHING:
        return "nothing"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{value}'" if len(value) <= 60 else f"the text '{value[:57]}...'"
    if isinstance(value, dict):
        names = ", ".join(map(str, value))
        return f"a mapping ({names})" if 0 < len(names) <= 60 else "a mapping" if value else "an empty mapping"
    return f"a list of {len(value)}" if isinstance(value, list) else str(value)


def _allowed(annotation: Any, info: FieldInfo | None) -> str:
    limits = list(info.metadata) if info else []
    kinds = [_kind(member, limits) for member in _alternatives(annotation)]
    return " or ".join(kinds) or "another value"


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return list(get_args(annotation))
    return [annotation]


def _kind(annotation: Any, limits: list[Any]) -> str:
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        own = [limit for part in extra for limit in (part.metadata if isinstance(part, FieldInfo) else [part])]
        return _kind(inner, own)
    if annotation is types.NoneType:
        return "null"
    if get_origin(annotation) is Literal:
        return ", ".join(str(word) for word in get_args(annotation))
    if get_origin(annotation) is tuple:
        first, *rest = get_args(annotation)
        what = _plural(_kind(first, []))
        return f"a list of {what}" if rest == [Ellipsis] else f"a list of {len(rest) + 1}: each {_kind(first, [])}"
    if get_origin(annotation) in (Union, types.UnionType) and all(map(_is_section, _members(annotation))):
        return "a mapping with a type"
    if _is_section(annotation):
        return f"a mapping ({', '.join(annotation.model_fields)})"
    kind = KINDS.get(get_origin(annotation) or annotation, "another value")
    pattern = next((limit.pattern for limit in limits if getattr(limit, "pattern", None)), None)
    if pattern is not None:
        return PATTERNS.get(pattern, f"text that matches {pattern}")
    if annotation is str and any(getattr(limit, "min_length", 0) for limit in limits):
        return "text that is not empty"
    return kind + _bounds(limits)


def _plural(kind: str) -> str:
    if kind.startswith("a mapping"):
        return kind.replace("a mapping", "mappings", 1)
    return f"{kind[2:]}s" if kind.startswith("a ") and "," not in kind and "(" not in kind else kind


def _bounds(limits: list[Any]) -> str:
    words = []
    for limit in limits:
        match limit:
            case annotated_types.Ge(ge=bound):
                words.append(f"of at least {bound:g}")
            case annotated_types.Gt(gt=bound):
                words.append(f"greater than {bound:g}")
            case annotated_types.Le(le=bound):
                words.append(f"at most {bound:g}")
            case annotated_types.Lt(lt=bound):
                words.append(f"less than {bound:g}")
    return " " + " and ".join(words) if words else ""
