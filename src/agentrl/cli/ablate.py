"""`agentrl ablate`: what single turns' thoughts and tool outputs are worth to a policy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Config, Json, Set, make_folder, spare_the_cores, starting_anew, training_config
from agentrl.cli.policy_options import policy_source
from agentrl.printable import printable

RecordedArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECORDED",
        help="Episodes to take turns from: RUN@best, RUN@STEP and the like, an evaluation file, or a file of rollouts "
        "(.jsonl, .jsonl.gz).",
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="Weights to go on with: baseline, a checkpoint's folder, RUN@best and the like.  "
        "[default: those that were recorded]",
    ),
]
Items = Annotated[int, typer.Option(min=1, help="Items to take an episode of, at most.")]
Turns = Annotated[int, typer.Option(min=1, help="Turns of an episode, at most.")]
Samples = Annotated[int, typer.Option(min=1, help="New episodes with all of a turn, and as many without each part.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of the choice and the sampling.  [default: the config's]")]
Replay = Annotated[
    bool,
    typer.Option(
        "--replay",
        help="Make the kept turns' calls again in every new episode, for tools that keep state by its id. Always so "
        "with tools.lifecycle and MCP sessions.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write ablation.html, ablation.json and the new episodes here."),
]


def ablate(
    config: Config,
    recorded: RecordedArgument,
    policy: Policy = None,
    items: Items = 20,
    turns: Turns = 4,
    samples: Samples = 4,
    seed: Seed = None,
    replay: Replay = False,
    out: Out = None,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Remove one turn's thought or tool output at a time, go on with the same policy, and say what it cost.

    Each turn is gone on from as it was, too, from the same seeds: what is reported is the difference, by tool and by
    place in the episode. Exits with 1 where no pair of episodes could be graded.
    """
    from agentrl.errors import ConfigError
    from agentrl.evaluation.ablation import AblateOptions, ablate_policy
    from agentrl.progress import reporter_for
    from agentrl.runs.files import to_json

    resolved = training_config(config, overrides)
    source = None if policy is None else policy_source(policy, None, None, None)
    if out is not None:
        make_folder("--out", out)
    spare_the_cores()
    reporter = reporter_for()
    options = AblateOptions(items=items, turns=turns, samples=samples, seed=seed, replays=replay)
    try:
        with starting_anew():
            found = ablate_policy(resolved, recorded, policy=source, options=options, reporter=reporter)
    finally:
        reporter.close()
    print(to_json(found.as_dict(), indent=2) if as_json else found.to_text())
    if out is not None:
        try:
            path = found.write(out)
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
        if not as_json:
            print(f"\n{printable(str(path))}")
    if not found.groups:
        sys.stdout.flush()
        raise typer.Exit(RUN_FAILED)
