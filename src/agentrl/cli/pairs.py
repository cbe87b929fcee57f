"""`agentrl pairs`: from recorded rollouts to pairs of segments, which `agentrl dpo` learns from."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Json

if TYPE_CHECKING:
    from agentrl.stages.pairs import PairReport

Sources = Annotated[
    list[Path], typer.Argument(metavar="RUN_DIR...", help="Directories of training runs, or files of rollouts.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write the pairs, one JSON object a line.")]
Validation = Annotated[Path | None, typer.Option(help="Hold out a tenth of the tasks, and write their pairs here.")]
Tokenizer = Annotated[
    Path | None, typer.Option(help="Checkpoint of the policy that was sampled.  [default: the run's baseline]")
]
Threshold = Annotated[
    float | None, typer.Option(help="Least score of a success.  [default: the run's grading.pass_threshold]")
]
MinGap = Annotated[float, typer.Option(min=0, help="Least difference between the two scores of a pair.")]
Whole = Annotated[bool, typer.Option("--whole", help="Segments to the episodes' ends, not of equally many turns.")]


def pairs(
    sources: Sources,
    output: Output,
    validation: Validation = None,
    tokenizer: Tokenizer = None,
    pass_threshold: Threshold = None,
    min_gap: MinGap = 0.5,
    whole: Whole = False,
    as_json: Json = False,
) -> None:
    """Make the pairs for `agentrl dpo` from rollouts.

    A pair is a success and a failure of one task, from the first turn that differs. Of a run only the rollouts for
    training are read. Exits with 1 where there is no pair.
    """
    import json

    from agentrl.runs.trace_files import trace_files
    from agentrl.stages.episodes import is_held_out, read_episodes, settings_of
    from agentrl.stages.pair_file import digest_of_tokenizer, write_pairs
    from agentrl.stages.pairs import build_pairs

    files = [file for source in sources for file in trace_files(source)]
    baselines, thresholds = settings_of(sources)
    threshold = _the_one("--pass-threshold", pass_threshold, thresholds)
    digest = digest_of_tokenizer(_the_one("--tokenizer", tokenizer, baselines))
    report = build_pairs(
        (episode for file in files for episode in read_episodes(file)),
        pass_threshold=threshold,
        min_gap=min_gap,
        equal_length=not whole,
    )
    split = {output: [pair for pair in report.pairs if validation is None or not is_held_out(pair)]}
    if validation is not None:
        split[validation] = [pair for pair in report.pairs if is_held_out(pair)]
    written = {str(path): len(found) for path, found in split.items()}
    for path, found in split.items():
        if found:
            write_pairs(path, found, digest)
    if as_json:
        print(json.dumps({"pairs": written, "pass_threshold": threshold, **_figures(report)}, indent=2))
    else:
        _print(report, written, threshold, len(files))
    if not report.pairs:
        raise typer.Exit(RUN_FAILED)


def _the_one(option: str, given: Any, found: set[Any]) -> Any:
    """What was given, or what all runs agree on."""
    from agentrl.errors import ConfigError

    if given is None and len(found) != 1:
        why = f"the runs have different ones ({', '.join(sorted(map(str, found)))})" if found else "no run says it"
        raise ConfigError(f"{option} is needed: {why}")
    return given if given is not None else next(iter(found))


def _figures(report: PairReport) -> dict[str, Any]:
    """What the pairs are like; lengths in tokens."""
    figures: dict[str, Any] = {"episodes": report.episodes, "tasks": report.tasks, "dropped": dict(report.dropped)}
    if report.pairs:
        sides = [side for pair in report.pairs for side in (pair.chosen, pair.rejected)]
        figures["shared_turns"] = fmean(pair.turn for pair in report.pairs)
        figures["action_tokens"] = fmean(sum(side.action_mask) for side in sides)
        figures["longest"] = max(
            len(pair.prefix_ids) + len(side.token_ids) for pair in report.pairs for side in (pair.chosen, pair.rejected)
        )
    return figures


def _print(report: PairReport, written: dict[str, int], threshold: float, files: int) -> None:
    figures = _figures(report)
    print(
        f"{report.episodes} episodes of {report.tasks} tasks in {files} files; a success scores {threshold:g} or more"
    )
    for reason, count in report.dropped.most_common():
        print(f"  {count} {reason}")
    if not report.pairs:
        print("no pair: nothing was written")
        return
    print(
        f"{len(report.pairs)} pairs: {figures['shared_turns']:.1f} shared turns, {figures['action_tokens']:.0f} action "
        f"tokens a side on average; the longest side has {figures['longest']} tokens (dpo.max_length)"
    )
    for path, count in written.items():
        print(f"  {count} in {path}" if count else f"  none for {path}, which is not written")
