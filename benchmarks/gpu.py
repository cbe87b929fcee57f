"""How much of the card an update and a decode step use, on random weights of Qwen's shapes.

    python -m benchmarks.gpu [--shape 0.5B|1.5B] [--device cuda] [--tokens 4096] [--sessions 64] [--tiny] [--json]

update: forward and backward pass over `--tokens` tokens in one microbatch. Its share of the card's matrix peak (MFU)
    counts 6 operations a weight and token, and the causal half of attention; the peak is measured, on a large product.
decode: one token for each of `--sessions` sessions, as the in-process engine steps. Its bound is the time to read all
    weights and all keys and values once, at the bandwidth that a copy reaches.
mismatch: log-probabilities of the same tokens under the same weights, in bfloat16 beside float32.
`--tiny` is for trying the program without a card.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl.config import PolicyConfig
from agentrl.inference.slots import Decoding, Piece, SlotCache, SlotModel
from agentrl.policy.policy import Policy
from tests.engine_fixtures import make_tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
}
VOCABULARY = {"0.5B": 151_936, "1.5B": 151_936, "tiny": 512}


def make_model(shape: str, device: torch.device) -> Any:
    torch.manual_seed(0)
    limits = {"num_key_value_heads": 2, "max_position_embeddings": 32_768, "tie_word_embeddings": True}
    config = Qwen2Config(vocab_size=VOCABULARY[shape], attn_implementation="sdpa", **limits, **SHAPES[shape])
    with device:
        return Qwen2ForCausalLM(config).to(torch.bfloat16).eval()


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median, after two runs that are not counted."""
    taken = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return median(taken[2:])


def measure_device(device: torch.device, size: int, repeats: int) -> tuple[float, float]:
    """Operations a second of a large bfloat16 product, and bytes a second of a large copy (read and written)."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(64 * size * size // 4, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    operations = 2 * size**3 / seconds(lambda: a @ b, device, repeats)
    return operations, 2 * source.numel() / seconds(lambda: target.copy_(source), device, repeats)


def measure_update(policy: Policy, tokens: int, repeats: int) -> dict[str, float]:
    """Rows of a quarter of the tokens each, that share nothing; half of each is sampled."""
    ids, mask = some_rows(policy, tokens)

    def update() -> None:
        policy.model.zero_grad(set_to_none=True)
        policy.evaluate(ids, mask, with_values=False).logprobs.sum().backward()  # type: ignore[no-untyped-call]

    if policy.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(update, policy.device, repeats)
    is_cuda = policy.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if is_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    config, row = policy.model.config, ids.shape[1]
    embedding = policy.model.get_input_embeddings().weight.numel()
    weights = sum(parameter.numel() for parameter in policy.model.parameters()) - embedding
    attention = (
        6 * config.num_hidden_layers * config.hidden_size * row * ids.numel()
    )  # 4 n a pair, half of all, times 3
    operations = 6 * (weights * ids.numel() + embedding * int(mask.sum())) + attention
    return {"tokens_per_second": ids.numel() / taken, "operations_per_second": operations / taken, "peak_bytes": peak}


def some_rows(policy: Policy, tokens: int) -> tuple[Tensor, Tensor]:
    vocabulary = policy.model.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, (4, tokens // 4), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(ids.shape[1]).expand(ids.shape) >= ids.shape[1] // 2
    return ids.to(policy.device), mask.to(policy.device)


def measure_decode(model: Any, sessions: int, context: int, repeats: int) -> dict[str, float]:
    slots, cache = SlotModel(model), SlotCache(sessions + 1)
    for slot in range(sessions):
        slots.run(cache, [], [Piece(slot, 0, [1] * context)])
    rows = [Decoding(slot, context, 1) for slot in range(sessions)]
    taken = seconds(lambda: slots.run(cache, rows), model.device, repeats)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {
        "tokens_per_second": sessions / taken,
        "bytes_per_second": (weights + sessions * context * cache.bytes_per_position) / taken,
    }


@torch.no_grad()
def measure_mismatch(policy: Policy, tokens: int) -> float:
    """Mean absolute difference of log-probabilities, in nats."""
    exact = copy.copy(policy)
    exact.model = copy.deepcopy(policy.model).float()
    ids, mask = some_rows(policy, tokens)
    one, other = (each.evaluate(ids, mask, with_values=False).logprobs[mask] for each in (policy, exact))
    return float((one - other).abs().mean())


def measure(
    shape: str, device: torch.device, *, tokens: int, sessions: int, context: int, size: int, repeats: int
) -> dict[str, Any]:
    """All of it for one shape; `size` is that of the product and the copy by which the card is measured."""
    peak, bandwidth = measure_device(device, size, repeats)
    policy = Policy(make_model(shape, device), make_tokenizer(), PolicyConfig())
    update = measure_update(policy, tokens, repeats)
    policy.model.zero_grad(set_to_none=True)
    decode = measure_decode(policy.model, sessions, context, repeats)
    return {
        "shape": shape,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "peak_operations_per_second": peak,
        "bandwidth_bytes_per_second": bandwidth,
        "packs": policy.packs,
        "update": update | {"mfu": update["operations_per_second"] / peak},
        "decode": decode | {"share_of_bound": decode["bytes_per_second"] / bandwidth},
        "mismatch_abs_logprob_mean": measure_mismatch(policy, min(tokens, 2048)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("0.5B", "1.5B"), action="append", help="both where none is named")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--context", type=int, default=1024, help="tokens that a decoding session has read")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    sizes: dict[str, int] = {"tokens": options.tokens, "sessions": options.sessions, "context": options.context}
    sizes |= {"size": 8192, "repeats": options.repeats}
    if options.tiny:
        sizes = {"tokens": 64, "sessions": 2, "context": 16, "size": 64, "repeats": 1}
    shapes = ["tiny"] if options.tiny else options.shape or ["0.5B", "1.5B"]
    results = [measure(shape, device, **sizes) for shape in shapes]
    for result in results:
        print(json.dumps(result) if options.json else "\n".join(f"{name:<32}{value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
