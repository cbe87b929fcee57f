"""The terminal side of `agentrl audit`: an episode on the screen, a question, an answer; saved before the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agentrl.cli.screen import block
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.labels import AuditEntry
    from agentrl.types import Rollout

HELP = """\
  0 to 1      how good it is, such as 0.5; g is 1 (good), b is 0 (bad)
  g NOTE      any label may be followed by a note: b right number, wrong year
  s           skip: it comes again the next time
  f           show the long texts whole
  q           quit; what is labelled is saved"""
QUESTION = "0..1, g(ood), b(ad), s(kip), f(ull), q(uit), ?: "
WORDS = {"g": 1.0, "good": 1.0, "b": 0.0, "bad": 0.0}


def label_all(
    run: Path,
    waiting: Sequence[tuple[str, AuditEntry]],
    rater: str,
    *,
    is_blind: bool = False,
    is_full: bool = False,
    ask: Callable[[str], str] = input,
) -> int:
    """Show one episode after the other until all are labelled, or the person has had enough.

    Args:
        ask: shows a question and returns the line that is typed; EOFError is the end of all answers.

    Returns:
        How many were labelled.
    """
    from agentrl.evaluation.recorded import queued_rollouts
    from agentrl.labels import Rating, append_label, labels_path

    rollouts = queued_rollouts(run, waiting)
    labelled = 0
    for number, (evaluation, entry) in enumerate(waiting, start=1):
        rollout = rollouts[entry.rollout_id]
        place = printable(f"{evaluation}, task {entry.task_id}, {entry.rollout_id}")
        print(f"\n{number} of {len(waiting)}  {place}")
        print("\n".join(episode_lines(rollout, is_full)))
        if not is_blind:
            print("\n".join(score_lines(rollout, entry)))
        answer = _answer(rollout, ask)
        if answer is None:
            break
        if answer == "skip":
            continue
        score, note = answer
        append_label(labels_path(run), Rating(entry.rollout_id, entry.task_id, rater, score, note))
        labelled += 1
        if is_blind:
            print("\n".join(score_lines(rollout, entry)))
    print()
    return labelled


def _answer(rollout: Rollout, ask: Callable[[str], str]) -> tuple[float, str] | Literal["skip"] | None:
    """(score, note), "skip", or None where the person quits; asks again until it is one of these."""
    while True:
        try:
            typed = ask(QUESTION).strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; labels are saved, and the same command goes on") from None
        word, _, note = typed.partition(" ")
        match word.lower():
            case "q" | "quit":
                return None
            case "s" | "skip":
                return "skip"
            case "f" | "full":
                print("\n".join(episode_lines(rollout, is_full=True)))
            case "?" | "h" | "help":
                print(HELP)
            case _:
                if (score := read_score(word)) is not None:
                    return score, note.strip()
                print(f"  found {printable(typed)!r}; allowed:\n{HELP}")


def read_score(word: str) -> float | None:
    """A score that was typed, with a point or a comma; None where it is none."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    try:
        score = float(word.replace(",", "."))
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


def episode_lines(rollout: Rollout, is_full: bool) -> Iterator[str]:
    """The task, what the row knows, each call with its output, and the answer."""
    from agentrl.labels.conversation import episode_of, facts_of, task_of

    for who, text in task_of(rollout):
        yield from block(who, text, is_full)
    for key, value in facts_of(rollout.task.item).items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield from block("row", f"{key}: {shown}", is_full)
    for who, text in episode_of(rollout):
        yield from block(who, text, is_full)


def score_lines(rollout: Rollout, entry: AuditEntry) -> Iterator[str]:
    """What graders say of it, and why a person is asked."""
    parts = [f"{printable(name)} {score:g}" for name, score in rollout.grade.sub_scores.items()]
    yield f"    score     {entry.score:g}" + (f" ({', '.join(parts)})" if parts else "")
    for name, score in entry.holdout.items():
        yield f"    hold-out  {printable(name)} {score:g}"
    yield from block("because", rollout.grade.explanation, full=False)
    yield f"    queued    {printable(entry.reason)}; ended: {rollout.stop_reason.value}"
