"""Messages to token ids and back, for one tokenizer: the only room that knows how a model writes a conversation.

Token-in, token-out: a prompt is encoded once, sampled ids are kept as sampled, and what the environment says is
appended to them. Nothing that was decoded is ever encoded again, so what is trained is what was sampled
(docs/algorithm.md). `format.py` is the place to start; each syntax of tool calls (hermes, llama, harmony, ...) is one
file with one class, listed in `syntaxes.py`; `append_only.py` finds templates that rewrite what was said. Imports
nothing above `types` and `errors`, and no torch.
"""

from agentrl.chat.append_only import AppendOnlyReport, Difference, append_only_report, check_append_only, remedy
from agentrl.chat.format import ChatFormat, for_template, parse_turn
from agentrl.chat.notices import BUDGET_SPENT, MALFORMED, announce_budget
from agentrl.chat.templates import TEMPLATES, load_template
from agentrl.chat.turn import ParsedTurn

__all__ = [
    "BUDGET_SPENT",
    "MALFORMED",
    "TEMPLATES",
    "AppendOnlyReport",
    "ChatFormat",
    "Difference",
    "ParsedTurn",
    "announce_budget",
    "append_only_report",
    "check_append_only",
    "for_template",
    "load_template",
    "parse_turn",
    "remedy",
]
