"""`agentrl release`: a candidate's way to users, step by step, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import As, Config, Json, Set, opened, who_says
from agentrl.cli.release_drill import drill
from agentrl.cli.release_lines import print_json, print_release, release_record, release_table, what_is_missing, when
from agentrl.cli.release_shadow import shadow_report
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.release.place import ReleasePlace
    from agentrl.release.records import Release

release = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Bring a candidate to users, and back.")
release.command("drill")(drill)
release.command("shadow-report")(shadow_report)

ReleaseId = Annotated[
    str | None,
    typer.Argument(metavar="[RELEASE]", help="Id, or its beginning.  [default: the one under way]"),
]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; kept in the audit log.")]


@release.callback()
def _release() -> None:
    """Bring a candidate to users, and back."""


@release.command()
def start(
    config: Config,
    candidate: Annotated[str, typer.Option(metavar="UPSTREAM", help="One of gateway.upstreams.")],
    bundle: Annotated[
        str, typer.Option(metavar="ID", help="Of what it serves.  [default: the upstream's bundle]")
    ] = "",
    who: As = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Begin a release: a draft, under the config's rules as they are now."""
    from agentrl.release.lifecycle.start import check_gates_of_canary, start_release

    loaded, place = opened(config, overrides)
    check_gates_of_canary(loaded)
    made = start_release(place, loaded, candidate, actor=who_says(who), now=_now(), bundle=bundle)
    print_release(place, made, as_json)


