"""The figures of a comparison from two files of rollouts, once more and by other means: nothing of agentrl is used.

Written from docs/compare.md, in the plainest way that says what a figure means, however slow.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

DRAWS, SEED = 10_000, 17
Trace = dict[str, Any]
Items = dict[str, list[Trace]]


def read(path: Path) -> Items:
    items: Items = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            trace = json.loads(line)
            items.setdefault(trace["task_id"], []).append(trace)
    return {task: sorted(traces, key=lambda trace: trace["sample_index"]) for task, traces in items.items()}


def counts(trace: Trace) -> bool:
    return trace["grade"]["score"] is not None and trace["stop_reason"] not in ("infrastructure", "time_limit")


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


class Recomputed:
    """Both sides, and every figure on demand."""

    def __init__(self, first: Path, second: Path, threshold: float, tools: set[str]) -> None:
        self.all = [read(first), read(second)]
        self.threshold, self.tools = threshold, tools
        self.valid: list[Items] = [
            {task: [each for each in traces if counts(each)] for task, traces in side.items()} for side in self.all
        ]
        both = self.all[0].keys() & self.all[1].keys()
        same = {
            task
            for task in both
            if all((each["messages"], each["item"]) == (self.all[0][task][0]["messages"], self.all[0][task][0]["item"])
                   for side in self.all for each in side[task])
        }  # fmt: skip
        self.attempted = sorted(same)
        self.shared = sorted(task for task in same if self.valid[0][task] and self.valid[1][task])

    # what an episode is

    def success(self, trace: Trace) -> float:
        return float(trace["grade"]["score"] >= self.threshold)

    def calls(self, trace: Trace) -> list[dict[str, str]]:
        return [call for turn in trace["turns"] for call in turn["tool_calls"]]

    def names(self, trace: Trace) -> list[str]:
        return [call["name"] if call["name"] in self.tools else "unknown" for call in self.calls(trace)]

    def again(self, trace: Trace) -> int:
        """Calls that an earlier call of the episode equals."""
        seen = [(call["name"], json.loads(call["arguments"])) for call in self.calls(trace)]
        return sum(call in seen[:index] for index, call in enumerate(seen))

    def loops(self, trace: Trace) -> list[tuple[tuple[str, ...], int]]:
        """By trying every stretch: those that repeat with a period, cannot be longer, and have no shorter period."""
        if "loops" in trace:
            return trace["loops"]
        names, found = self.names(trace), []
        trace["loops"] = found
        for start, end in combinations(range(len(names) + 1), 2):
            for period in range(1, 6):
                repeats = all(names[i] == names[i + period] for i in range(start, end - period))
                is_long = end - start >= (3 if period == 1 else 2 * period)
                grows_left = start > 0 and names[start - 1] == names[start - 1 + period] if is_long else False
                grows_right = end < len(names) and names[end] == names[end - period] if is_long else False
                if not (repeats and is_long) or grows_left or grows_right:
                    continue
                block = names[start : start + period]
                if any(period % p == 0 and block == block[:p] * (period // p) for p in range(1, period)):
                    continue
                turns = [tuple(block[k:] + block[:k]) for k in range(period)]
                found.append((min(turns), end - start))
        return found

    def repeated_text(self, trace: Trace) -> float | None:
        if not any(turn["token_ids"] for turn in trace["turns"]):
            return None
        grams = [
            [tuple(turn["token_ids"][i : i + 4]) for i in range(len(turn["token_ids"]) - 3)] for turn in trace["turns"]
        ]
        total = sum(len(each) for each in grams)
        return 1 - sum(len(set(each)) for each in grams) / total if total else 0.0

    # what an item is

    def pairs(self, value: Callable[[Trace], float | None]) -> np.ndarray:
        """[N, 2] means over the valid episodes of shared items."""
        return np.array(
            [[mean(x for x in map(value, side[task]) if x is not None) for side in self.valid] for task in self.shared]
        )

    def attempted_pairs(self, value: Callable[[Trace], float]) -> np.ndarray:
        return np.array([[mean(map(value, side[task])) for side in self.all] for task in self.attempted])

    # what a figure is

    def figures(self) -> dict[str, dict[str, Any]]:
        values: dict[str, Callable[[Trace], Any]] = {
            "reward": lambda t: t["grade"]["score"],
            "success_rate": self.success,
            "latency_seconds": lambda t: t["seconds"],
            "turns": lambda t: len(t["turns"]),
            "output_tokens": lambda t: sum(
                len(turn["token_ids"]) + turn.get("unseen_tokens", 0) for turn in t["turns"]
            ),
            "reasoning_tokens": lambda t: sum(turn["reasoning_tokens"] for turn in t["turns"]),
            "cost_usd": lambda t: t["cost_usd"],
            "tool_calls": lambda t: len(self.calls(t)),
            "tool_errors": lambda t: sum(each["is_error"] for turn in t["turns"] for each in turn["tool_results"]),
            "malformed_calls": lambda t: sum(turn["malformed_calls"] for turn in t["turns"]),
            "same_tool_repeats": lambda t: sum(
                a["name"] == b["name"] for a, b in zip(self.calls(t), self.calls(t)[1:], strict=False)
            ),
            "repeated_calls": self.again,
            "repeated_calls_fraction": lambda t: self.again(t) > 0,
            "loop_fraction": lambda t: bool(self.loops(t)),
            "longest_loop": lambda t: max((length for _, length in self.loops(t)), default=0),
            "repeated_ngram_fraction": self.repeated_text,
        }
        valid = [trace for side in self.valid for traces in side.values() for trace in traces]
        for tool in sorted({name for trace in valid for name in self.names(trace)}):
            values[f"tool_calls_{tool}"] = lambda t, tool=tool: self.names(t).count(tool)
        for prefix, key in (("score_part_", "sub_scores"), ("holdout_score_of_", "holdout")):
            names = [{name for ts in side.values() for t in ts for name in t["grade"][key]} for side in self.valid]
            for name in names[0] & names[1]:
                values[prefix + name] = lambda t, key=key, name=name: t["grade"][key].get(name)
        found = {name: figure(self.pairs(value)) for name, value in values.items()}
        success, cost = self.pairs(self.success), self.pairs(values["cost_usd"])
        found["repeats_per_call"] = ratio(
            self.pairs(values["same_tool_repeats"]), self.pairs(values["tool_calls"]), 0.0
        )
        found["output_tokens_per_success"] = ratio(self.pairs(values["output_tokens"]), success)
        if cost.any():
            found["cost_per_success_usd"] = ratio(cost, success)
        else:
            del found["cost_usd"]
        for percent in (50, 95):
            found[f"latency_p{percent}_seconds"] = self.quantile(percent)
        everything = [trace for side in self.all for traces in side.values() for trace in traces]
        found["infra_failed_fraction"] = figure(self.attempted_pairs(lambda t: not counts(t)))
        for name in {each["failure_class"] for each in everything} - {None}:
            found[f"infra_failed_{name}"] = figure(
                self.attempted_pairs(lambda t, name=name: t["failure_class"] == name)
            )
        for name in {each["stop_reason"] for each in everything}:
            found[f"stopped_by_{name}"] = figure(self.attempted_pairs(lambda t, name=name: t["stop_reason"] == name))
        return {name: each for name, each in found.items() if each.get("n_items", 1)}

    def quantile(self, percent: int) -> dict[str, Any]:
        """Every item one vote, shared by its episodes; the smallest value that reaches the share."""
        seconds = [[[t["seconds"] for t in side[task]] for task in self.shared] for side in self.valid]

        def of(side: int, items: Any) -> float:
            votes = sorted((value, 1 / len(seconds[side][item])) for item in items for value in seconds[side][item])
            needed, reached = percent / 100 * len(items), 0.0
            for value, weight in votes:
                reached += weight
                if reached >= needed - 1e-9:
                    return float(value)
            return float(votes[-1][0])

        everyone = range(len(self.shared))
        draws = np.array([[of(side, drawn) for side in (0, 1)] for drawn in resample(len(self.shared))[:SOME]])
        return {"baseline": of(0, everyone), "candidate": of(1, everyone), "first_draws": draws}

    def pass_k(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By looking at every choice of k samples."""
        flags = {task: [[self.success(t) for t in side[task]] for side in self.valid] for task in self.shared}
        most = max(min(map(len, both)) for both in flags.values())
        found: dict[str, dict[str, dict[str, Any]]] = {"pass_at_k": {}, "pass_hat_k": {}}
        for k in {1, 2, 4, 8, most}:
            whole = [both for both in flags.values() if min(map(len, both)) >= k]
            if whole and k <= most:
                for name, rule in (("pass_at_k", any), ("pass_hat_k", all)):
                    table = [[mean(rule(c) for c in combinations(side, k)) for side in both] for both in whole]
                    found[name][str(k)] = figure(np.array(table))
        return found

    def quadrants(self) -> Counter[str]:
        reward, calls = self.pairs(lambda t: t["grade"]["score"]), self.pairs(lambda t: len(self.calls(t)))
        found: Counter[str] = Counter()
        for (a, b), (c, d) in zip(reward, calls, strict=True):
            up = "equal" if abs(b - a) <= 1e-9 else "better" if b > a else "worse"
            more = "equal" if abs(d - c) <= 1e-9 else "more" if d > c else "fewer"
            found[f"{up}_{more}"] += 1
        return found

    def patterns(self) -> dict[str, dict[tuple[str, ...], dict[str, Any]]]:
        kinds: dict[str, Callable[[Trace], list[tuple[str, ...]]]] = {
            "tool_2grams": lambda t: list(zip(self.names(t), self.names(t)[1:], strict=False)),
            "tool_3grams": lambda t: list(zip(self.names(t), self.names(t)[1:], self.names(t)[2:], strict=False)),
            "loops": lambda t: [block for block, _ in self.loops(t)],
            "first_tool": lambda t: [tuple(self.names(t)[:1]) or ("(no call)",)],
            "last_tool": lambda t: [tuple(self.names(t)[-1:]) or ("(no call)",)],
        }
        return {kind: self._patterns(of) for kind, of in kinds.items()}

    def _patterns(self, of: Callable[[Trace], list[tuple[str, ...]]]) -> dict[tuple[str, ...], dict[str, Any]]:
        names = {p for side in self.valid for task in self.shared for t in side[task] for p in of(t)}
        rows = {}
        for name in sorted(names):
            items = [any(name in of(t) for side in self.valid for t in side[task]) for task in self.shared]
            if sum(items) < 5:
                continue
            table = self.pairs(lambda t, name=name: of(t).count(name))
            total = [sum(of(t).count(name) for task in self.shared for t in side[task]) for side in self.valid]
            rows[name] = {"counts": total, "figure": figure(table), "p": flipped(table[:, 1] - table[:, 0])}
        for row, p in zip(rows.values(), holm([row["p"] for row in rows.values()]), strict=True):
            row["holm"] = p
        return rows

    def tags(self) -> dict[str, dict[str, Any]]:
        reward = self.pairs(lambda t: t["grade"]["score"])
        of_item = [self.valid[0][task][0]["item"].get("tags", []) for task in self.shared]
        rows = {}
        for tag in sorted({tag for tags in of_item for tag in tags}):
            table = reward[[tag in tags for tags in of_item]]
            rows[tag] = {"figure": figure(table), "p": flipped(table[:, 1] - table[:, 0])}
        for row, p in zip(rows.values(), holm([row["p"] for row in rows.values()]), strict=True):
            row["holm"] = p
        return rows


