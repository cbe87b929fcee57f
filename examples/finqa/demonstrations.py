"""Episodes an annotator might have recorded: the right path, with the detours and slips that training should remove.

Every tool output in a demonstration is what the real tool answers, so the policy learns from pages as it will see
them. How often an annotator wanders or errs is `Habits`; `CLEAN` is an annotator who does neither.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from examples.finqa.generate import Asked, Table, expression

SYSTEM_PROMPT = "answer the question with a number . search the reports , read the page , then calculate ."

Message = dict[str, Any]
CallTool = Callable[[str, dict[str, str]], str]


@dataclass(frozen=True)
class Habits:
    """How often, as a probability per episode, an annotator does the needless or the wrong thing."""

    vague_search: float = 0.0  # leaves out the year or the line, then searches properly
    second_search: float = 0.0  # searches once more although the page was found
    list_report: float = 0.0  # lists the report's folder
    read_again: float = 0.0  # reads the same page a second time
    read_neighbour: float = 0.0  # reads another result first
    calculate_again: float = 0.0  # repeats the calculation
    wrong_page: float = 0.0  # answers from another page of the results
    wrong_row: float = 0.0  # takes a figure from another line
    swapped_operands: float = 0.0  # old - new, or b / a


CLEAN = Habits()


def tool_call(name: str, *, thought: str = "", **arguments: str) -> Message:
    """An assistant message that makes one call, after saying what it goes by."""
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": thought, "tool_calls": [{"type": "function", "function": function}]}


def final_answer(text: str, *, thought: str = "") -> Message:
    return {"role": "assistant", "content": f"{thought}\nthe answer is {text}" if thought else f"the answer is {text}"}


def opening(asked: Asked, system_prompt: str) -> list[Message]:
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": asked.question}]


def _question_words(asked: Asked) -> tuple[str, str, str]:
    """Who, when and what the question names, in its own words."""
    text = asked.question
    who = f"{asked.table.segment} {asked.table.company}" if asked.table.segment else asked.table.company
    named = {label for item in asked.table.items for label in item.labels if f" {label} " in text}
    longest = [label for label in named if not any(label != other and label in other for other in named)]
    return who, str(asked.years[0]), " ".join(sorted(longest, key=text.find))


def has_answer(table: Table, asked: Asked) -> bool:
    """Whether a page prints the figures that were asked for: the same statement of the same company, those years."""
    wanted = asked.table
    is_same = (table.company, table.segment, table.labels) == (wanted.company, wanted.segment, wanted.labels)
    return is_same and set(asked.years) <= set(table.years)


def _slip(asked: Asked, page: Table, habits: Habits, rng: random.Random) -> list[tuple[int, int]]:
    """The cells that this annotator takes the operands from: usually the right ones."""
    cells = list(asked.cells)
    if not has_answer(page, asked):  # the wrong page: its first line, whatever that is
        cells = [(0, page.years[min(i, len(page.years) - 1)]) for i in range(len(cells))]
    elif rng.random() < habits.wrong_row:
        place = rng.randrange(len(cells))
        row, year = cells[place]
        cells[place] = (rng.choice([i for i in range(len(page.items)) if i != row]), year)
    if len(cells) == 2 and rng.random() < habits.swapped_operands:
        cells.reverse()
    return cells


def demonstrate(
    asked: Asked,
    call: CallTool,
    tables: Mapping[str, Table],
    rng: random.Random,
    *,
    habits: Habits = CLEAN,
    system_prompt: str = SYSTEM_PROMPT,
    with_search: bool = True,
) -> list[Message] | None:
    """One episode as chat messages, from the system prompt to the final answer.

    Args:
        call: runs a tool, (name, arguments) -> output.
        tables: every page by its path.
        with_search: False starts at the right page, for the short episodes of the pre-training.

    Returns:
        None where the search does not find a page that answers: nobody could have recorded that episode.
    """
    messages = opening(asked, system_prompt)

    def act(name: str, thought: str = "", **arguments: str) -> str:
        output = call(name, arguments)
        messages.extend((tool_call(name, thought=thought, **arguments), {"role": "tool", "content": output}))
        return output

    path = asked.table.path
    if with_search:
        who, year, what = _question_words(asked)
        query = f"{who} {year} {what}"
        if rng.random() < habits.vague_search:
            act("search", query=rng.choice((f"{who} {what}", f"{who} {year}", f"{what} {year}")))
        if rng.random() < habits.list_report:
            act("list", path=f"{path.split('/')[0]}/{year}")
        found = [line.split(":")[0] for line in act("search", query=query).splitlines()]
        answering = [result for result in found if result in tables and has_answer(tables[result], asked)]
        if not answering:
            return None
        # The report of the year that was asked for, where it was found.
        path = next((result for result in answering if f"/{year}/" in result), answering[0])
        others = [result for result in found if result != path]
        if rng.random() < habits.second_search:
            act("search", query=query)
        if others and rng.random() < habits.read_neighbour:
            act("cat", path=rng.choice(others))
        if others and rng.random() < habits.wrong_page:
            path = rng.choice(others)
    act("cat", path=path)
    if rng.random() < habits.read_again:
        act("cat", path=path)
    page = tables[path]
    cells = _slip(asked, page, habits, rng)
    operands = tuple(page.values[cell] for cell in cells)
    quoted = " ; ".join(f"{page.labels[row]} {year} {page.values[row, year]}" for row, year in cells)
    typed = expression(asked.kind, operands)
    if typed is None:
        messages.append(final_answer(operands[0], thought=quoted))
        return messages
    result = act("calculate", thought=quoted, expression=typed)
    if rng.random() < habits.calculate_again:
        act("calculate", expression=typed)
    messages.append(final_answer(result))
    return messages
