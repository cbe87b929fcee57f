"""The questions as agentrl's tasks: `data: {loader: examples.finqa.tasks:load_splits, path: DIR}`.

DIR may hold our generated reports, the published FinQA files, or any pages and questions of that form.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from agentrl.types import Task
from examples.finqa.corpus import load_corpus
from examples.finqa.demonstrations import SYSTEM_PROMPT
from examples.finqa.pages import Question

SPLITS = ("train", "validation", "test")


def load_splits(path: Path) -> dict[str, list[Task]]:
    """Tasks by split. Questions without a split are dealt by their company, eight train to one each of the others."""
    splits: dict[str, list[Task]] = {split: [] for split in SPLITS}
    for question in load_corpus(path).questions:
        splits[question.split or _deal(question.path)].append(to_task(question))
    return splits


def to_task(question: Question) -> Task:
    """The agent is given the question alone; the item's other keys are the grader's."""
    messages = ({"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question.question})
    item = {
        "path": question.path,
        "reference_answer": question.answer,
        "answer_text": question.answer_text,
        "program": question.program,
    }
    return Task(question.id, messages, item)


def _deal(path: str) -> str:
    tenth = hashlib.sha256(path.split("/")[0].encode()).digest()[0] % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")