SOME = 50
"""Resamples of a quantile that are taken by hand."""


def resample(n: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, n, size=(DRAWS, n))


def figure(table: np.ndarray) -> dict[str, Any]:
    """Means, change, intervals of a table [N, 2]; rows with a gap are left out."""
    table = np.asarray(table, dtype=float)
    table = table[~np.isnan(table).any(axis=1)] if len(table) else table
    if not len(table):
        return {"baseline": None, "candidate": None, "change": None, "n_items": 0}
    draws = table[resample(len(table))].mean(axis=1) if len(table) > 1 else None
    return {**_described(table.mean(axis=0), draws), "n_items": len(table)}


def ratio(over: np.ndarray, under: np.ndarray, of_nothing: float = float("nan")) -> dict[str, Any]:
    def divide(a: Any, b: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.asarray(b) > 0, np.asarray(a) / np.asarray(b), of_nothing)

    draws = None
    if len(over) > 1:
        chosen = resample(len(over))
        draws = divide(over[chosen].mean(axis=1), under[chosen].mean(axis=1))
    return {**_described(divide(over.mean(axis=0), under.mean(axis=0)), draws), "n_items": len(over)}


def _described(levels: Any, draws: Any) -> dict[str, Any]:
    baseline, candidate = (None if np.isnan(level) else float(level) for level in levels)
    known = baseline is not None and candidate is not None
    found: dict[str, Any] = {
        "baseline": baseline,
        "candidate": candidate,
        "change": candidate - baseline if known else None,
        "relative": (candidate - baseline) / baseline if known and baseline else None,
    }
    if draws is not None:
        found["change_interval"] = between(draws[:, 1] - draws[:, 0])
        found["baseline_interval"], found["candidate_interval"] = between(draws[:, 0]), between(draws[:, 1])
        if np.all(draws[:, 0] != 0):
            found["relative_interval"] = between(draws[:, 1] / draws[:, 0] - 1)
    return found


