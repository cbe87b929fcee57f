"""Every syntax that agentrl reads, in the order in which they are tried."""

from __future__ import annotations

from agentrl.chat.gemma import FunctionGemma, Gemma
from agentrl.chat.glm import GLM
from agentrl.chat.harmony import Harmony
from agentrl.chat.hermes import Hermes
from agentrl.chat.llama import Llama
from agentrl.chat.mistral import Mistral
from agentrl.chat.qwen_xml import QwenXML
from agentrl.chat.syntax import Syntax

HERMES = Hermes()
SYNTAXES: tuple[Syntax, ...] = (
    HERMES,
    QwenXML(),
    GLM(),
    Harmony(),
    Gemma(),
    FunctionGemma(),
    Mistral(),
    Llama(),
)


def supported() -> str:
    """The syntaxes by name, for messages."""
    return "; ".join(f"{syntax.name}: {syntax.example}" for syntax in SYNTAXES)
