"""How a judge model is reached and asked: what the kinds in `judges.py` share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from agentrl.config.endpoint import EndpointSection
from agentrl.config.section import (
    Count,
    FilePath,
    NonEmpty,
    NonNegative,
    PathParts,
    Positive,
    PositiveInt,
    Problem,
    Section,
    did_you_mean,
)
from agentrl.config.tools import Url

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
CREDENTIAL = re.compile(r"(AKIA|ASIA)[A-Z0-9]{12,}")
SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
BLOCKS: dict[str, str] = {
    "input_text": "text",
    "output_text": "text",
    "input_image": "image_url",
    "input_audio": "input_audio",
}
"""Types of content blocks, and the key that each must have."""


class JudgePrices(Section):
    """What a judge's tokens cost."""

    usd_per_million_prompt_tokens: NonNegative = Field(description="Price of tokens that the judge reads.")
    usd_per_million_cached_tokens: NonNegative | None = Field(
        default=None, description="Price of those that its server had read before; null is the price of the others."
    )
    usd_per_million_completion_tokens: NonNegative = Field(
        description="Price of tokens that it writes, thoughts included."
    )

    def cost_usd(self, *, prompt: int, cached: int, completion: int) -> float:
        """What one reply costs; `cached` is part of `prompt`."""
        price = self.usd_per_million_prompt_tokens
        of_cached = price if self.usd_per_million_cached_tokens is None else self.usd_per_million_cached_tokens
        read = (prompt - cached) * price + cached * of_cached
        return (read + completion * self.usd_per_million_completion_tokens) / 1e6


class JudgeConfig(EndpointSection):
    """An OpenAI-compatible server. Nothing of it is needed where the environment names one."""

    content: ClassVar[tuple[str, ...]] = (
        "api",
        "structured_output",
        "delimit",
        "parse_retries",
        "on_parse_error",
    )
    """Keys that decide scores, besides the address and the model."""

    base_url: Url | None = Field(
        default=None,
        description="Of the API, such as http://127.0.0.1:8000/v1; null is $AGENTRL_JUDGE_BASE_URL, or where that is "
        "not set https://api.openai.com/v1.",
    )
    model: NonEmpty | None = Field(
        default=None,
        description="Asked in place of the grader's `model`; null is $AGENTRL_JUDGE_MODEL, or where that is not set "
        "the grader's.",
    )
    api: Literal["chat"] = Field(default="chat", description="Which API of the server: chat completions.")
    api_key_env: str | None = Field(
        default=None,
        description="Name of the environment variable that holds the key; null is OPENAI_API_KEY at api.openai.com, "
        "and elsewhere AGENTRL_JUDGE_API_KEY, or no key where that is not set.",
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=120.0, description="Seconds for one attempt, from connecting to the last byte."
    )
    total_timeout_seconds: Positive = Field(
        default=600.0, description="Seconds for a call: waiting in the queue, all attempts and the pauses between them."
    )
    retries: Count = Field(
        default=6, description="Further attempts after a 5xx, a rate limit, a timeout or a lost connection."
    )
    max_concurrency: PositiveInt = Field(
        default=32, description="Most calls in flight at once; it begins at 16 and adapts to what the server bears."
    )
    structured_output: Literal["auto", "never"] = Field(
        default="auto",
        description="`auto`: replies are asked for by a JSON schema, and in words where the server cannot; `never`: in "
        "words.",
    )
    delimit: bool = Field(
        default=True,
        description="What comes from `sample` stands between two lines that it cannot forge and that call it data; "
        "false inserts it bare, as hosted graders may.",
    )
    parse_retries: Count = Field(default=2, description="Further replies asked for after one that is no verdict.")
    on_parse_error: Literal["exclude", "zero"] = Field(
        default="exclude",
        description="When no reply is a verdict: `exclude` leaves the rollout ungraded, `zero` scores it 0 as hosted "
        "graders do.",
    )
    prices: dict[str, JudgePrices] = Field(
        default_factory=dict, description="By model; tokens of a model without prices are counted as unpriced."
    )
    cache: bool = Field(default=True, description="Whether a question that was answered before is not asked again.")
    cache_path: FilePath | None = Field(
        default=None, description="Folder that keeps verdicts between runs; null keeps them while the grader lives."
    )

    @property
    def _urls(self) -> list[tuple[str, str]]:
        return [("base_url", self.base_url)] if self.base_url is not None else []

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.base_url is not None and "?" in self.base_url:
            allowed = "an address without a query; put credentials into headers"
            yield Problem(("base_url",), f"found an address with a query (not shown); allowed: {allowed}")
        name = self.api_key_env
        if name is not None and (not VARIABLE.fullmatch(name) or CREDENTIAL.fullmatch(name)):
            # the value is not shown: it may be the key itself
            allowed = "the name of an environment variable in capitals, such as OPENAI_API_KEY, never the key itself"
            yield Problem(("api_key_env",), f"found another text (not shown); allowed: {allowed}")
        for header, value in self.headers.items():
            if SECRET_HEADER.search(header) and "${" not in value:
                yield Problem(("headers", header), "found a secret that is written out; write ${NAME} and set NAME")
        if self.cache_path is not None and not self.cache:
            yield Problem(("cache_path",), "found a folder with `cache: false`; delete one of them")


