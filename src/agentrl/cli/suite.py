"""`agentrl suite`: tasks that are frozen by digest, so that what is measured months apart is measured on the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.eval import ONCE, Split, Tags
from agentrl.cli.options import Config, Json, Set, training_config
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.evaluation.suites import Suite

suite = typer.Typer(no_args_is_help=True, help="Freeze tasks into a suite for `agentrl eval --suite`, and look at one.")

Out = Annotated[Path, typer.Option(metavar="FILE.json", help="Where the suite goes; its items are written beside it.")]
File = Annotated[Path, typer.Argument(metavar="FILE.json", help="A suite.")]
Name = Annotated[str | None, typer.Option(help="What it is called.  [default: the file's name]")]
Version = Annotated[str | None, typer.Option(help="Tells it from others of its name.  [default: today's date]")]
Items = Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")]


@suite.command()
def freeze(
    config: Config,
    out: Out,
    split: Split = None,
    tag: Tags = [],  # noqa: B006  (typer reads the default)
    items: Items = None,
    name: Name = None,
    version: Version = None,
    overrides: Set = [],  # noqa: B006
) -> None:
    """Write the tasks of a split as they are now, with the digest that they are known by from then on."""
    from agentrl.config import training_sections
    from agentrl.data.tasks import SPLITS, load_tasks
    from agentrl.errors import ConfigError
    from agentrl.evaluation.suites import freeze_suite
    from agentrl.evaluation.tags import with_tags

    split = split or "validation"
    if split not in SPLITS:
        raise ConfigError(f"--split: found {split!r}; allowed: {', '.join(SPLITS)}")
    if out.suffix != ".json":
        raise ConfigError(f"--out {out}: allowed: a file that ends in .json")
    resolved = training_config(config, overrides)
    tasks = getattr(load_tasks(training_sections(resolved).data), split)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        found = freeze_suite(
            out,
            with_tags(tasks, tag)[:items],
            name=name or out.name.removesuffix(".json"),
            split=split,
            source=resolved.name,
            version=version,
        )
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    _show(found, out)
    if split == "test":
        print(ONCE)


@suite.command()
def show(file: File, as_json: Json = False) -> None:
    """What a suite holds; fails where its items are not those that were frozen."""
    from agentrl.evaluation.suites import read_suite
    from agentrl.runs.files import to_json

    found = read_suite(file)
    if as_json:
        record = {**found.identity(), "split": found.split, "source": found.source, "frozen_at": found.frozen_at}
        print(to_json({**record, "n_items": len(found.tasks), "tags": found.tags}, indent=2))
    else:
        _show(found, file)


def _show(found: Suite, file: Path) -> None:
    print(
        printable(f"{file}: {found.name} {found.version}, {len(found.tasks)} items of {found.source}'s {found.split}")
    )
    print(printable(f"  digest {found.digest}"))
    print(printable(f"  tags   {_counts(found.tags) or 'none'}"))


def _counts(tags: Mapping[str, int]) -> str:
    return ", ".join(f"{tag} {count}" for tag, count in tags.items())
