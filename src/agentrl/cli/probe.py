"""`agentrl probe`: can this task be learned? Asked of a few rollouts, before a run is paid for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import (
    Config,
    Json,
    Set,
    make_folder,
    spare_the_cores,
    starting_anew,
    training_config,
    write_to,
)
from agentrl.cli.policy_options import ApiKeyEnv, ApiModel, ApiUrl, Policy, policy_source

if TYPE_CHECKING:
    from agentrl.evaluation.probe.run import ProbeResult

Samples = Annotated[int, typer.Option("--samples", "-n", min=2, max=64, help="Rollouts of each item.")]
Items = Annotated[int, typer.Option(min=0, help="Validation items, drawn by the seed; all where there are fewer.")]
TrainItems = Annotated[int, typer.Option(min=0, help="The same, of train.")]
Grades = Annotated[int, typer.Option(min=1, max=20, help="Grades of each answer: does the grader agree with itself?")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of items and sampling.  [default: the config's]")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write probe.html, .svg and .json, and the rollouts as evaluations, here."),
]
PerHour = Annotated[float, typer.Option(min=0.0, metavar="N", help="Price of the machine that will train.")]
Speed = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="N", help="Tokens that the update trains on in a second.  [default: 2000]"),
]


def probe(
    config: Config,
    policy: Policy = None,
    api_model: ApiModel = None,
    api_url: ApiUrl = None,
    api_key_env: ApiKeyEnv = None,
    samples: Samples = 3,
    items: Items = 50,
    train_items: TrainItems = 50,
    grades: Grades = 3,
    seed: Seed = None,
    usd_per_hour: PerHour = 0.0,
    trained_tokens_per_second: Speed = None,
    out: Out = None,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Ask whether a task can be learned.

    Rolls out train and validation items several times each, grades every answer again, asks the tools for what they
    should not know, and says trainable, weak or not, and why. Exits with 3 where it is not, and with 4 where that
    could not be measured. Test items are left alone.
    """
    from agentrl.errors import ConfigError
    from agentrl.evaluation.probe.collect import ProbeOptions
    from agentrl.evaluation.probe.lines import report_lines
    from agentrl.evaluation.probe.run import ProbeResult, probe_and_keep
    from agentrl.evaluation.probe.run import probe as probe_only
    from agentrl.evaluation.probe.verdict import exit_code
    from agentrl.progress import reporter_for
    from agentrl.runs.files import to_json

    source = policy_source(policy, api_model, api_url, api_key_env)
    if not items and not train_items:
        raise ConfigError("--items and --train-items: found 0 and 0; allowed: at least one item")
    resolved = training_config(config, overrides)
    if out is not None:
        make_folder("--out", out)
    spare_the_cores()
    options = ProbeOptions(samples, items, train_items, grades, seed, usd_per_hour, trained_tokens_per_second)
    reporter = reporter_for()
    try:
        with starting_anew():
            if out is None:
                report = probe_only(resolved, policy=source, options=options, reporter=reporter)
                result = ProbeResult(report, {})
            else:
                result = probe_and_keep(resolved, policy=source, options=options, reporter=reporter)
    finally:
        reporter.close()
    if out is not None:
        _write(out, result)
    if as_json:
        print(to_json(result.report.as_dict(), indent=2))
    else:
        print("\n".join(report_lines(result.report)))
        if out is not None:
            print(f"written: {out / 'probe.html'}")
    if code := exit_code(result.report.verdict):
        sys.stdout.flush()
        raise typer.Exit(code)


def _write(folder: Path, result: ProbeResult) -> None:
    from agentrl.errors import ConfigError
    from agentrl.evaluation.evaluation_files import write_evaluation
    from agentrl.evaluation.probe.page import page
    from agentrl.evaluation.probe.picture import picture_file
    from agentrl.runs.files import to_json

    report = result.report
    try:
        for split, evaluation in result.evaluations.items():
            write_evaluation(folder / f"{split}.json", evaluation)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    panels = [(split.split, report.items_of(split.split)) for split in report.splits]
    write_to("--out", folder / "probe.svg", picture_file(panels, report.samples))
    write_to("--out", folder / "probe.json", to_json(report.as_dict(), indent=1) + "\n")
    write_to("--out", folder / "probe.html", page(report))