class SamplingParams(Section):
    """How the judge samples; what is left out is the server's default."""

    seed: int | None = Field(default=None, description="Of the judge's sampling; a further reply adds 1.")
    temperature: NonNegative | None = Field(default=None, description="Refused by reasoning models.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(default=None, description="Nucleus sampling.")
    max_completions_tokens: PositiveInt | None = Field(
        default=None,
        description="Tokens that the judge may write; spelled as hosted graders do, `max_completion_tokens` works too.",
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="Refused by models that do not reason."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, value: Any) -> Any:
        usual = "max_completion_tokens"
        if isinstance(value, Mapping) and usual in value and "max_completions_tokens" not in value:
            return {("max_completions_tokens" if key == usual else key): each for key, each in value.items()}
        return value

    def as_request(self) -> dict[str, Any]:
        """As chat completions spell them."""
        given = self.model_dump(exclude_none=True)
        if (limit := given.pop("max_completions_tokens", None)) is not None:
            given["max_completion_tokens"] = limit
        return given


class JudgeMessage(Section):
    """A message to the judge, with templates in it."""

    type: Literal["message"] = Field(default="message", description="Of hosted graders; there is no other.")
    role: Literal["user", "assistant", "system", "developer"] = Field(description="Whose message it is.")
    content: Any = Field(
        description="Text, or one block or a list of blocks: `{type: input_text, text}`, `output_text`, "
        "`{type: input_image, image_url, detail}`, `{type: input_audio, input_audio: {data, format}}`."
    )

    @model_validator(mode="before")
    @classmethod
    def _type_may_be_null(cls, value: Any) -> Any:
        is_null = isinstance(value, Mapping) and value.get("type", "message") is None
        return {key: each for key, each in value.items() if key != "type"} if is_null else value

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The content as a list of blocks."""
        given = self.content if isinstance(self.content, list | tuple) else [self.content]
        return [{"type": "input_text", "text": each} if isinstance(each, str) else each for each in given]

    def problems(self) -> Iterator[Problem]:
        is_list = isinstance(self.content, list | tuple)
        if not isinstance(self.content, str | dict | list | tuple) or self.content in ("", [], ()):
            found = "nothing" if not self.content else f"{self.content!r:.60}"
            yield Problem(("content",), f"found {found}; allowed: text, a block or a list of blocks")
            return
        for index, block in enumerate(self.content if is_list else [self.content]):
            path: PathParts = ("content", index) if is_list else ("content",)
            if isinstance(block, dict):
                yield from _block_problems(block, path)
            elif not isinstance(block, str):
                yield Problem(path, f"found {block!r:.60}; allowed: text or a block")


def _block_problems(block: dict[str, Any], path: PathParts) -> Iterator[Problem]:
    kind = block.get("type")
    if not isinstance(kind, str) or kind not in BLOCKS:
        hint = did_you_mean(str(kind), BLOCKS)
        yield Problem((*path, "type"), f"found {str(kind)[:60]!r}; allowed: {', '.join(BLOCKS)}{hint}")
        return
    key = BLOCKS[kind]
    value = block.get(key)
    if key == "input_audio":
        if not (isinstance(value, dict) and {"data", "format"} == set(value) and all(map(_is_text, value.values()))):
            yield Problem((*path, key), "allowed: a mapping with data and format, both text")
    elif not _is_text(value):
        yield Problem((*path, key), f"found {'nothing' if value is None else 'another type'}; allowed: text")
    if unknown := set(block) - {"type", key, *(["detail"] if kind == "input_image" else [])}:
        yield Problem((*path, min(unknown)), f"unknown key; allowed: type, {key}")
    if kind == "input_image" and block.get("detail") not in (None, "high", "low", "auto"):
        yield Problem((*path, "detail"), f"found {str(block['detail'])[:60]!r}; allowed: high, low, auto")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def url_is_openai(base_url: str) -> bool:
    """Whether an address is OpenAI's own, which alone is sent OPENAI_API_KEY unasked."""
    parsed = urlsplit(base_url)
    return parsed.scheme == "https" and parsed.hostname == "api.openai.com"
