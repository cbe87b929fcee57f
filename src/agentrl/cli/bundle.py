"""`agentrl bundle`: a policy with all that it was made from, kept by digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Config, Json, Set, opened
from agentrl.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrl.release.registry import Bundle
    from agentrl.release.registry.manifest import Part

bundle = typer.Typer(no_args_is_help=True, help="Keep a policy with all that it was made from, by digest.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Of a bundle, or its first 4 digits or more.")]
SHORT = 19
"""Characters of an id that people are shown: sha256: and twelve digits."""


@bundle.command()
def create(
    config: Config,
    policy: Annotated[
        str, typer.Argument(metavar="RUN@best", help="A run's policy, a folder of weights, or baseline.")
    ],
    suite: Annotated[
        list[Path], typer.Option(metavar="FILE.json", help="A frozen suite that it is measured on. May be repeated.")
    ] = [],  # noqa: B006  (typer reads the default)
    evaluation: Annotated[
        list[str],
        typer.Option(metavar="FILE.json", help="What `agentrl eval` wrote, besides the run's own. May be repeated."),
    ] = [],  # noqa: B006
    parent: Annotated[str | None, typer.Option(metavar="ID", help="The bundle that it follows.")] = None,
    licence: Annotated[
        list[str],
        typer.Option(
            "--license",
            metavar="PART=NAME",
            help="Of the policy, baseline or data, such as data=cc-by-4.0. Repeatable.",
        ),
    ] = [],  # noqa: B006
    link: Annotated[bool, typer.Option("--link", help="Hard links to the weights in place of copies.")] = False,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Keep a policy, its baseline, graders, data, suites, prompts, tools, rules, config and code version."""
    from agentrl.release.registry import create_bundle

    loaded, place = opened(config, overrides)
    made = create_bundle(
        place,
        loaded,
        policy,
        suites=suite,
        evaluations=evaluation,
        parent=parent,
        licences=dict(map(_licence, licence)),
        is_linked=link,
    )
    _print(made, as_json)


