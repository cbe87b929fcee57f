"""`agentrl audit RUN_DIR` labels episodes, `agentrl audit verify ...` checks the audit log of releases."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from agentrl.cli.audit import audit
from agentrl.cli.audit_verify import verify

LABEL = "label"
"""Runs where no verb is named."""


class LabelByDefault(TyperGroup):
    """`verify` is a verb, and anything else what `label` takes: a run of that name is `./verify`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [LABEL, *args]
        return super().parse_args(ctx, args)


audit_verbs = typer.Typer(
    cls=LabelByDefault,
    rich_markup_mode=None,
    help="Label the episodes that evaluations put aside; `audit verify` checks the audit log of releases.",
)
audit_verbs.command(LABEL, epilog="`agentrl audit verify CONFIG` checks the audit log of releases.")(audit)
audit_verbs.command()(verify)
