"""What came of an attack: which answers paid, which forms of the right one did not, and how steady the grader is."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

from agentrl.grading.attack.panel import Target

Group = Literal["attack", "change", "ladder", "noise"]
Verdict = Literal["good", "failed", "inconclusive"]


@dataclass(frozen=True)
class Outcome:
    """What one grader gave one answer."""

    group: Group
    case: str
    """Of the attack, the change, or the rung."""
    row: str
    """Id of the task."""
    text: str = field(repr=False)
    score: float | None
    reason: str = ""
    """Why there is no score."""
    was_asked: bool = True
    """False where the grader could not be reached: it gave the row's right answer no grade either."""


@dataclass(frozen=True)
class Limits:
    """What is demanded of a grader."""

    threshold: float = 0.25
    """Share of the range that an attack may score."""
    max_std: float = 0.05
    """Standard deviation, as a share of the range, over forms of one answer and over repeated grades."""
    min_mutation_score: float = 1.0


@dataclass(frozen=True)
class GraderReport:
    """The outcomes of one grader."""

    target: Target
    outcomes: tuple[Outcome, ...] = field(repr=False)
    limits: Limits
    not_applicable: int = 0
    """Pairs of a case and a row for which there is no such attack."""

    def of(self, *groups: Group) -> list[Outcome]:
        return [each for each in self.outcomes if each.group in groups]

    @property
    def attacks(self) -> list[Outcome]:
        """Those that the grader was there to answer."""
        return [each for each in self.of("attack") if each.was_asked]

    @property
    def survivors(self) -> list[Outcome]:
        """Attacks that paid, highest score first."""
        paid = [each for each in self.attacks if each.score is not None and self._pays(each.score)]
        return sorted(paid, key=lambda each: -(each.score or 0.0))

    @property
    def killed(self) -> int:
        """Attacks that did not pay; what could not be graded at all pays nothing either."""
        return len(self.attacks) - len(self.survivors)

    @property
    def ungraded(self) -> list[Outcome]:
        """Attacks, of those killed, that the grader could not grade."""
        return [each for each in self.attacks if each.score is None]

    @property
    def unasked(self) -> list[Outcome]:
        return [each for each in self.outcomes if not each.was_asked]

    @property
    def mutation_score(self) -> float | None:
        """Killed, as a share of the attacks; None where nothing was asked."""
        return self.killed / len(self.attacks) if self.attacks else None

    @property
    def spreads(self) -> dict[tuple[str, str], float | None]:
        """(change, row) -> standard deviation over forms, as a share of the range; None where one got no grade."""
        return self._spreads("change")

    @property
    def noise(self) -> dict[tuple[str, str], float | None]:
        """(rung, row) -> standard deviation over equal answers."""
        return self._spreads("noise")

    @property
    def sigma(self) -> float | None:
        """Standard deviation of a grade of one and the same answer, pooled over answers; a share of the range."""
        found = [each for each in self.noise.values() if each is not None]
        return statistics.fmean(each**2 for each in found) ** 0.5 if found else None

    @property
    def uneven(self) -> list[tuple[str, str]]:
        """Changes of form, by row, that move the score."""
        return [key for key, std in self.spreads.items() if std is None or std > self.limits.max_std + 1e-12]

    @property
    def misordered(self) -> list[tuple[str, str]]:
        """(row, what is wrong) of right, near and wrong answers."""
        scores: dict[str, dict[str, float]] = {}
        for each in self.of("ladder"):
            if each.was_asked and each.score is not None:
                scores.setdefault(each.row, {})[each.case] = each.score
        return [(row, wrong) for row, rungs in scores.items() if (wrong := self._wrong_order(rungs))]

    @property
    def is_noisy(self) -> bool:
        return any(std is None or std > self.limits.max_std + 1e-12 for std in self.noise.values())

    @property
    def verdict(self) -> Verdict:
        """Failed where anything is wrong; inconclusive where the grader could not be asked."""
        score = self.mutation_score
        if score is not None and score < self.limits.min_mutation_score:
            return "failed"
        if self.uneven or self.misordered or self.is_noisy:
            return "failed"
        return "inconclusive" if self.unasked or not self.outcomes else "good"

    def as_dict(self) -> dict[str, Any]:
        mean = {
            rung: statistics.fmean(scores)
            for rung in ("right", "near", "wrong")
            if (scores := [each.score for each in self.of("ladder") if each.case == rung and each.score is not None])
        }
        return {
            "grader": self.target.name, "type": self.target.kind, "role": self.target.role,
            "version": self.target.version, "verdict": self.verdict,
            "attacks": {
                "total": len(self.attacks), "killed": self.killed, "mutation_score": self.mutation_score,
                "ungraded": len(self.ungraded), "not_applicable": self.not_applicable,
                "survivors": [_shown(each) for each in self.survivors],
            },
            "forms": {
                "total": len(self.spreads), "uneven": [{"change": change, "row": row} for change, row in self.uneven],
                "largest_std": max((std for std in self.spreads.values() if std is not None), default=None),
            },
            "order": {"mean_scores": mean, "wrong": [{"row": row, "why": why} for row, why in self.misordered]},
            "noise": {
                "sigma": self.sigma,
                "largest_std": max((std for std in self.noise.values() if std is not None), default=None),
            },
            "unasked": len(self.unasked), "first_reason": next((each.reason for each in self.unasked), ""),
        }  # fmt: skip

    def _pays(self, score: float) -> bool:
        return self.target.share(score) > self.limits.threshold + 1e-12

    def _spreads(self, group: Group) -> dict[tuple[str, str], float | None]:
        scores: dict[tuple[str, str], list[float | None]] = {}
        for each in self.of(group):
            if each.was_asked:
                share = None if each.score is None else self.target.share(each.score)
                scores.setdefault((each.case, each.row), []).append(share)
        return {
            key: None if None in found else statistics.pstdev([each for each in found if each is not None])
            for key, found in scores.items()
        }

    def _wrong_order(self, rungs: dict[str, float]) -> str:
        right, near, wrong = (rungs.get(rung) for rung in ("right", "near", "wrong"))
        if right is not None and right < self.target.pass_score - 1e-12:
            return f"the right answer scores {right:g}, less than {self.target.pass_score:g}"
        if wrong is not None and self._pays(wrong):
            return f"a wrong answer scores {wrong:g}"
        found = [score for score in (right, near, wrong) if score is not None]
        if found != sorted(found, reverse=True):
            return f"better answers score less: {', '.join(f'{rung} {score:g}' for rung, score in rungs.items())}"
        return ""


