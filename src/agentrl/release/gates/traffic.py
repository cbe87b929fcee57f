"""Whether the split of the traffic is the one that was configured; where it is not, no gate of the look is valid.

Looked at again and again, a chi-squared test at 0.001 finds a wrong split in the end where there is none. So the
likelihood of the configured share is held against that of all others at once, a mixture over Beta(a, b) with
a = w share and b = w (1 - share), once sharp for small deviations and once wide for large ones:

    odds = mean over w of  B(a + k, b + n - k) / B(a, b) / (share^k (1 - share)^(n - k))

which under the configured share is above 1 / alpha at any look with a chance of at most alpha (Ville 1939; Lindon and
Malek, "Anytime-valid inference for multinomial count data", arXiv:2011.03567). 3 % instead of 5 % shows after about
1,900 sessions, none instead of 5 % after 200; one chi-squared test at one look takes 1,300 for the former.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentrl.release.gates.look import Look
from agentrl.release.records import Arm, SessionEvidence

ALPHA = 0.001
WEIGHTS = (500.0, 20.0)
"""Sessions that each part of the mixture is worth: where it is the sharpest."""


def split_problem(sessions: Sequence[SessionEvidence], look: Look) -> str:
    """Why the split cannot be trusted; empty where it can, or where there is none to check."""
    if look.share_percent is None or look.stage == "shadow" or not look.is_live:
        return ""
    candidates = sum(each.arm is Arm.CANDIDATE for each in sessions)
    n_candidate, n_baseline = look.assigned or (candidates, len(sessions) - candidates)
    n, share = n_candidate + n_baseline, look.share_percent / 100
    if n == 0 or not 0 < share < 1 or log_odds(n_candidate, n_baseline, share=share) < -math.log(ALPHA):
        return ""
    return (
        f"sample-ratio mismatch: {100 * n_candidate / n:.3g} % of {n} sessions went to the candidate, "
        f"{look.share_percent:g} % was configured; find out which sessions are lost before anything is read"
    )


def log_odds(n_candidate: int, n_baseline: int, *, share: float) -> float:
    """Of any other share against the configured one, as the natural logarithm."""
    likelihood = n_candidate * math.log(share) + n_baseline * math.log1p(-share)
    parts = []
    for weight in WEIGHTS:
        a, b = weight * share, weight * (1 - share)
        parts.append(_log_beta(a + n_candidate, b + n_baseline) - _log_beta(a, b) - likelihood)
    largest = max(parts)
    return largest + math.log(math.fsum(math.exp(part - largest) for part in parts) / len(parts))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
