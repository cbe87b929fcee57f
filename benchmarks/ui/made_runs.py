"""Runs on disk that look like those of the FinQA example: as many rollouts as wanted, made from words by chance.

Every turn has a thought of its own, which the example's small policy has not: a rollout holds about 3,000 characters
of text, of which a third stands nowhere else. Tool outputs are pages of a corpus, as they are in a real run.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

SPLIT_SIZES = {"train": 0, "validation": 100, "test": 100}
STEP_ROLLOUTS = 128
EVALUATED_EVERY = 10
RARE = "zirconium"
"""A word that stands in about one rollout of 20,000."""
COMMON = "revenue"
"""A word that stands in nearly all."""

_TOOLS = ("search", "cat", "list", "calculate")
_COMPANIES = [f"{a} {b}" for a in "atlas cedar delta evergreen liberty crescent harbor summit".split()
              for b in "pharma steel insurance mining paper energy foods rail".split()]  # fmt: skip
_ITEMS = (
    "net income|revenue|operating expenses|dividend payments|stock buybacks|selling expenses|stockholders equity|"
    "research and development|long term debt|inventories|deferred tax assets|goodwill|interest expense|total assets"
).split("|")
_SAYS = (
    "I should look at the annual report first|The page gives the figure in millions so no conversion is needed|"
    "That path does not exist, so search again|Now divide the two|The table lists segments, not the total|"
    "The question asks for a percent change|This is the figure for the wrong year"
).split("|")


class MadeRuns:
    """Makes runs; the same seed makes the same bytes."""

    def __init__(self, seed: int = 17) -> None:
        self.random = random.Random(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.words = ["".join(self.random.choices(letters, k=self.random.randint(3, 10))) for _ in range(20_000)]
        self.pages = [self._page() for _ in range(3_000)]
        ids = [self.random.randrange(3_000) for _ in range(200)]
        self.ids = json.dumps(ids)
        self.short_ids = json.dumps(ids[:25])
        self.logprobs = json.dumps([round(-self.random.expovariate(3.0), 6) for _ in range(25)])

    def write(self, root: Path, runs: int, rollouts: int) -> None:
        """`runs` directories of about `rollouts` rollouts each."""
        for number in range(runs):
            self._write_run(root / f"finqa-{number:03d}", number, rollouts)

    def _write_run(self, run: Path, number: int, rollouts: int) -> None:
        skill = self.random.uniform(0.2, 0.6)
        steps = max(1, (rollouts - 1200) // (STEP_ROLLOUTS + 100 // EVALUATED_EVERY))
        (run / "rollouts").mkdir(parents=True)
        manifest = {"started_at": f"2026-01-{number % 28 + 1:02d}T08:00:00+00:00", "versions": {}, "command": []}
        (run / "manifest.json").write_text(json.dumps(manifest))
        (run / "config.yaml").write_text(f"name: finqa\nppo:\n  preset: ppo\n  steps: {steps}\n")
        evaluations = ["validation-baseline", "validation-best", "test-baseline", "test-best"]
        for name in evaluations:
            gain = 0.0 if name.endswith("baseline") else 0.25
            self._write_file(run, name, [(item, sample) for item in range(100) for sample in range(3)], skill + gain)
        rows = []
        for step in range(1, steps + 1):
            now = skill + 0.25 * step / steps
            batch = [(self.random.randrange(1000), sample) for _ in range(STEP_ROLLOUTS // 4) for sample in range(4)]
            self._write_file(run, f"train-{step:06d}", batch, now)
            row = {"step": step, "reward_train": now, **{f"figure_{each}": self.random.random() for each in range(50)}}
            if step % EVALUATED_EVERY == 0:
                self._write_file(run, f"validation-{step:06d}", [(item, 0) for item in range(100)], now)
                row["reward_validation"] = now
            rows.append(row)
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        summary = {"steps": steps, "best_step": steps, "stopped_by": None, "baseline": {"reward": skill},
                   "best": {"reward": skill + 0.25}}  # fmt: skip
        (run / "summary.json").write_text(json.dumps(summary))

    def _write_file(self, run: Path, name: str, batch: list[tuple[int, int]], skill: float) -> None:
        split = name.partition("-")[0]
        with gzip.GzipFile(run / "rollouts" / f"{name}.jsonl.gz", "wb", 1, mtime=0) as file:
            for item, sample in batch:
                file.write(self._line(f"{split}-{item:04d}", item, sample, skill).encode() + b"\n")

    def _line(self, task_id: str, item: int, sample: int, skill: float) -> str:
        pick = self.random
        company, what = _COMPANIES[item % len(_COMPANIES)], _ITEMS[item % len(_ITEMS)]
        turns = [self._turn(company, what) for _ in range(min(8, 1 + int(pick.expovariate(0.3))))]
        is_lost, is_right = pick.random() < 0.01, pick.random() < skill
        score = "null" if is_lost else str(float(is_right))
        outcome, stop = ("infra_failed", "infrastructure") if is_lost else ("completed", "final")
        answer = f"the answer is {pick.uniform(0, 1000):.5g}"
        ends = (
            f'{{"text": "{answer}", "token_ids": {self.short_ids}, "engine_logprobs": {self.logprobs}, '
            f'"tool_calls": [], "tool_results": [], "observation_ids": [], "policy_version": 4, "attempts": 1, '
            f'"seconds": 0.4}}'
        )
        return (
            f'{{"id": "trace_{pick.getrandbits(128):032x}", "task_id": "{task_id}", "messages": [{{"role": "system", '
            f'"content": "answer the question with a number . search the reports , read the page , then calculate ."'
            f'}}, {{"role": "user", "content": "for {company} in {2000 + item % 20} , what was the {what} ?"}}], '
            f'"item": {{}}, "sample_index": {sample}, "seed": 7, "outcome": "{outcome}", "stop_reason": "{stop}", '
            f'"failure_class": {json.dumps("tool" if is_lost else None)}, "error": "", "answer": "{answer}", '
            f'"grade": {{"score": {score}, "reason": ""}}, '
            f'"seconds": {pick.expovariate(0.2):.3f}, "output_tokens": {25 * len(turns) + 25}, '
            f'"n_tool_calls": {len(turns)}, "cost_usd": 0.0, "prompt_ids": {self.ids}, '
            f'"turns": [{", ".join([*turns, ends])}]}}'
        )

    def _turn(self, company: str, what: str) -> str:
        pick = self.random
        tool = _TOOLS[min(3, int(pick.expovariate(0.7)))]
        thought = " ".join(pick.choices(self.words, k=pick.randint(6, 24)))
        if pick.random() < 1.2e-5:
            thought += f" {RARE}"
        arguments = json.dumps(json.dumps({"query": f"{company} {what} {pick.choice(self.words)}"}))
        text = (
            json.dumps(f"{thought}. {pick.choice(_SAYS)}.\n<tool_call>{tool}")[:-1] + f' {arguments[1:-1]}</tool_call>"'
        )
        return (
            f'{{"text": {text}, "token_ids": {self.short_ids}, "engine_logprobs": {self.logprobs}, "tool_calls": '
            f'[{{"id": "call_1", "name": "{tool}", "arguments": {arguments}}}], "tool_results": [{{"call_id": '
            f'"call_1", "name": "{tool}", "output": {pick.choice(self.pages)}, "seconds": 0.02, "is_error": false}}], '
            f'"observation_ids": {self.ids}, "policy_version": 4, "attempts": 1, "seconds": 0.8}}'
        )

    def _page(self) -> str:
        pick = self.random
        title = f"{pick.choice(_COMPANIES)} {pick.randint(2000, 2020)} annual report"
        lines = [f"{what} | {pick.uniform(1, 9000):,.1f} | {pick.uniform(1, 9000):,.1f}"
                 for what in pick.sample(_ITEMS, pick.randint(2, 8))]  # fmt: skip
        return json.dumps("\n".join([title, " ".join(pick.choices(self.words, k=20)), *lines]))
