"""`inference:` where tokens come from and how they are sampled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from agentrl.config.section import (
    ALLOW_LISTS,
    Count,
    FilePath,
    NonEmpty,
    Positive,
    PositiveInt,
    Problem,
    Section,
    repeated,
)

ServerUrl = Annotated[str, Field(pattern=r"^https?://.*")]
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class InferenceConfig(Section):
    """The sampling distribution is the one that PPO trains: `run.py` refuses to truncate it."""

    kind: Literal["in_process", "vllm"] = Field(
        default="in_process",
        description="`in_process` samples from the trainer's own weights, `vllm` from servers that are sent them.",
    )
    temperature: Positive = Field(
        default=1.0, description="Divides the logits, in rollouts and in the trainer's log-probabilities alike."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Nucleus mass to sample from; 1 samples from all tokens."
    )
    top_k: PositiveInt | None = Field(
        default=None, description="Number of likeliest tokens to sample from; null is all."
    )
    max_batch: PositiveInt = Field(
        default=64, description="Episodes decoded together; with vllm, requests in flight at one server."
    )
    kv_cache_bytes: PositiveInt = Field(
        default=4 * 2**30,
        description="Most memory for the keys and values of all episodes; those that find no room wait.",
    )
    deterministic: bool = Field(
        default=False,
        description="Bit-equal rollouts on a CPU, however long the endpoints take; about a third slower.",
    )
    url: ServerUrl | Annotated[tuple[ServerUrl, ...], ALLOW_LISTS] | None = Field(
        default=None, description="vllm: address of the server, or a list of them, such as http://127.0.0.1:8000."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="vllm: sent with every call; ${NAME} is replaced from the environment."
    )
    model: NonEmpty | None = Field(
        default=None, description="vllm: the base model's `--served-model-name`; null asks the server."
    )
    weights: Literal["lora", "full"] = Field(
        default="lora",
        description="vllm: what an update sends, the adapter of `policy.lora` or, of an untied model, all weights.",
    )
    adapter_dir: FilePath | None = Field(
        default=None,
        description="vllm: folder for the versions sent, seen by trainer and servers under this very path; "
        "null is a temporary one, for servers on this machine.",
    )
    timeout_seconds: Positive = Field(default=600.0, description="vllm: seconds for one generation, queueing included.")
    retries: Count = Field(
        default=3, description="vllm: further attempts of a generation after a 5xx or a lost server."
    )
    restart_seconds: Positive = Field(
        default=600.0, description="vllm: seconds that a server may be away before its generations fail."
    )
    probe_tolerance: Positive | None = Field(
        default=None,
        description="vllm: largest mean difference of log-probabilities, server against trainer, in nats, that passes "
        "after an update; null is 0.001 in float32, 0.1 in bfloat16.",
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers' addresses without a slash at the end."""
        given = (self.url,) if isinstance(self.url, str) else self.url or ()
        return tuple(url.rstrip("/") for url in given)

    def problems(self) -> Iterator[Problem]:
        if self.kind != "vllm":
            return  # the other keys may stay: `--set inference.kind=in_process` tries a config without its servers
        if not self.urls:
            yield Problem(
                ("url",), "found none; kind: vllm needs the address of a server, such as http://127.0.0.1:8000"
            )
        for index in repeated(self.urls):
            yield Problem(("url", index), f"found {self.urls[index]} a second time; allowed: a server once")
        away = [url for url in self.urls if urlsplit(url).hostname not in THIS_MACHINE]
        if away and self.adapter_dir is None:
            yield Problem(
                ("adapter_dir",),
                f"found none, but {away[0]} is another machine, which cannot read this one's temporary files; "
                "allowed: a folder that both see under the same path",
            )
        if self.deterministic:
            yield Problem(("deterministic",), "found true; allowed: false with kind: vllm, whose batches are its own")


def sessions_that_fit(kv_cache_bytes: int, session_bytes: int) -> int:
    """How many episodes of `session_bytes` the in-process engine gives a place, half as many shared prompts beside."""
    return (2 * (kv_cache_bytes // session_bytes) + 1) // 3
