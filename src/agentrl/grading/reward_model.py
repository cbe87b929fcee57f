"""`type: reward_model`: the calibrated probability of a model that `agentrl reward-model train` wrote.

score = sigmoid((reward - centre) / temperature)

The temperature was fitted on a hold-out, so that of two episodes sigmoid(logit(a) - logit(b)) is the probability that a
is the better one. The centre is the mean reward of the hold-out's episodes, which so score about 0.5; of a model that
was trained on scores it is 0, and the score is an estimate of the score it learned.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from agentrl.config.graders import RewardModelConfig
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.rendering import RENDERING, Transcript
from agentrl.grading.submission import Submission
from agentrl.types import Grade

if TYPE_CHECKING:
    from agentrl.grading.reward_folder import RewardModel


@dataclass(frozen=True)
class Scores:
    """What all models said about one episode."""

    scores: tuple[float, ...]
    rewards: tuple[float, ...]
    """Normalised: over the hold-out they have mean 0 and standard deviation 1."""


class RewardModelGrader:
    """Scores episodes one after the other in a thread of its own, so that sampling and tools go on meanwhile.

    Raises:
        ConfigError: a folder is missing, changed, of another version, or failed its gate.
    """

    def __init__(self, config: RewardModelConfig) -> None:
        from agentrl.grading.reward_folder import RewardModel  # late: it loads torch

        paths = (config.path, *config.ensemble)
        pins = (config.digest, *(None for _ in config.ensemble))
        self.models: tuple[RewardModel, ...] = tuple(
            RewardModel.load(Path(path), pinned=pin, allow_uncalibrated=config.allow_uncalibrated)
            for path, pin in zip(paths, pins, strict=True)
        )
        place = {
            "path": "",
            "ensemble": (),
            "digest": None,
            "threads": 1,
            "allow_uncalibrated": False,
        }  # change no score
        self._version = content_version(
            config.model_copy(update=place), weights=[model.digest for model in self.models], rendering=RENDERING
        )
        self._name, self._batch_size = config.name or config.type, config.batch_size
        self._thread = ThreadPoolExecutor(1, "reward-model", initializer=_compute_with, initargs=(config.threads,))
        self._waiting: list[tuple[Transcript, asyncio.Future[Scores]]] = []
        self._worker: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"RewardModelGrader({', '.join(str(model.folder) for model in self.models)})"

    @property
    def version(self) -> str:
        """Of the weights and of the rendering."""
        return self._version

    async def aclose(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def grade(self, submission: Submission) -> Grade:
        """The lowest score of all models; what cannot be rendered, or is too long, is ungraded."""
        started = time.perf_counter()
        try:
            found = await self._scores(Transcript.of_submission(submission))
        except (ValueError, RuntimeError) as error:  # RuntimeError: torch's, or the grader was closed
            return ungraded(f"grader {self._name}: {error}", "other_error", seconds=time.perf_counter() - started)
        seconds = time.perf_counter() - started
        if not all(map(math.isfinite, (*found.scores, *found.rewards))):
            reason = f"grader {self._name}: the reward is no number ({found.rewards})"
            return ungraded(reason, "other_error", seconds=seconds)
        parts = {"reward": fmean(found.rewards)}
        if len(self.models) > 1:
            parts["disagreement"] = max(found.scores) - min(found.scores)
        return Grade(min(found.scores), seconds=seconds, sub_scores=parts, version=self.version)

    async def _scores(self, transcript: Transcript) -> Scores:
        future: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        self._waiting.append((transcript, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        """Score what waits, in the order of its coming, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = self._waiting[: self._batch_size]
            del self._waiting[: self._batch_size]
            futures = [future for _, future in batch]
            try:
                found = await loop.run_in_executor(self._thread, self._score, [transcript for transcript, _ in batch])
            except RuntimeError as error:
                found = [error for _ in batch]
            for future, result in zip(futures, found, strict=True):
                if future.done():  # its rollout was cancelled
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _score(self, transcripts: Sequence[Transcript]) -> list[Any]:
        """A `Scores` each, or the error that one could not be scored for."""
        by_model = [model.rewards(transcripts) for model in self.models]
        results: list[Any] = []
        for column in zip(*by_model, strict=True):
            if wrong := [each for each in column if isinstance(each, Exception)]:
                results.append(wrong[0])
                continue
            pairs = list(zip(self.models, column, strict=True))
            scores = tuple(model.calibration.score(reward) for model, reward in pairs)
            results.append(Scores(scores, tuple(model.calibration.normalised(reward) for model, reward in pairs)))
        return results


def _compute_with(threads: int) -> None:
    """Of the calling thread alone: others keep the number that they computed with."""
    import torch

    torch.set_num_threads(threads)
