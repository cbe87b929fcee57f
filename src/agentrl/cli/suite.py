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
Kind = Annotated[str, typer.Option(help="What it is for: capability, or frozen, the benchmark of the workflow.")]
Cases = Annotated[
    list[Path],
    typer.Option(metavar="FILE.yaml", help="Attacks of your own, beside those that ship. May be repeated."),
]
NoStarter = Annotated[bool, typer.Option("--no-starter", help="Only --cases, without the attacks that ship.")]
Attack = Annotated[
    list[str],
    typer.Option(metavar="KIND", help="Only tool_injection, jailbreak, personal_data, tool_misuse. May be repeated."),
]
PerAttack = Annotated[int, typer.Option(min=1, help="Tasks that every attack is put onto.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the tasks that are chosen, and of the words that are made up.")]


@suite.command()
def freeze(
    config: Config,
    out: Out,
    split: Split = None,
    tag: Tags = [],  # noqa: B006  (typer reads the default)
    items: Items = None,
    name: Name = None,
    version: Version = None,
    kind: Kind = "capability",
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
            kind=kind,
        )
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    _show(found, out)
    if split == "test":
        print(ONCE)


@suite.command()
def adversarial(
    config: Config,
    out: Out,
    split: Split = None,
    cases: Cases = [],  # noqa: B006
    no_starter: NoStarter = False,
    attack: Attack = [],  # noqa: B006
    per_attack: PerAttack = 1,
    seed: Seed = 0,
    name: Name = None,
    version: Version = None,
    overrides: Set = [],  # noqa: B006
) -> None:
    """Put the attacks that ship with agentrl onto tasks of a split: a suite for `agentrl eval --suite`.

    The agent is measured with its own tools: what is planted is planted into what they really answer, and what must
    not be called is denied. See docs/adversarial.md.
    """
    from agentrl.config import training_sections
    from agentrl.data.tasks import SPLITS, load_tasks
    from agentrl.errors import ConfigError
    from agentrl.evaluation.adversarial.starter import adversarial_tasks, read_attacks, starter_attacks
    from agentrl.evaluation.suites import freeze_suite

    split = split or "validation"
    if split not in SPLITS:
        raise ConfigError(f"--split: found {split!r}; allowed: {', '.join(SPLITS)}")
    if out.suffix != ".json":
        raise ConfigError(f"--out {out}: allowed: a file that ends in .json")
    resolved = training_config(config, overrides)
    if no_starter and not cases:
        raise ConfigError("--no-starter: leaves no attack; add --cases FILE.yaml")
    starter = [] if no_starter else starter_attacks()
    written = [*starter, *(each for file in cases for each in read_attacks(file))]
    kinds = sorted({each.kind for each in written})
    for kind in attack:
        if kind not in kinds:
            raise ConfigError(f"--attack: found {kind!r}; allowed: {', '.join(kinds)}")
    wanted = [each for each in written if not attack or each.kind in attack]
    tasks = adversarial_tasks(
        wanted, getattr(load_tasks(training_sections(resolved).data), split), seed=seed, per_attack=per_attack
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        found = freeze_suite(
            out,
            tasks,
            name=name or out.name.removesuffix(".json"),
            split=split,
            source=resolved.name,
            version=version,
            kind="adversarial",
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
        printable(
            f"{file}: {found.name} {found.version}, {len(found.tasks)} items of {found.source}'s {found.split}"
            f"{f', {found.kind}' if found.kind != 'capability' else ''}"
        )
    )
    print(printable(f"  digest {found.digest}"))
    print(printable(f"  tags   {_counts(found.tags) or 'none'}"))


def _counts(tags: Mapping[str, int]) -> str:
    return ", ".join(f"{tag} {count}" for tag, count in tags.items())
