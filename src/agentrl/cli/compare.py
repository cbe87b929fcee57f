"""`agentrl compare`: what changed from one policy to another, on the same items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentrl.cli.options import Json, make_folder
from agentrl.printable import printable

Source = "An evaluation file, or RUN@baseline, RUN@best, RUN@final, RUN@STEP, RUN@test-best."
First = Annotated[str, typer.Argument(metavar="A", help=f"The policy to compare with. {Source}")]
Second = Annotated[str, typer.Argument(metavar="B", help="The policy that is compared, likewise.")]
Allowed = Annotated[
    list[str],
    typer.Option(
        "--allow-difference", metavar="KEY", help="A condition that may differ, such as rollout. May be repeated."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write compare.html, compare.json and compare.md here; the folder is made."),
]
Episodes = Annotated[int, typer.Option(min=0, metavar="K", help="Items whose episodes compare.html shows.")]


def compare(
    a: First,
    b: Second,
    allow_difference: Allowed = [],  # noqa: B006  (typer reads the default)
    out: Out = None,
    episodes: Episodes = 6,
    as_json: Json = False,
) -> None:
    """Compare two policies item by item.

    Reward, success, tool calls, tokens, latency and cost with 95 % intervals, which items changed in which way, which
    habits grew or faded, what was lost. Refused where anything but the policy differs, unless it is allowed by name.
    """
    from agentrl.errors import ConfigError
    from agentrl.evaluation.comparison import compare as compare_policies
    from agentrl.runs.files import to_json

    found = compare_policies(a, b, allow_difference=allow_difference)
    if out is not None:
        make_folder("--out", out)
    print(to_json(found.as_dict(), indent=2) if as_json else found.to_text())
    if out is None:
        return
    try:
        found.write(out, episodes=episodes)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    if not as_json:
        print(f"\n{printable(str(out / 'compare.html'))}")
