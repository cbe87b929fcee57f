"""`data:` the tasks, as JSONL files or from a loader function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from agentrl.config.section import FilePath, PositiveInt, Problem, Section


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