def between(draws: np.ndarray) -> list[float] | None:
    """None where more than one in twenty is undefined."""
    known = draws[~np.isnan(draws)]
    return list(np.percentile(known, [2.5, 97.5])) if len(known) >= 0.95 * len(draws) else None


def flipped(changes: np.ndarray) -> float:
    signs = 1 - 2 * np.random.default_rng(SEED).integers(0, 2, size=(DRAWS, len(changes)))
    as_far = np.abs(signs @ changes) >= abs(changes.sum()) - 1e-9
    return float((1 + as_far.sum()) / (1 + DRAWS))


def holm(p_values: list[float]) -> list[float]:
    ordered = sorted(p_values)
    steps = [min(1.0, p * (len(ordered) - place)) for place, p in enumerate(ordered)]
    return [max(steps[: ordered.index(p) + 1]) for p in p_values]


def losses(found: Recomputed, side: int) -> dict[str, Any]:
    """Counts, and what the other side scored on items that lost something and on those that did not."""
    other = found.valid[1 - side]
    traces = found.all[side]
    share = {task: mean(not counts(t) for t in each) for task, each in traces.items()}
    odd = {task for task in found.all[0].keys() & found.all[1].keys() if task not in found.attempted}
    known = sorted(task for task in traces if other.get(task) and task not in odd)
    reward = {task: mean(t["grade"]["score"] for t in other[task]) for task in known}
    hit = [reward[task] for task in known if share[task] > 0]
    spared = [reward[task] for task in known if share[task] == 0]
    lost, scored = (np.array([table[task] for task in known]) for table in (share, reward))
    varies = len(known) > 1 and np.ptp(lost) > 0 and np.ptp(scored) > 0
    return {
        "rollouts": sum(map(len, traces.values())),
        "lost": sum(not counts(t) for each in traces.values() for t in each),
        "items_hit": sum(each > 0 for each in share.values()),
        "items_lost": sum(each == 1 for each in share.values()),
        "reward_of_hit": mean(hit) if hit else None,
        "reward_of_others": mean(spared) if spared else None,
        "correlation": float(np.corrcoef(ranks(lost), ranks(scored))[0, 1]) if varies else None,
    }


def ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < each).sum() + ((values == each).sum() + 1) / 2 for each in values])