@release.command()
def status(config: Config, release_id: ReleaseId = None, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """Show where a release stands, and what keeps it from its next step."""
    _, place = opened(config, overrides)
    found = find(place, release_id, is_last_fine=True)
    if as_json:
        print_json({**release_record(found), "missing": what_is_missing(place, found)})
    else:
        print_release(place, found, as_json)


@release.command("list")
def list_all(config: Config, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """List all releases of the workflow, the latest first."""
    from agentrl.release.lifecycle.read import list_releases, read_workflow

    _, place = opened(config, overrides)
    found = list_releases(place)[::-1]
    if as_json:
        print_json([release_record(each) for each in found])
        return
    workflow = read_workflow(place)
    if not found:
        print(f"{printable(place.workflow)}: no release yet; `agentrl release start` begins one")
        return
    print("\n".join(release_table(found)))
    if workflow.is_halted:
        print(f"halted since {when(workflow.halted_at)}: {printable((workflow.halt or {}).get('reason', ''))}")


@release.command()
def advance(
    config: Config,
    release_id: ReleaseId = None,
    share: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Another share for a canary, instead of a step.")
    ] = None,
    who: As = None,
    reason: Reason = "",
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Take the next step, if nothing is missing; or, with --share, give a canary more or fewer sessions."""
    from agentrl.cli.exits import GATE_FAILED, GATE_INCONCLUSIVE, fail
    from agentrl.errors import ConfigError
    from agentrl.release.lifecycle.looking import LIVE_STATES, look_at
    from agentrl.release.lifecycle.share import change_share
    from agentrl.release.lifecycle.states import FORWARD
    from agentrl.release.lifecycle.transition import GuardError, transition

    _, place = opened(config, overrides)
    found = find(place, release_id)
    if share is not None:
        changed = change_share(place, found.id, share, actor=who_says(who), expected_version=found.version, now=_now())
        print_release(place, changed, as_json)
        return
    if found.state not in FORWARD:
        raise ConfigError(f"{found.id} is {found.state}: there is no further step")
    if found.state in LIVE_STATES:  # the last look may be a controller's that ended days ago
        look_at(place, found, now=_now())
    try:
        changed = transition(
            place,
            found.id,
            FORWARD[found.state],
            actor=who_says(who),
            expected_version=found.version,
            evidence={"reason": reason} if reason else {},
            now=_now(),
        )
    except GuardError as error:
        has_failed = any(": fail in " in gap for gap in error.gaps)
        fail(f"error: {error}", GATE_FAILED if has_failed else GATE_INCONCLUSIVE)
    print_release(place, changed, as_json)


@release.command()
def rollback(
    config: Config,
    release_id: ReleaseId = None,
    who: As = None,
    reason: Reason = "",
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Take a release back: the candidate gets no session from now on.

    Before users have seen it, it is rejected. Twice is once. Without RELEASE: the one under way, or else the one that
    serves all users.
    """
    from agentrl.cli.release_progress import wait_until_drained
    from agentrl.release.lifecycle.read import read_release
    from agentrl.release.lifecycle.states import way_back
    from agentrl.release.lifecycle.transition import transition

    _, place = opened(config, overrides)
    found = find(place, release_id, is_general_fine=True)
    to = found.state if found.state.is_end else way_back(found.state)
    if to is not found.state:
        found = transition(
            place,
            found.id,
            to,
            actor=who_says(who),
            expected_version=None,
            evidence={"reason": "operator", "text": reason},
            now=_now(),
        )
    incident = wait_until_drained(place, found, is_quiet=as_json)
    if as_json:
        print_json({**release_record(read_release(place, found.id)), "incident": incident})
    else:
        print_release(place, read_release(place, found.id), as_json)


@release.command()
def approve(
    config: Config,
    release_id: ReleaseId = None,
    to: Annotated[str | None, typer.Option(metavar="STATE", help="[default: the next one]")] = None,
    who: As = None,
    reason: Reason = "",
    deny: Annotated[bool, typer.Option("--deny", help="Say no: no earlier yes counts any more.")] = False,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Say yes, as a person, to a release's next step as it stands now.

    The yes is bound to the release's version, bundle, rules and the outcome of every gate. It ends when one of these
    changes, and after release.approval_valid.
    """
    from agentrl.errors import ConfigError
    from agentrl.release.lifecycle.approvals import approve as keep
    from agentrl.release.lifecycle.approvals import seen
    from agentrl.release.lifecycle.states import FORWARD
    from agentrl.release.records import ReleaseState

    _, place = opened(config, overrides)
    found = find(place, release_id)
    if found.state not in FORWARD:
        raise ConfigError(f"{found.id} is {found.state}: there is no further step")
    if to is not None and to not in list(ReleaseState):
        raise ConfigError(f"--to: found '{to}'; allowed: {FORWARD[found.state]}")
    step = FORWARD[found.state] if to is None else ReleaseState(to)
    person = who_says(who)
    digest = keep(place, found.id, step, approver=person, now=_now(), is_denied=deny, reason=reason)
    if as_json:
        print_json({"release": found.id, "to": str(step), "context_hash": digest, "is_denied": deny})
        return
    print(f"{found.id}: {printable(person)} says {'no' if deny else 'yes'} to {step}, having seen {digest[:19]}:")
    context = seen(place, found, step)
    candidate, baseline = (bundle[:19] or "no bundle" for bundle in (found.candidate_bundle, found.baseline_bundle))
    print(f"  version {found.version}, candidate {candidate}, baseline {baseline}")
    for stage, gate, outcome, _ in context["verdicts"]:
        print(f"  {stage}: {printable(gate)} {outcome}")


@release.command("change-bundle")
def change_bundle(
    config: Config,
    release_id: ReleaseId = None,
    bundle: Annotated[
        str, typer.Option(metavar="ID", help="The same policy with other graders, suites or rules.")
    ] = "",
    who: As = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Go on under other graders, rubric, suites or tool policy: evidence counts anew from this instant."""
    from agentrl.errors import ConfigError
    from agentrl.release.lifecycle.new_bundle import change_bundle as change

    if not bundle:
        raise ConfigError("--bundle is needed; `agentrl bundle list` has all")
    _, place = opened(config, overrides)
    found = find(place, release_id)
    changed, said = change(place, found.id, bundle, actor=who_says(who), expected_version=found.version, now=_now())
    if not as_json:
        print(f"{found.id}: evidence counts from now, as {printable(', '.join(said))} changed")
    print_release(place, changed, as_json)


@release.command()
def watch(
    config: Config,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two ticks.")] = 1.0,
    overrides: Set = [],  # noqa: B006
) -> None:
    """Watch a workflow's release until Ctrl-C: renew the lease, look at the gates, promote, roll back.

    While it runs and can see, a canary is served; without it, within release.lease_seconds no longer.
    """
    from agentrl.cli.release_progress import watch_until_interrupted
    from agentrl.errors import ConfigError

    loaded, place = opened(config, overrides)
    assert loaded.release is not None
    if not 0 < every <= loaded.release.lease_seconds / 2:
        half = loaded.release.lease_seconds / 2
        raise ConfigError(f"--every {every:g}: allowed: up to half of release.lease_seconds, {half:g}")
    watch_until_interrupted(place, every)


@release.command()
def halt(config: Config, reason: Reason = "", who: As = None, overrides: Set = []) -> None:  # noqa: B006
    """Halt the workflow: no canary starts and no share grows until `resume`."""
    from agentrl.release.lifecycle.halt import halt as stop

    _, place = opened(config, overrides)
    workflow = stop(place, actor=who_says(who), reason=reason, now=_now())
    print(f"{printable(place.workflow)}: halted since {when(workflow.halted_at)}")


@release.command()
def resume(
    config: Config,
    reason: Reason = "",
    fix: Annotated[str, typer.Option(metavar="LINK", help="Where the repair can be seen.")] = "",
    rerun: Annotated[
        str, typer.Option(metavar="RELEASE", help="Whose offline gates were read after the halt, and passed.")
    ] = "",
    who: As = None,
    overrides: Set = [],  # noqa: B006
) -> None:
    """Release a halt, as a person, with a reason, the repair, and a re-run that passed."""
    from agentrl.release.lifecycle.halt import resume as go_on

    _, place = opened(config, overrides)
    go_on(place, actor=who_says(who), reason=reason, fix=fix, rerun=rerun, now=_now())
    print(f"{printable(place.workflow)}: no longer halted; failures count anew from now")


def find(
    place: ReleasePlace, release_id: str | None, *, is_general_fine: bool = False, is_last_fine: bool = False
) -> Release:
    """The one that is named, or the one that is meant."""
    from agentrl.errors import ConfigError
    from agentrl.release.lifecycle.read import general_release, list_releases, read_release, release_under_way

    if release_id is not None:
        return read_release(place, release_id)
    found = release_under_way(place)
    if found is None and (is_general_fine or is_last_fine):
        found = general_release(place)
    if found is None and is_last_fine and (every := list_releases(place)):
        found = every[-1]
    if found is None:
        every = list_releases(place)
        last = f" (the last one, {every[-1].id}, is {every[-1].state})" if every else ""
        raise ConfigError(f"{place.workflow}: no release is under way{last}; name one, `agentrl release list` has all")
    return found


def _now() -> float:
    return datetime.now(UTC).timestamp()
