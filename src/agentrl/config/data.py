"""`data:` the tasks, as JSONL files or from a loader function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from agentrl.config.section import FilePath, Fraction, PositiveInt, Problem, Section


class CurriculumConfig(Section):
    """Tasks are drawn by p (1 - p) of their success rate p (arXiv:2408.15099), not one after the other."""

    uniform_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="Part of the draws that every task has the same share in, solved ones too."
    )
    decay: Fraction = Field(
        default=0.9, description="What a task's earlier results still count each time that it is drawn again."
    )


class DataConfig(Section):
    """Either `train` and `validation` (and `test`) files, or a `loader` with its `path`."""

    train: FilePath | None = Field(
        default=None, description="JSONL of training tasks: one object a line, `messages` plus any item keys."
    )
    validation: FilePath | None = Field(
        default=None, description="JSONL of validation tasks, read at every evaluation."
    )
    test: FilePath | None = Field(default=None, description="JSONL of test tasks, touched once, at the end.")
    loader: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = Field(
        default=None, description="`package.module:function`, called with `path`, returns {split: list of Task}."
    )
    path: FilePath | None = Field(default=None, description="What the loader reads: a file or a directory.")
    max_train: PositiveInt | None = Field(default=None, description="Keep this many training tasks, the first ones.")
    max_validation: PositiveInt | None = Field(default=None, description="Keep this many validation tasks.")
    max_test: PositiveInt | None = Field(default=None, description="Keep this many test tasks.")
    curriculum: CurriculumConfig | None = Field(
        default=None, description="Draw training tasks by how much they can teach; null draws them evenly."
    )

    def problems(self) -> Iterator[Problem]:
        files = [key for key in ("train", "validation", "test") if getattr(self, key) is not None]
        loading = [key for key in ("loader", "path") if getattr(self, key) is not None]
        forms = "allowed: train and validation (JSONL files), or loader and path"
        if files and loading:
            yield Problem((), f"found both {' and '.join(files + loading)}; {forms}, not both")
        elif loading:
            if len(loading) == 1:
                yield Problem((), f"found {loading[0]} alone; {forms}")
        elif not {"train", "validation"} <= set(files):
            yield Problem((), f"found {' and '.join(files) or 'no tasks'}; {forms}")
