"""The weights of the rehearsal: FinQA's baseline, the policy trained from it, and the same update taken too far.

What training changed is shipped as one byte a weight (`trained.safetensors`, 2 MB): the difference to the baseline,
rounded to 255 steps a row. `python -m examples.release.policies RUN` writes it from a run of `configs/finqa.yaml`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

BASELINE = Path("examples/finqa/baseline")
TRAINED = Path(__file__).parent / "trained.safetensors"
STEPS = 127  # of one sign in a byte
SCALE = "/scale"
UPDATES: Mapping[str, float] = {"baseline": 0.0, "trained": 1.0, "overtrained": 2.0, "slow": 1.02, "leaky": 0.98}
"""How much of the trained update each policy has. Twice of it is what too high a learning rate does; a fiftieth more or
less is another policy, and as good a one."""


def packed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The difference of two policies, one byte a weight and one scale a row."""
    tensors: dict[str, Tensor] = {}
    for name, old in before.items():
        change = after[name].float() - old.float()
        scale = change.abs().amax(-1, keepdim=True).clamp_min(1e-12) / STEPS
        tensors[name] = (change / scale).round().to(torch.int8)
        tensors[name + SCALE] = scale
    return tensors


def updated(before: Mapping[str, Tensor], change: Mapping[str, Tensor], amount: float) -> dict[str, Tensor]:
    """The baseline with `amount` times the packed difference."""
    return {
        name: old + amount * change[name].float() * change[name + SCALE] if amount else old
        for name, old in before.items()
    }


def write_policy(kind: str, folder: Path) -> Path:
    """A checkpoint's folder with the weights of a kind of `UPDATES`."""
    shutil.copytree(BASELINE, folder, ignore=shutil.ignore_patterns("model.safetensors", "README.md"))
    weights = updated(load_file(BASELINE / "model.safetensors"), load_file(TRAINED), UPDATES[kind])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def main() -> int:
    """Write `trained.safetensors` from a run's best policy."""
    parser = argparse.ArgumentParser(prog="release-policies", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="directory of a finished run of configs/finqa.yaml")
    weights = parser.parse_args().run / "checkpoints/best/model.safetensors"
    save_file(packed(load_file(BASELINE / "model.safetensors"), load_file(weights)), TRAINED)
    print(f"{TRAINED}: {TRAINED.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
