"""Attacks of other tools as attacks of ours: a YAML file for `agentrl suite adversarial --cases`.

What a tool judges by its own environment or by a judge of its own has no place here and is named, never dropped in
silence. `agentdojo.py` reads the package as text and runs none of it; `promptfoo.py` reads its YAML. May import: as
`adversarial/`.
"""

from __future__ import annotations

from agentrl.evaluation.adversarial.imports.agentdojo import import_agentdojo
from agentrl.evaluation.adversarial.imports.imported import ImportedAttacks
from agentrl.evaluation.adversarial.imports.promptfoo import import_promptfoo

__all__ = ["ImportedAttacks", "import_agentdojo", "import_promptfoo"]
