"""`agentrl gate`: the offline stage of a release, as a step of CI."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import GATE_FAILED, GATE_INCONCLUSIVE
from agentrl.cli.options import Json, Set
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.config import ReleaseConfig
    from agentrl.release.gates.offline_run import OfflineGate

MIN_WIDTH, MAX_WIDTH = 80, 120
SOURCE = "An evaluation file, or RUN@baseline, RUN@best, RUN@STEP, RUN@test-best."

Run = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Directory of a run; its baseline and its best are compared.")
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file with the `release` section.  [default: RUN/config.yaml]"),
]
Baseline = Annotated[str | None, typer.Option(metavar="A", help=f"In place of RUN@baseline. {SOURCE}")]
Candidate = Annotated[str | None, typer.Option(metavar="B", help="In place of RUN@best, likewise.")]
Suites = Annotated[
    list[str],
    typer.Option(
        "--suite",
        metavar="A,B",
        help="The two policies on a suite, such as attacks or a frozen benchmark, each as above. May be repeated.",
    ),
]
Allowed = Annotated[
    list[str],
    typer.Option("--allow-difference", metavar="KEY", help="A condition that may differ. May be repeated."),
]
ReleaseId = Annotated[
    str | None,
    typer.Option("--release", metavar="ID", help="Keep verdicts and results with this release, judged by its rules."),
]
SuiteFiles = Annotated[
    list[Path],
    typer.Option("--suite-file", metavar="FILE", help="A frozen suite to archive with the release. May be repeated."),
]


def gate(
    run: Run = None,
    baseline: Baseline = None,
    candidate: Candidate = None,
    suite: Suites = [],  # noqa: B006  (typer reads the default)
    allow_difference: Allowed = [],  # noqa: B006
    config: Config = None,
    release: ReleaseId = None,
    suite_file: SuiteFiles = [],  # noqa: B006
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Judge a run's candidate by the gates of the offline stage.

    Exit 0 where every gate passes, 3 where one fails, 4 where none fails and one is inconclusive or invalid: what was
    not measured never passes.
    """
    from datetime import UTC, datetime

    from agentrl.config import load_config
    from agentrl.errors import ConfigError
    from agentrl.release.gates.look import Look
    from agentrl.release.gates.offline_gate import STAGE
    from agentrl.release.gates.offline_run import gate_offline, sources_of

    sources = sources_of(run, baseline, candidate)
    path = config or (None if run is None else run / "config.yaml")
    if path is None:
        raise ConfigError("--config: missing; without RUN, give the YAML file with the `release` section")
    loaded = load_config(path, overrides)
    if loaded.release is None or not loaded.release.gates:
        raise ConfigError(f"{path}: has no release.gates; give a file that has: --config FILE")
    rules, look_no, place, release_id = loaded.release, 1, None, ""
    if suite_file and release is None:
        raise ConfigError("--suite-file: is archived with a release; give --release ID")
    if release is not None:
        from agentrl.release.gates.archive import next_look
        from agentrl.release.lifecycle.read import read_release
        from agentrl.release.lifecycle.rules import rules_of
        from agentrl.release.place import open_place

        place = open_place(loaded)
        found_release = read_release(place, release)
        rules, release_id = rules_of(found_release), found_release.id
        look_no = next_look(place, release_id)
    look = Look(release_id, STAGE, datetime.now(UTC), look_no, None, 0.0)
    pairs = [_pair(each) for each in suite]
    found = gate_offline(rules, sources, look, suites=pairs, allowed=allow_difference)
    kept: list[str] = []
    if place is not None:
        from agentrl.release.gates.archive import keep_offline

        not_archived = keep_offline(place, found, look, suite_file)
        kept = [f"kept with release {release_id}, look {look_no}"]
        kept += [f"suite {name}: results are kept, its file is not; give --suite-file" for name in not_archived]
    _print(found, rules, sources, kept, as_json)
    code = {"pass": 0, "fail": GATE_FAILED}.get(found.outcome, GATE_INCONCLUSIVE)
    if code:
        raise typer.Exit(code)


def _pair(text: str) -> tuple[str, str]:
    """A,B: names of files may hold a comma only where it is not the only one."""
    from agentrl.errors import ConfigError

    first, comma, second = text.partition(",")
    if not (comma and first and second):
        raise ConfigError(
            f"--suite {text}: found one name; allowed: A,B, the baseline's evaluation and the candidate's"
        )
    return first, second


def _print(found: OfflineGate, rules: ReleaseConfig, sources: tuple[str, str], kept: list[str], as_json: bool) -> None:
    from agentrl.release.gates.suite_results import suite_result
    from agentrl.release.gates.verdict_table import verdict_table
    from agentrl.runs.files import to_json

    results: list[dict[str, Any]] = [
        {"kind": suite.kind, "name": suite.name, "digest": suite.digest, **suite_result(suite)}
        for suite in found.suites
    ]
    if as_json:
        record = {
            "outcome": found.outcome,
            "baseline": sources[0],
            "candidate": sources[1],
            "verdicts": [each.to_record() for each in found.verdicts],
            "suites": results,
            "contaminated": found.contaminated,
            "notes": kept,
        }
        print(to_json(record, indent=2))
        return
    width = min(max(shutil.get_terminal_size((100, 24)).columns, MIN_WIDTH), MAX_WIDTH)
    print(printable(f"{sources[1]} against {sources[0]}"))
    for each in results:
        graded = f", {each['not_graded']} not graded" if each["not_graded"] else ""
        cases = f"{each['passed']} of {each['cases']} cases passed, {each['failed']} failed{graded}"
        print(printable(f"{each['kind']} suite {each['name']} ({each['digest'][:19]}): {cases}"))
    for name, problems in found.contaminated.items():
        for problem in problems:
            print(printable(f"ALARM: suite {name} was trained on: {problem}"))
    for verdict in found.verdicts:
        if verdict.gate == "reward_hacking" and verdict.verdict == "fail":
            print(printable(f"ALARM: {verdict.reason}"))
    print(f"\n{verdict_table(found.verdicts, {gate.name: gate for gate in rules.gates}, width=width)}\n")
    for line in kept:
        print(printable(line))
    counts = [verdict.verdict for verdict in found.verdicts if not verdict.is_shown_only]
    said = ", ".join(f"{counts.count(each)} {each}" for each in sorted(set(counts), key=str))
    print(f"{said}: {found.outcome}")
