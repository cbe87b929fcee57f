"""Bodies of requests and replies: JSON, and bounded in size."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterable, Mapping
from typing import Any

from agentrl.printable import printable

MAX_BYTES = 2**20
"""Of a request and of a reply: 1 MB, the protocol's limit."""
EXCERPT_CHARS = 300
GZIP = 16 + zlib.MAX_WBITS


def encode(payload: Mapping[str, Any]) -> bytes:
    """The payload as JSON.

    Raises:
        ValueError: it is none, or too long.
    """
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the request is no JSON ({error})") from error
    content = text.encode("utf-8", "replace")  # a policy may write half a surrogate pair
    if len(content) > MAX_BYTES:
        found = f"the request has {len(content):,} bytes, at most {MAX_BYTES:,} are allowed"
        raise ValueError(f"{found}: shorten the item, or leave keys out of item_fields")
    return content


async def read_limited(encoding: str | None, chunks: AsyncIterable[bytes]) -> tuple[bytes, bool]:
    """The body up to the limit, and whether there was more. A bomb is unpacked as far as the limit.

    Raises:
        ValueError: the body is compressed in another way than gzip, or badly. We ask for none at all.
    """
    unpack = zlib.decompressobj(GZIP) if encoding in ("gzip", "x-gzip") else None
    if unpack is None and encoding not in (None, "identity"):
        raise ValueError(f"the body is compressed ({encoding}), though the request asked for identity")
    body = bytearray()
    async for chunk in chunks:
        try:
            body += unpack.decompress(chunk, MAX_BYTES + 1 - len(body)) if unpack else chunk
        except zlib.error as error:
            raise ValueError(f"the body is no {encoding} ({error})") from error
        if len(body) > MAX_BYTES:
            return bytes(body[:MAX_BYTES]), True
    if unpack is not None and not unpack.eof:
        raise ValueError(f"the {encoding} of the body is not complete")
    return bytes(body), False


def excerpt(text: str) -> str:
    """The start of a body for a message, on one line and printable."""
    short = " ".join(printable(text[: 2 * EXCERPT_CHARS]).split())
    return f": {short[:EXCERPT_CHARS]}{'...' if len(short) > EXCERPT_CHARS else ''}" if short else ""
