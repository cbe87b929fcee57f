"""Who may ask: only pages of ours, under a name that is this machine's; and what a page of ours may load.

Other pages in the same browser can send requests here, and their owners can give our address a name of their own (DNS
rebinding). Neither may read a run or label an episode.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrl.addresses import asked_host, is_loopback, plain_address

OTHER_SITES = frozenset({"cross-site", "same-site"})
"""What a browser says of a page of somebody else that asks; the latter of one at another port of this machine."""
CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # not no-referrer: forms would send no origin then
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # ask again every time; an unchanged answer is 304
}


class Guard:
    """Refuses other hosts' names and other pages' changes; every answer carries the headers above.

    Args:
        hosts: names under which other machines ask; with any, plain addresses will do, too. Empty: none may.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = frozenset()) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        why = self._refusal(scope["method"], Headers(scope=scope))
        app = PlainTextResponse(why, status_code=403) if why else self.app
        await app(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> str:
        """Why a request is not answered, empty where it is."""
        said = headers.getlist("host")
        host = asked_host(said).lower()
        is_known = host in self.hosts or (bool(self.hosts) and plain_address(host) is not None)
        if not (is_loopback(host) or is_known):
            return f"Found the host {', '.join(said)!r:.80}; ask for localhost or 127.0.0.1.\n"
        if headers.get("sec-fetch-site") in OTHER_SITES and headers.get("sec-fetch-mode") != "navigate":
            return "Other pages may lead here, and load nothing from here.\n"
        origins = headers.getlist("origin")
        if method not in CHANGES_NOTHING and [_host(each) for each in origins] != said:
            return f"Found the origin {', '.join(origins)!r:.80}; only pages of this server may change anything.\n"
        return ""


def _host(origin: str) -> str:
    """Name and port of an origin, empty where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