@bundle.command()
def show(config: Config, id: Id, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """What a bundle holds, and what was found in it."""
    from agentrl.release.registry import read_bundle

    _, place = opened(config, overrides)
    _print(read_bundle(place, id), as_json)


@bundle.command("list")
def list_(config: Config, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """All bundles, the newest first."""
    from agentrl.release.registry import list_bundles
    from agentrl.release.registry.bundle import created
    from agentrl.runs.files import to_json

    _, place = opened(config, overrides)
    found = list_bundles(place)
    if as_json:
        rows = [
            {"id": each.id, "name": each.name, "parent": each.parent, "created_at": created(each)} for each in found
        ]
        print(to_json(rows, indent=2))
        return
    for each in found:
        follows = f"  follows {each.parent[:SHORT]}" if each.parent else ""
        print(printable(f"{each.id[:SHORT]}  {created(each)}  {each.name}{follows}"))
    if not found:
        print("no bundles; `agentrl bundle create CONFIG RUN@best` makes one")


@bundle.command()
def verify(config: Config, id: Id, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """Read every file of a bundle and compare it with its digest. Exit 1: something is missing or changed."""
    from dataclasses import asdict

    from agentrl.release.registry import verify_bundle
    from agentrl.runs.files import to_json

    _, place = opened(config, overrides)
    found = verify_bundle(place, id)
    if as_json:
        print(to_json(asdict(found), indent=2))
    else:
        print(f"{found.bundle[:SHORT]}: {found.parts} parts, {found.files} files, {_size(found.size)}")
        for problem in found.problems:
            print(printable(f"  {problem}"))
        print("damaged" if found.problems else "all as it was")
    if found.problems:
        raise typer.Exit(RUN_FAILED)


@bundle.command()
def diff(
    config: Config,
    before: Annotated[str, typer.Argument(metavar="A", help="A bundle.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """What changed from one bundle to another, part by part."""
    from dataclasses import asdict

    from agentrl.release.registry import diff_bundles
    from agentrl.runs.files import to_json

    _, place = opened(config, overrides)
    changes = diff_bundles(place, before, after)
    if as_json:
        print(to_json([asdict(each) for each in changes], indent=2))
        return
    same = [each.part for each in changes if each.state == "same"]
    for each in changes:
        if each.state == "same":
            continue
        versions = " -> ".join(filter(None, (each.before, each.after)))
        print(printable(f"{each.state:8}{each.part}  {versions}").rstrip())
        for line in each.details:
            print(printable(f"          {line}"))
    print(printable(f"same    {', '.join(same) or 'nothing'}"))


@bundle.command()
def export(
    config: Config,
    id: Id,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="A folder that is not there yet.")],
    adapter: Annotated[bool, typer.Option("--adapter", help="The LoRA adapter alone.")] = False,
    overrides: Set = [],  # noqa: B006
) -> None:
    """Write the policy as an ordinary Hugging Face directory, with a model card."""
    from agentrl.release.registry import export_bundle

    _, place = opened(config, overrides)
    made = export_bundle(place, id, out, is_adapter=adapter)
    print(printable(f"{out}: {made.name} ({made.id[:SHORT]}), its card and its manifest"))


@bundle.command()
def suite(
    config: Config,
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="Of the suite's items, as verdicts name it.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="A folder that is not there yet.")],
    overrides: Set = [],  # noqa: B006
) -> None:
    """Fetch the exact suite of a decision, verified."""
    from agentrl.release.registry import fetch_suite

    _, place = opened(config, overrides)
    print(fetch_suite(place, digest, out))


def _licence(text: str) -> tuple[str, str]:
    from agentrl.errors import ConfigError

    part, equals, name = text.partition("=")
    if not equals or not name or part not in ("policy", "baseline", "data"):
        raise ConfigError(f"--license {text}: allowed: policy=NAME, baseline=NAME or data=NAME, such as data=cc-by-4.0")
    return part, name


def _print(found: Bundle, as_json: bool) -> None:
    from agentrl.runs.files import to_json

    if as_json:
        print(to_json({"id": found.id, "manifest": found.manifest}, indent=2))
        return
    print(found.id)
    print(printable(f"  {'name':16}{found.name}"))
    print(f"  {'follows':16}{found.parent[:SHORT] if found.parent else 'no earlier bundle'}")
    for place, part in found.parts:
        print(printable(f"  {place.partition('[')[0]:16}{_line(part)}"))
    code: Mapping[str, Any] = found.manifest.get("code_version") or {}
    changed = " with changes" if code.get("git_has_changes") else ""
    print(printable(f"  {'code':16}agentrl {code.get('agentrl')}, commit {str(code.get('git_commit'))[:12]}{changed}"))
    seeds: Mapping[str, Any] = found.manifest.get("seeds") or {}
    print(printable(f"  {'seeds':16}{', '.join(f'{key} {value}' for key, value in seeds.items())}"))
    scan: Mapping[str, Any] = found.manifest.get("scan") or {}
    licences = ", ".join(f"{name}: {licence}" for name, licence in (scan.get("licences") or {}).items())
    print(printable(f"  {'licences':16}{licences or 'nobody looked'}"))
    for part_name, kinds in (scan.get("found") or {}).items():
        print(printable(f"  {'found':16}{part_name}: {', '.join(f'{n} x {kind}' for kind, n in kinds.items())}"))
    if scan.get("looked_at") and not scan.get("found"):
        print(f"  {'found':16}no secrets or personal data in {len(scan['looked_at'])} parts")


def _line(part: Part) -> str:
    version = part.version if len(part.version) <= 32 else f"{part.version[:29]}..."
    tasks = f", {part.facts['tasks']} tasks" if "tasks" in part.facts else ""
    return f"{part.name}  {version}  {part.sha256[:12]}  {_size(part.size)}{tasks}"


def _size(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
