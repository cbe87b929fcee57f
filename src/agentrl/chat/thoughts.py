"""A turn without what it says before its calls, cut out of its tokens: the calls stay as they were sampled."""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.chat.format import PROBE_ID, USER, ChatFormat, calling_message
from agentrl.chat.syntax import Tools
from agentrl.chat.turn import ParsedTurn


def without_thought(chat: ChatFormat, token_ids: Sequence[int], *, tools: Tools = None) -> tuple[int, ...] | None:
    """The turn with its calls alone; None where it makes none, says nothing before them, or goes on behind them.

    Where the generation prompt has opened a thought, the mark that closes it stays, with nothing thought.

    Args:
        token_ids: as sampled, stop token included.
        tools: the task's tool objects.
    """
    ids = list(token_ids)
    whole = chat.parse(ids, call_id_prefix="cut", tools=tools)
    if not (whole.calls or whole.malformed) or not (whole.text or whole.reasoning):
        return None
    prompt = chat.generation_prompt([USER])
    closing, first = _closing(chat, ids) if chat.syntax.opens_thought(prompt) else ([], 0)

    def read(start: int) -> ParsedTurn:
        return chat.parse([*closing, *ids[start:]], call_id_prefix="cut", tools=tools)

    # From the end back: as soon as all calls are there, and on as long as nothing is said.
    last = next((n for n in reversed(range(first, len(ids))) if _makes_the_same_calls(read(n), whole)), first)
    start = last
    while start > first and _is_silent(read(start - 1), whole, n_thought=len(closing)):
        start -= 1
    start += _behind(chat.encode(prompt, is_continued=True), ids[start:last])  # a turn may be several messages
    if not closing:
        start += _spare_blanks(chat, ids[start:last])
    kept = (*closing, *ids[start:])
    return kept if len(kept) < len(ids) and _is_silent(read(start), whole, n_thought=len(closing)) else None


def _closing(chat: ChatFormat, ids: list[int]) -> tuple[list[int], int]:
    """The tokens that close the thought which the prompt opened, with the blanks around them, and where they end."""
    mark = chat.encode(chat.syntax.thought[1], is_continued=True)
    if not (end := _behind(mark, ids, is_first=True)):
        return [], 0
    start = end - len(mark)
    while start and not chat.decode(ids[start - 1 : start]).strip():
        start -= 1
    while end < len(ids) and not chat.decode(ids[end : end + 1]).strip():
        end += 1
    return ids[start:end], end


def _makes_the_same_calls(turn: ParsedTurn, whole: ParsedTurn) -> bool:
    pairs = [[(call.name, call.arguments) for call in each.calls] for each in (turn, whole)]
    return pairs[0] == pairs[1] and turn.malformed == whole.malformed


def _is_silent(turn: ParsedTurn, whole: ParsedTurn, *, n_thought: int) -> bool:
    """Whether it makes all the calls and says nothing, beside the marks of an empty thought."""
    says_nothing = not turn.text and not turn.reasoning and turn.reasoning_tokens <= n_thought
    return says_nothing and _makes_the_same_calls(turn, whole)


def _behind(part: Sequence[int], ids: Sequence[int], *, is_first: bool = False) -> int:
    """Where the last (or first) occurrence of a part ends; 0 where there is none."""
    n = len(part)
    places = [at + n for at in range(len(ids) - n + 1) if list(ids[at : at + n]) == list(part)]
    return (places[0] if is_first else places[-1]) if places else 0


def _spare_blanks(chat: ChatFormat, ids: Sequence[int]) -> int:
    """How many of the blanks before the calls stood between them and what was said: the template writes fewer."""
    calls = [USER, calling_message(("probe", PROBE_ID, {"argument": "x"}))]
    written = chat.render(calls, generate=False).removeprefix(chat.render([USER], generate=True))
    n_written = len(written) - len(written.lstrip())
    spare = 0
    while spare < len(ids) and not (blanks := chat.decode(ids[spare:])).strip() and len(blanks) > n_written:
        spare += 1
    return spare
