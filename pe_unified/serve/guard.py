"""Access control: this machine only, or whoever has the token; and only requests of our pages."""

import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Sent by our pages with every change; a page of another site cannot send it.
OWN_HEADER = "x-pe-unified"
_COOKIE = "pe_unified_token"
_KEPT_DAYS = 7
#: Maximum size of a request; a mask that fills every slice is smaller.
MOST_BYTES = 32 << 20
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(address: str) -> bool:
    """Whether an address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def guards(hosts: Sequence[str], token: str | None, limited: bool) -> list[Middleware]:
    """The checks that every request passes before it is answered.

    Args:
        hosts: names and addresses of the server. Other names are refused, so that no other site
            can point its own name here.
        token: required from every client; None for a server without.
        limited: whether the rate of requests per address is limited.
    """
    chosen = [
        Middleware(Headed),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
    ]
    if limited:
        chosen.append(Middleware(Limited))
    chosen.append(Middleware(SameSite))
    if token is not None:
        chosen.append(Middleware(WithToken, token=token))
    return chosen


class Headed:
    """Every answer forbids content from other hosts, inline scripts, frames and caching on disk."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, headed if scope["type"] == "http" else send)


class SameSite:
    """Accepts requests of our own pages only; those that change something need a header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)


def _refusal(scope: Scope) -> Response | None:
    headers = Headers(scope=scope)
    asks = scope["method"] in ("GET", "HEAD")
    site = headers.get("sec-fetch-site", "same-origin")
    # A link from another site may open a page; all other requests are refused.
    is_page = asks and headers.get("sec-fetch-mode") == "navigate"
    if site not in ("same-origin", "none") and not is_page:
        return PlainTextResponse("from another site", 403)
    if asks:
        return None
    origin = headers.get("origin")
    if origin is not None and origin != f"{scope['scheme']}://{headers.get('host')}":
        return PlainTextResponse("from another site", 403)
    if OWN_HEADER not in headers or headers.get("content-type") != "application/json":
        return PlainTextResponse("not from a page of this server", 403)
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return PlainTextResponse("the request has no length", 411)
    if int(length) > MOST_BYTES:
        return PlainTextResponse("too long", 413)
    return None


class WithToken:
    """Requires the token; ``?token=...`` is sent once and then kept in a cookie.

    Args:
        token: the secret.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token
        self.failures = Buckets(burst=10, per_second=0.1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self.app
        if scope["type"] == "http":
            answer = self._checked(scope)
        await answer(scope, receive, send)

    def _checked(self, scope: Scope) -> ASGIApp:
        cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
        if self._is_right(cookies.get(_COOKIE, "")):
            return self.app
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        client = _client(scope)
        if given and not self.failures.has(client):
            return PlainTextResponse("too many wrong tokens; wait a minute", 429)
        if self._is_right(given):
            redirect = RedirectResponse(scope["path"], 303)
            redirect.set_cookie(
                *(_COOKIE, given),
                max_age=_KEPT_DAYS * 86400,
                httponly=True,
                secure=scope["scheme"] == "https",
                samesite="strict",
            )
            return redirect
        if given:
            self.failures.take(client)
        return JSONResponse({"error": "open the address with ?token= that the server printed"}, 401)

    def _is_right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


class Limited:
    """Limits requests per address; scrolling takes a few dozen per second."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.buckets = Buckets(burst=600, per_second=100)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self.app
        if scope["type"] == "http" and not self.buckets.take(_client(scope)):
            answer = PlainTextResponse("too many requests", 429, {"Retry-After": "5"})
        await answer(scope, receive, send)


class Buckets:
    """Token buckets, one per client.

    Args:
        burst: permits in a full bucket.
        per_second: permits added per second.
        clock: seconds.
    """

    _MOST = 4096

    def __init__(self, burst: float, per_second: float, clock=time.monotonic) -> None:
        self.burst, self.per_second, self.clock = burst, per_second, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def has(self, who: str) -> bool:
        """Whether a permit is left."""
        return self._now(who) >= 1

    def take(self, who: str) -> bool:
        """Take a permit; False if there was none."""
        left = self._now(who)
        self._left[who] = (left - 1 if left >= 1 else left, self.clock())
        self._left.move_to_end(who)
        if len(self._left) > self._MOST:
            self._left.popitem(last=False)
        return left >= 1

    def _now(self, who: str) -> float:
        left, then = self._left.get(who, (self.burst, 0.0))
        return min(self.burst, left + (self.clock() - then) * self.per_second)


def _client(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def new_token() -> str:
    """A random secret."""
    return secrets.token_urlsafe(24)
