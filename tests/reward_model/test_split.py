from __future__ import annotations

import pytest

from agentrl.errors import ConfigError
from agentrl.reward_model.split import groups, half, refuse_leakage, split
from tests.reward_model.examples import episode

LONG = (
    "what was the total revenue of the northern branch in the year {} before any taxes were paid at all , counting "
    "neither gifts nor what the southern branch had lent to it , and rounded to thousands ?"
)


def test_whole_documents_are_held_out_and_always_the_same_ones() -> None:
    episodes = [episode(f"e{n}", f"t{n // 2}", document=f"d{n // 6}") for n in range(600)]
    learned, held_out = split(episodes, 0.2)
    assert 60 < len(held_out) < 180
    assert not {each.document for each in learned} & {each.document for each in held_out}
    assert split(episodes[::-1], 0.2)[1] == held_out[::-1]
    refuse_leakage(learned, held_out)


def test_tasks_hang_together_through_others() -> None:
    chain = [
        episode("a", "t1", document="d1"),
        episode("b", "t2", document="d1", asked="nothing like it"),
        episode("c", "t1", document="d2"),
        episode("d", "t3", document="d2", asked="nor this one here"),
    ]
    assert len(set(groups(chain).values())) == 1
    is_first = half(chain)
    assert len({is_first(task) for task in ("t1", "t2", "t3")}) == 1


def test_nearly_the_same_question_stays_on_one_side() -> None:
    episodes = [episode(f"e{n}", f"t{n}", asked=LONG.format(n)) for n in range(40)]
    assert len(set(groups(episodes).values())) == 1
    apart = [episode(f"e{n}", f"t{n}", asked=LONG.format(n), document=f"d{n}") for n in range(40)]
    assert len(set(groups(apart).values())) == 40  # about two documents these are two questions


@pytest.mark.parametrize(
    ("train", "validation", "says"),
    [
        (episode("a", "t"), episode("b", "t"), "1 tasks: t;"),
        (episode("a", "t", document="d"), episode("b", "u", document="d", asked="other"), "1 documents: d;"),
        (episode("a", "t", asked=LONG.format(1)), episode("b", "u", asked=LONG.format(2)), "duplicate questions: t"),
        (episode("a", "t", asked="x y z"), episode("a", "u", asked="p q r"), "1 episodes: a;"),
    ],
)  # fmt: skip
def test_what_both_files_hold_is_refused(train: object, validation: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        refuse_leakage([train], [validation])  # type: ignore[list-item]


def test_other_questions_pass() -> None:
    refuse_leakage([episode("a", "t", asked="how tall is it")], [episode("b", "u", asked="who wrote the letter")])
