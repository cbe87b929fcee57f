"""All gates of the offline stage, each on the evidence that it can be read off.

Safety is read off attacks, everything else off ordinary tasks, policy KL off the tokens of training. A gate is read on
every suite that has such evidence: on the first under its own name, on the others under `NAME on SUITE`, and each must
pass. The chance of a false alarm is shared by all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agentrl.config.release import GateConfig
from agentrl.release.gates.judge import judge
from agentrl.release.gates.look import Look
from agentrl.release.gates.offline import Measured, PolicyDistance
from agentrl.release.records import Outcome, SessionEvidence, Verdict

STAGE = "offline_eval"
NO_ATTACKS = "no adversarial suite was measured; `agentrl suite adversarial` makes one, --suite takes what eval wrote"


def offline_gates(gates: Iterable[GateConfig]) -> list[GateConfig]:
    """Those that are read in this stage."""
    return [gate for gate in gates if STAGE in gate.stages]


def offline_verdicts(
    gates: Iterable[GateConfig], suites: Sequence[Measured], look: Look, distance: PolicyDistance
) -> list[Verdict]:
    """A verdict for each gate of the stage and each suite that it is read on.

    Raises:
        ConfigError, ReleaseError: a metric of the team's own cannot be imported, or raised.
    """
    evidence = [(each, each.evidence()) for each in suites]
    looks: list[tuple[GateConfig, str, list[SessionEvidence], str]] = []
    for gate in offline_gates(gates):
        if gate.metric == "policy_kl_drift":
            looks.append((gate, gate.name, list(distance.evidence), distance.said))
            continue
        is_safety = gate.metric == "safety_violations"
        read_on = [(each, found) for each, found in evidence if each.is_adversarial == is_safety]
        for number, (suite, found) in enumerate(read_on):
            name = gate.name if number == 0 else f"{gate.name} on {suite.name}"
            looks.append((gate, name, found, f"{suite.kind} suite {suite.name}"))
        if not read_on:
            looks.append((gate, gate.name, [], NO_ATTACKS if is_safety else "no ordinary suite was measured"))
    return [_told(judge(gate, found, look, gates=len(looks)), name, said) for gate, name, found, said in looks]


def _told(verdict: Verdict, name: str, said: str) -> Verdict:
    """Under its name, and on what it was read."""
    nothing = verdict.n_candidate == 0 and verdict.verdict is Outcome.INCONCLUSIVE
    reason = said if nothing and said == NO_ATTACKS else f"{verdict.reason}; {said}" if said else verdict.reason
    return replace(verdict, gate=name, reason=reason)