@dataclass(frozen=True)
class SuiteReport:
    """All graders of a config."""

    graders: tuple[GraderReport, ...]
    rows: int
    seed: int
    skipped: tuple[Target, ...] = ()
    """Graders that do not say whether an answer is right: there is nothing to attack."""
    asked: int = 0
    """Answers that were put to the graders, some of them more than once."""
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    """Judge model -> prompt, completion and cached tokens."""
    cost_usd: float | None = 0.0
    """At the prices of judges; None where one has no price."""

    @property
    def verdict(self) -> Verdict:
        """Of the graders that decide something: the one that rewards, and those that watch. Parts are shown."""
        verdicts = [each.verdict for each in self.graders if each.target.role != "part"]
        if "failed" in verdicts:
            return "failed"
        return "inconclusive" if "inconclusive" in verdicts or not verdicts else "good"

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "rows": self.rows,
            "seed": self.seed,
            "answers": self.asked,
            "tokens": self.tokens,
            "cost_usd": self.cost_usd,
            "graders": [each.as_dict() for each in self.graders],
            "not_attacked": [{"grader": each.name, "type": each.kind, "role": each.role} for each in self.skipped],
        }


def _shown(outcome: Outcome) -> dict[str, Any]:
    return {"case": outcome.case, "row": outcome.row, "score": outcome.score, "text": outcome.text}
