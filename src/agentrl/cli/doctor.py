"""`agentrl doctor`: is what a run stands on sound? `template` looks at a checkpoint's chat template, `rewards` at
whether process rewards tell good answers from bad ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Config, Json, Set

if TYPE_CHECKING:
    from agentrl.chat import AppendOnlyReport, ChatFormat
    from agentrl.evaluation.discrimination import Discrimination

doctor = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look for what would make a run learn the wrong thing."
)


@doctor.callback()
def _doctor() -> None:
    """Look for what would make a run learn the wrong thing."""


@doctor.command()
def template(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a checkpoint, or of its tokenizer.")],
    chat_template: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="Take this template, a shipped one or a .jinja, not MODEL's."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Does the chat template leave earlier turns as they were said?

    Three turns with tool calls, once token by token and once rendered in full. Exit 1 where the two differ.
    """
    import json
    from dataclasses import asdict

    from agentrl.chat import append_only_report, remedy

    chat = _chat_format(model, chat_template)
    report = append_only_report(chat)
    if as_json:
        found = {
            **asdict(report),
            "is_fit": report.is_fit,
            "remedy": remedy(report.syntax) if report.difference else "",
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(f"{name:<15} {text}" for name, text in _lines(chat, report)))
        if report.difference:
            print(f"\n{remedy(report.syntax)}")
    if not report.is_fit:
        raise typer.Exit(RUN_FAILED)


def _chat_format(model: Path, chat_template: str) -> ChatFormat:
    from transformers import AutoTokenizer

    from agentrl.chat import ChatFormat, load_template
    from agentrl.errors import BaselineError

    if not model.is_dir():  # a name is not looked up on a hub
        raise BaselineError(f"{model}: no such folder; give the folder of a checkpoint or of its tokenizer")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
    except Exception as error:  # the tokenizers library raises nothing more specific for a broken file
        raise BaselineError(f"{model}: its tokenizer cannot be loaded ({error})") from error
    if chat_template:
        tokenizer.chat_template = load_template(chat_template)
    return ChatFormat(tokenizer)


def _lines(chat: ChatFormat, report: AppendOnlyReport) -> list[tuple[str, str]]:
    """What was found, as label and text."""
    lines = [
        ("tool calls", f"{report.syntax}: {chat.syntax.example}; {'several' if report.is_parallel else 'one'} a turn"),
        ("thoughts", "written by the template" if report.has_thoughts else "none in the template"),
        ("a turn ends at", "  ".join(report.stops)),
    ]
    if report.unread:
        lines.append(("not read back", report.unread))
    if report.difference:
        lines += [
            ("rewritten", f"{report.difference.where}, at token {report.difference.token}"),
            ("  as said", repr(report.difference.said)),
            ("  as rendered", repr(report.difference.rendered)),
        ]
    if report.respelled:
        lines.append(("other tokens", f"of the same text, {report.respelled}: harmless, nothing is encoded twice"))
    if report.follow_up:
        lines += [
            ("a later user", f"would change turns from token {report.follow_up.token} on: none speaks in an episode"),
            ("  as said", repr(report.follow_up.said)),
            ("  as rendered", repr(report.follow_up.rendered)),
        ]
    lines.append(("verdict", "fit for training" if report.is_fit else "not fit for training"))
    return lines


@doctor.command()
def rewards(
    config: Config,
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run whose rollouts are looked at.")],
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Do the process rewards of CONFIG tell good answers from bad ones?

    On the training and validation rollouts of a run; its test rollouts stay unread. The findings are written to
    `ppo.process_rewards.report`, without which training does not start. Exit 1 where a signal failed.
    """
    from agentrl.config import load_config, training_sections
    from agentrl.disk import write_text
    from agentrl.errors import ConfigError
    from agentrl.evaluation.discrimination import discriminate, logged_groups, to_record
    from agentrl.rollout.process_rewards import build_signals
    from agentrl.runs.files import to_json

    resolved = load_config(config, overrides)
    process, grading = resolved.ppo.process_rewards, training_sections(resolved).grading
    if process is None:
        raise ConfigError(f"{config}: found no ppo.process_rewards; there is nothing to look at")
    sources, groups = logged_groups(run_dir)
    signals = build_signals(process, grading.name)
    found = [discriminate(groups, signal, pass_threshold=grading.pass_threshold) for signal in signals]
    record = to_record(found, sources, groups)
    Path(process.report).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(process.report), to_json(record, indent=2) + "\n")
    if as_json:
        print(to_json(record, indent=2))
    else:
        print("\n".join(_rewards_lines(found)))
        print(f"{sum(map(len, groups))} rollouts of {len(groups)} groups of one task; written to {process.report}")
    if any(each.problem for each in found):
        raise typer.Exit(RUN_FAILED)


def _rewards_lines(found: list[Discrimination]) -> list[str]:
    """A line for each signal: how well it tells, and what follows."""
    width = max(len("signal"), *(len(each.name) for each in found))
    lines = [f"{'signal':<{width}}  tasks    AUC  correlation  contradicting  verdict"]
    for each in found:
        auc = "-" if each.auc is None else f"{each.auc:.3f}"
        correlation = "-" if each.correlation is None else f"{each.correlation:+.3f}"
        verdict = f"refused: {each.problem}" if each.problem else "passed"
        figures = f"{each.n_tasks:>5}  {auc:>5}  {correlation:>11}  {each.contradicting_steps:>13.1%}"
        lines.append(f"{each.name:<{width}}  {figures}  {verdict}")
    return lines
