"""A reward model's folder: weights as safetensors, calibration as JSON, a digest of every file.

model.safetensors, config.json   the classifier with one output
tokenizer.json, ...              of the policy that it was made from
reward_model.json                calibration, rendering, the gate's verdict
report.html, .json, .md          what the hold-out showed
digests.json                     sha256 of all of these, written last

Nothing is unpickled and no code of the folder is run. Importing this file loads torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from agentrl.config import RenderingConfig
from agentrl.disk import file_digest
from agentrl.errors import AgentRLError, ConfigError
from agentrl.grading.rendering import RENDERING, Renderer, Transcript
from agentrl.progress_bars import without_progress_bars

CARD = "reward_model.json"
DIGESTS = "digests.json"
ADAPTER = "adapter_config.json"
ALLOWED = {".safetensors", ".json", ".jinja", ".txt", ".model", ".md", ".html", ".svg"}
"""Suffixes of a folder's files; a pickle is not among them."""


@dataclass(frozen=True)
class Calibration:
    """From the model's number to a reward and a score."""

    mean: float
    """Of the rewards of the hold-out's episodes."""
    std: float
    centre: float
    """The reward that scores 0.5."""
    temperature: float
    """Fitted on half of the hold-out."""

    @property
    def gain(self) -> float:
        return 1 / self.std

    @property
    def bias(self) -> float:
        return -self.mean / self.std

    def normalised(self, reward: float) -> float:
        """gain * reward + bias: mean 0 and standard deviation 1 over the hold-out's episodes."""
        return self.gain * reward + self.bias

    def score(self, reward: float) -> float:
        """From 0 to 1, see `reward_model.py`."""
        if not math.isfinite(reward):
            return math.nan
        logit = (reward - self.centre) / self.temperature
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0

    def to_row(self) -> dict[str, float]:
        return {**asdict(self), "gain": self.gain, "bias": self.bias}


@dataclass(frozen=True)
class RewardModel:
    """A classifier, and how its number is to be read."""

    folder: Path
    model: Any
    renderer: Renderer
    calibration: Calibration
    max_length: int
    digest: str
    """sha256 over the names and digests of all files."""

    @classmethod
    def load(cls, folder: Path, *, pinned: str | None = None, allow_uncalibrated: bool = False) -> RewardModel:
        """Check every file, then load.

        Raises:
            ConfigError: it is missing, unfinished, changed, of another rendering, or failed its gate.
        """
        stamps = _stamps(folder)
        digest = checked_digest(folder)
        if pinned is not None and pinned != digest:
            raise ConfigError(f"{folder} is not the reward model that is pinned: found {digest}, allowed: {pinned}")
        try:
            card = json.loads((folder / CARD).read_text("utf-8"))
            calibration = Calibration(**{key: float(card["calibration"][key]) for key in CALIBRATION})
            if not (
                calibration.std > 0
                and calibration.temperature > 0
                and all(map(math.isfinite, asdict(calibration).values()))
            ):
                raise ValueError(f"calibration {card['calibration']}")
            rendering, version = (
                RenderingConfig.model_validate(card["rendering"]["options"]),
                card["rendering"]["version"],
            )
            max_length, failures = int(card["max_length"]), list(card["gate"]["failures"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder / CARD}: is no reward model's card ({error!r:.200})") from error
        if version != RENDERING:
            found = f"found {version!r}; this version writes {RENDERING!r}: train the reward model again"
            raise ConfigError(f"{folder / CARD}: rendering.version: {found}")
        if failures and not allow_uncalibrated:
            raise ConfigError(
                f"{folder}: the reward model failed its gate ({'; '.join(map(str, failures))}); train a better one, or "
                "take it all the same with allow_uncalibrated: true"
            )
        tokenizer, model = load_classifier(folder)
        if _stamps(folder) != stamps:
            raise ConfigError(f"{folder}: was changed while it was read")
        return cls(folder, model, Renderer(tokenizer, rendering), calibration, max_length, digest)

    def rewards(self, transcripts: Sequence[Transcript]) -> list[float | ValueError]:
        """The model's number for each; the error of one that cannot be rendered, or is longer than any it learned."""
        found: list[float | ValueError] = []
        rows: list[tuple[int, list[int]]] = []
        for index, transcript in enumerate(transcripts):
            found.append(math.nan)
            try:
                ids = self.renderer.ids(transcript)
                if not 0 < len(ids) <= self.max_length:
                    raise ValueError(
                        f"the episode has {len(ids)} tokens; the reward model was trained on 1 to {self.max_length}"
                    )
                rows.append((index, ids))
            except ValueError as error:
                found[index] = error
        for (index, _), reward in zip(rows, rewards_of(self.model, [ids for _, ids in rows]), strict=True):
            found[index] = reward
        return found


CALIBRATION = ("mean", "std", "centre", "temperature")


@torch.no_grad()
def rewards_of(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """The number at each row's last token; a row by itself is not padded."""
    if not rows:
        return []
    length, pad = max(map(len, rows)), model.config.get_text_config().pad_token_id
    ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return [float(each) for each in logits.float().squeeze(-1).tolist()]


def load_classifier(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model, on a GPU where there is one.

    Raises:
        ConfigError: they cannot be loaded, or the weights are not all there.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with without_progress_bars():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError, AgentRLError) as error:
        raise ConfigError(f"{folder}: the reward model cannot be loaded: {error}") from error
    if missing := sorted(info["missing_keys"]):
        raise ConfigError(f"{folder}: the reward model lacks {len(missing)} weights, {missing[0]} first")
    if model.config.num_labels != 1:
        raise ConfigError(f"{folder}: found {model.config.num_labels} outputs; a reward model has one")
    model.requires_grad_(False).eval()
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu")


def checked_digest(folder: Path) -> str:
    """The folder's digest, every file compared with what was written down.

    Raises:
        ConfigError: there is no such folder, it was never finished, or a file was changed, added or taken away.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; `agentrl reward-model train` writes one (reward_model.output)")
    try:
        recorded = json.loads((folder / DIGESTS).read_text("utf-8"))
        files = sorted(path for path in folder.rglob("*") if path != folder / DIGESTS and not _is_folder(path))
        # weights elsewhere, as links and adapters have them, would have no digest here
        if foreign := [
            path for path in files if path.suffix not in ALLOWED or path.is_symlink() or path.name == ADAPTER
        ]:
            raise ConfigError(f"{foreign[0]}: a reward model is safetensors and JSON; take this file away")
        found = {os.fspath(path.relative_to(folder)): file_digest(path) for path in files}
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{folder}: was never finished as a reward model (no readable {DIGESTS})") from error
    if not isinstance(recorded, dict) or recorded != found:
        names = recorded.keys() | found.keys() if isinstance(recorded, dict) else found.keys()
        wrong = sorted(n for n in names if not isinstance(recorded, dict) or recorded.get(n) != found.get(n))
        raise ConfigError(f"{folder}: was changed since it was written: {', '.join(wrong)} does not fit its digest")
    return f"sha256:{hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()}"


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _stamps(folder: Path) -> dict[str, tuple[int, ...]]:
    """Which files there are and when each was last touched, which cannot be set back."""
    found: dict[str, tuple[int, ...]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found
