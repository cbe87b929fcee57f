"""RunsIndex: what the pages ask."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from agentrl.runs.files import rollouts_path
from agentrl.ui.index.episodes import DamagedFile, Episode, read_episodes, read_trace
from agentrl.ui.index.locks import HeldLocks
from agentrl.ui.index.metrics import MetricsTail
from agentrl.ui.index.places import FoundFile, find_files, find_runs
from agentrl.ui.index.records import EpisodePage, EpisodeQuery, EpisodeRow, Order, RunRow
from agentrl.ui.index.run_rows import Counts, RunFacts

SPLITS = ("train", "validation", "test")


class RunsIndex:
    def __init__(self, runs_dir: Path) -> None:
        self.root = Path(runs_dir).resolve()
        self._files: dict[FoundFile, list[Episode]] = {}
        self._problems: dict[FoundFile, str] = {}
        self._paths: dict[str, Path] = {}
        self._metrics, self._facts = MetricsTail(), RunFacts()
        self.refresh()

    def refresh(self) -> int:
        self._paths = find_runs(self.root)
        found = [file for run, path in self._paths.items() for file in find_files(run, path)]
        read = 0
        files, problems = {}, {}
        for file in found:
            if file in self._files:
                files[file] = self._files[file]
            elif file in self._problems:
                problems[file] = self._problems[file]
            else:
                read += 1
                try:
                    files[file] = list(read_episodes(rollouts_path(self._paths[file.run], file.name)))
                except (DamagedFile, OSError) as error:
                    problems[file] = f"{file.name}: {error}"
        self._files, self._problems = files, problems
        return read

    def runs(self) -> list[RunRow]:
        locks = HeldLocks()
        rows = []
        for name, path in self._paths.items():
            episodes = [each for file, found in self._files.items() if file.run == name for each in found]
            counts = Counts(
                len(episodes),
                sum(each.outcome == "infra_failed" for each in episodes),
                tuple(text for file, text in self._problems.items() if file.run == name),
            )
            rows.append(self._facts.row(name, path, counts, is_running=locks.is_held(path)))
        return rows

    def run_path(self, run: str) -> Path | None:
        """Where the run lies; None where there is none of that name."""
        return self._paths.get(run)

    def metrics(self, run: str) -> list[dict[str, Any]]:
        return self._metrics.rows(self._paths[run]) if run in self._paths else []

    def files(self, run: str) -> list[str]:
        return [file.name for file in self._files if file.run == run]

    def episodes(self, query: EpisodeQuery) -> EpisodePage:
        rows = self._ordered(query)
        return EpisodePage(tuple(rows[query.offset : query.offset + query.limit]), len(rows))

    def episode(self, run: str, rollout_id: str) -> tuple[EpisodeRow, dict[str, Any]] | None:
        for row, _ in self._rows():
            if row.run == run and row.rollout_id == rollout_id:
                try:
                    return row, read_trace(rollouts_path(self._paths[run], row.file), row.line)
                except (DamagedFile, OSError):
                    return None
        return None

    def siblings(self, run: str, task_id: str) -> list[EpisodeRow]:
        rows = self._ordered(EpisodeQuery(runs=(run,), task_id=task_id))
        return sorted((row for row in rows if row.split != "train"), key=lambda row: (row.file, row.line))

    def neighbours(self, query: EpisodeQuery, row: EpisodeRow) -> tuple[EpisodeRow | None, EpisodeRow | None]:
        rows = self._ordered(query)
        keys = [(each.run, each.file, each.line) for each in rows]
        if (row.run, row.file, row.line) not in keys:
            return None, None
        at = keys.index((row.run, row.file, row.line))
        return rows[at - 1] if at else None, rows[at + 1] if at + 1 < len(rows) else None

    def close(self) -> None:
        pass

    def _rows(self) -> list[tuple[EpisodeRow, Episode]]:
        changes = self._changes()
        out = []
        for file in sorted(self._files, key=lambda f: (-f.mtime_ns, f.run, f.name)):
            split, _, which = file.name.partition("-")
            step = int(which) if which.isdigit() else {"baseline": 0}.get(which)
            for line, each in enumerate(self._files[file]):
                out.append(
                    (
                        EpisodeRow(
                            file.run, file.name, line, each.rollout_id, each.task_id, each.sample_index,
                            split if split in SPLITS else "", step, each.score, each.outcome, each.stop_reason,
                            each.failure_class, len(each.tools), each.repeated_tools, each.output_tokens,
                            each.seconds, each.cost_usd, changes.get((file.run, split, each.task_id)), each.tools,
                            each.question, each.answer,
                        ),
                        each,
                    )
                )  # fmt: skip
        return out

    def _changes(self) -> dict[tuple[str, str, str], float]:
        changes = {}
        for run in self._paths:
            by_name = {file.name: found for file, found in self._files.items() if file.run == run}
            for split in ("validation", "test"):
                steps = sorted(
                    name for name in by_name if name.startswith(f"{split}-") and name.split("-")[1].isdigit()
                )
                last = next((n for n in (f"{split}-best", f"{split}-final", *reversed(steps)) if n in by_name), None)
                if last and f"{split}-baseline" in by_name:
                    before, after = _means(by_name[f"{split}-baseline"]), _means(by_name[last])
                    changes |= {(run, split, item): after[item] - before[item] for item in before.keys() & after.keys()}
        return changes

    def _ordered(self, q: EpisodeQuery) -> list[EpisodeRow]:
        needle = q.contains.casefold()
        rows = [
            row
            for row, each in self._rows()
            if (not q.runs or row.run in q.runs)
            and (not q.split or row.split == q.split)
            and (not q.file or row.file == q.file)
            and (not q.task_id or row.task_id == q.task_id)
            and (not q.outcome or row.outcome == q.outcome)
            and (not q.failure_class or row.failure_class == q.failure_class)
            and (not q.tool or q.tool in row.tools)
            and (q.min_score is None or (row.score is not None and row.score >= q.min_score))
            and (q.max_score is None or (row.score is not None and row.score <= q.max_score))
            and (not needle or any(needle in text.casefold() for text in each.texts))
        ]
        keys = {
            Order.LOWEST_REWARD: lambda r: (r.score is None, r.score or 0.0),
            Order.HIGHEST_REWARD: lambda r: (r.score is None, -(r.score or 0.0)),
            Order.LARGEST_CHANGE: lambda r: (r.change is None, -abs(r.change or 0.0)),
            Order.LONGEST: lambda r: -r.output_tokens,
            Order.SLOWEST: lambda r: -r.seconds,
            Order.MOST_CALLS: lambda r: -r.tool_calls,
            Order.REPEATED_TOOLS: lambda r: -r.repeated_tools,
        }
        return sorted(rows, key=keys[q.order]) if q.order in keys else rows


def _means(episodes: list[Episode]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for each in episodes:
        if each.outcome != "infra_failed" and each.score is not None:
            scores.setdefault(each.task_id, []).append(each.score)
    return {item: fmean(found) for item, found in scores.items()}
