"""Whatever stands in a job, the file that is written means it to the letter."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentrl.importing.yaml_text import config_text

CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cs",))
TEXTS = st.text(
    st.one_of(st.sampled_from("\n\t #:-'\"{}[]|>&*!%@`,?=~\x85\u2028\ufeff\r\x00"), CHARACTERS), max_size=30
)
PLAIN = st.one_of(TEXTS, st.booleans(), st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


SECTIONS = st.sampled_from(["workflow", "grading", "data"])


@given(st.dictionaries(SECTIONS, st.dictionaries(TEXTS, VALUES, max_size=3), max_size=3), TEXTS)
def test_the_text_loads_as_the_values(values: dict[str, Any], comment: str) -> None:
    comments = {"workflow": comment, **{f"grading.{key}": comment for key in values.get("grading", {})}}
    assert (yaml.safe_load(config_text([comment], values, comments)) or {}) == values


def test_a_program_stands_as_it_is_written() -> None:
    source = "def grade(sample, item):\n    return 1.0\n"
    text = config_text([], {"grading": {"grader": {"source": source}}}, {})
    assert "    source: |\n      def grade(sample, item):\n          return 1.0\n" in text


def test_comments_stand_beside_short_values_and_above_long_ones() -> None:
    values = {"name": "x", "ppo": {"steps": 3, "kl": {"coef": 0.1}}}
    text = config_text(["head"], values, {"name": "why", "ppo.steps": "three", "ppo.kl": "small"})
    assert text == "# head\n\nname: x # why\n\nppo:\n  steps: 3 # three\n  # small\n  kl:\n    coef: 0.1\n"
