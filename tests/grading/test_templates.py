"""A template says what it means or is refused: a path is never silently empty, and answers are never templates."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.config.graders import StringCheckConfig
from agentrl.config.graders.templates import Variable, parse_template, template_paths
from agentrl.grading.submission import Submission
from agentrl.grading.templates import MissingValue, missing_paths, render

ITEM = {
    "n": 42,
    "x": 0.5,
    "yes": True,
    "none": None,
    "empty": "",
    "a": {"b": [10, {"c": "deep"}]},
    "a key": "found",
    "list": [],
    "1": "one",
}
CALLS = [{"id": "c0", "type": "function", "function": {"name": "search", "arguments": "{}"}}]


def shown(template: str, answer: str = "it is {{ item.n }}", item: dict[str, Any] = ITEM) -> str:
    plain = Submission.of_text(answer, item)
    return render(template, Submission({**plain.sample, "output_tools": CALLS}, item))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("no variables", "no variables"),
        ("", ""),
        ("{{item.n}}", "42"),
        ("{{ item.n }}", "42"),
        ("{{\n item.n\t}}", "42"),
        ("<{{ item.n }}{{ item.n }}>", "<4242>"),
        ("{{ item.x }}", "0.5"),
        ("{{ item.yes }}", "true"),
        ("{{ item.none }}", "null"),
        ("{{ item.empty }}", ""),
        ("{{ item.a.b[0] }}", "10"),
        ("{{ item.a.b.1.c }}", "deep"),
        ("{{ item['a key'] }}", "found"),
        ('{{ item["a"].b[1]["c"] }}', "deep"),
        ("{{ item.1 }}", "one"),
        ("{{ item.a }}", '{"b":[10,{"c":"deep"}]}'),
        ("{{ item.list }}", "[]"),
        ("{{sample.output_tools[0].function.name}}", "search"),
        ("{{ sample.output_tools }}", '[{"id":"c0","type":"function","function":{"name":"search","arguments":"{}"}}]'),
        ("{{ sample.choices[0].finish_reason }}", "stop"),
        ("{{ sample.output_reasoning_summary }}", "null"),
        ("{{ sample.output_json }}", "null"),
        ("{ item.n } }} {", "{ item.n } }} {"),
    ],
)
def test_a_template_is_filled_in(template: str, text: str) -> None:
    assert shown(template) == text


def test_what_the_model_writes_is_never_a_template() -> None:
    assert shown("<{{ sample.output_text }}>") == "<it is {{ item.n }}>"
    assert shown("{{ sample.output_text }}{{ item.n }}", "{{ item.") == "{{ item.42"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ items.n }}", "did you mean 'item'"),
        ("{{ n }}", r"allowed: \{\{ item.KEY \}\}"),
        ("{{ }}", "found '{{  }}'"),
        ("{{ item.n", "without its '}}'"),
        ("{{ item.n {{ item.x }}", "without its '}}'"),
        ("{{ item..n }}", "found '{{ item..n }}'"),
        ("{{ item.n | upper }}", "found '{{ item.n | upper }}'"),
        ("{{ item.a[-1] }}", r"with .KEY, \[0\]"),
        ("{{ item.a[] }}", "allowed"),
        ("{{ __import__('os') }}", "allowed"),
        ("{{ sample.output_txt }}", "did you mean 'output_text'"),
        ("{{ sample.output_text.answer }}", "output_json has those of a JSON answer"),
    ],
)
def test_a_bad_template_is_found_when_the_config_is_read(template: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StringCheckConfig(type="string_check", input=template, reference="x", operation="eq")


@pytest.mark.parametrize(
    "template",
    ["{{ item.m }}", "{{ item.n.m }}", "{{ item.a.b[2] }}", "{{ item.none.x }}", "{{ item.list[0] }}",
     "{{ item.empty[0] }}", "{{ item.__class__ }}", "{{ sample.output_audio }}"],
)  # fmt: skip
def test_what_the_row_lacks_is_ungraded(template: str) -> None:
    with pytest.raises(MissingValue) as missing:
        shown(template)
    found = missing.value.grade()
    assert (found.score, found.errors) == (None, ("invalid_variable_error",))
    assert template in found.reason


@pytest.mark.parametrize(
    "template",
    ["{{ sample.output_json.answer }}", "{{ sample.output_tools[1].function.name }}", "{{ sample.turns[0] }}"],
)
def test_what_the_answer_lacks_is_the_answers_fault(template: str) -> None:
    with pytest.raises(MissingValue) as missing:
        shown(template)
    found = missing.value.grade(-1.0)
    assert (found.score, found.errors) == (-1.0, ("sample_parse_error",))
    assert template in found.explanation


def test_an_answer_nested_beyond_writing_is_refused_by_name() -> None:
    nested: Any = []
    for _ in range(200_000):
        nested = [nested]
    with pytest.raises(MissingValue, match="cannot be written"):
        render("{{ item.x }}", Submission({}, {"x": nested}))
    while nested:  # or taking it apart would recurse
        nested = nested.pop()


def test_rows_without_what_a_template_names_are_found_before_training() -> None:
    config = StringCheckConfig(
        type="string_check",
        name="exact",
        input="{{ sample.output_json.city }}",
        reference="{{ item.reference }} {{ item.messages[0].content }}",
        operation="eq",
    )
    rows = [{"reference": "Paris"}, {"answer": "Rome"}, {"reference": None}]
    assert list(map(str, missing_paths(config, rows))) == ["row 2 has no item.reference, which grader exact reads"]


keys = st.text(max_size=8).filter(lambda key: "'" not in key and "{{" not in key and "}}" not in key)


@given(st.lists(keys | st.integers(0, 99), max_size=4))
def test_a_path_is_shown_as_it_could_be_written(path: list[str | int]) -> None:
    template = "{{ item" + "".join(f"[{part}]" if isinstance(part, int) else f"['{part}']" for part in path) + " }}"
    assert template_paths(template) == (("item", *path),)
    assert parse_template(f"{{{{ {Variable(('item', 'plain', 0))} }}}}") == (Variable(("item", "plain", 0)),)


@given(st.text(st.sampled_from("{}item.sample[]0'\" output_json|"), max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(ValueError):
        pieces = parse_template(text)
        assert "{{" not in "".join(piece for piece in pieces if isinstance(piece, str))
