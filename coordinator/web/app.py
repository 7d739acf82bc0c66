"""The page's routes: each renders one template from `view`; nothing here changes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from coordinator.store.pages import ALL, STATES
from coordinator.web.login import COOKIE, LOGIN_S, Logins, Names
from coordinator.web.pages import Renderer
from coordinator.web.view import View
from reefleet.errors import Rejected, StoreError

STATIC = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
OPEN_PATHS = ("/login", "/static/")
MAX_FORM_BYTES = 4096
MAX_SEARCH_CHARS = 64
MAX_NUMBER = 10**9
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Pages:
    """The endpoints. Plain functions run in a pool, so that a slow disk holds up nobody else."""

    def __init__(self, view: View, logins: Logins | None) -> None:
        self._view = view
        self._logins = logins
        self._static = {path.name: path.read_bytes() for path in STATIC.iterdir()}
        digest = hashlib.sha256(b"".join(self._static[n] for n in sorted(self._static)))
        self._renderer = Renderer(digest.hexdigest()[:12], has_login=logins is not None)

    def routes(self) -> list[Route]:
        """All there is to see."""
        return [
            Route("/", self.overview),
            Route("/devices", self.devices),
            Route("/devices/{device_id}", self.device),
            Route("/rounds", self.rounds),
            Route("/rounds/{number:int}", self.round),
            Route("/versions", self.versions),
            Route("/static/{name}", self.static),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
        ]

    def overview(self, request: Request) -> Response:
        """What is on."""
        return self._answer(request, "overview.html", look=self._view.overview())

    def devices(self, request: Request) -> Response:
        """The fleet."""
        asked = request.query_params
        state = asked.get("state", ALL)
        if state not in STATES:
            raise HTTPException(404)
        text = asked.get("q", "")[:MAX_SEARCH_CHARS]
        found = self._view.devices(text, state, _number(asked.get("page", "1")))
        return self._answer(request, "devices.html", look=found)

    def device(self, request: Request) -> Response:
        """One device."""
        found = self._view.device(request.path_params["device_id"])
        if found is None:
            raise HTTPException(404, "There is no device of this name.")
        return self._answer(request, "device.html", look=found)

    def rounds(self, request: Request) -> Response:
        """All rounds."""
        head, rounds = self._view.head(), self._view.rounds()
        return self._answer(request, "rounds.html", head=head, rounds=rounds)

    def round(self, request: Request) -> Response:
        """One round."""
        number = request.path_params["number"]
        after = request.query_params.get("after", "")[:MAX_SEARCH_CHARS]
        found = self._view.round(number, after) if number < MAX_NUMBER else None
        if found is None:
            raise HTTPException(404, "There is no such round yet.")
        return self._answer(request, "round.html", look=found)

    def versions(self, request: Request) -> Response:
        """All versions of the model."""
        head, versions = self._view.head(), self._view.versions()
        deployments = self._view.deployments()
        return self._answer(
            request, "versions.html", head=head, versions=versions, deployments=deployments
        )

    async def static(self, request: Request) -> Response:
        """Style sheet, script and icon; their addresses change with their content."""
        name = request.path_params["name"]
        if name not in self._static:
            raise HTTPException(404)
        kept = {"cache-control": "public, max-age=31536000, immutable"}
        kind = TYPES[Path(name).suffix]
        return Response(self._static[name], media_type=kind, headers=kept)

    async def login(self, request: Request) -> Response:
        """Ask for the token, and trade it for a cookie."""
        if self._logins is None:
            raise HTTPException(404)
        if request.method == "GET":
            return self._renderer.page(request, "login.html", problem="")
        token = (await _form(request)).get("token", [""])[0]
        address = request.client.host if request.client else ""
        try:
            cookie = self._logins.cookie(token, address)
        except Rejected as error:
            return self._renderer.page(request, "login.html", 403, problem=str(error))
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, cookie, max_age=LOGIN_S, secure=True, httponly=True, samesite="strict"
        )
        return answer

    async def logout(self, _request: Request) -> Response:
        """Forget the cookie."""
        answer = RedirectResponse("/login" if self._logins else "/", 303)
        answer.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict")
        return answer

    def failed(self, request: Request, error: Exception) -> Response:
        """A page that says what is wrong and leads back."""
        if isinstance(error, HTTPException):
            detail = error.detail if error.status_code == 404 else ""
            return self._renderer.page(
                request, "error.html", error.status_code, code=error.status_code, detail=detail
            )
        is_ours = isinstance(error, StoreError)
        code, detail = (503, str(error)) if is_ours else (500, "The log says more.")
        return self._renderer.page(request, "error.html", code, code=code, detail=detail)

    def _answer(self, request: Request, template: str, **values: Any) -> Response:
        return self._renderer.page(request, template, **values)


class Guard:
    """In front of everything: names, logins, and the headers of every answer."""

    def __init__(self, app: Any, names: Names | None, logins: Logins | None) -> None:
        self._app = app
        self._names = names
        self._logins = logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or lead to the login."""

        async def secured(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                pairs = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *pairs]
            await send(message)

        request = Request(scope)
        answer = self._app if (refused := self._refusal(request)) is None else refused
        await answer(scope, receive, secured)

    def _refusal(self, request: Request) -> Response | None:
        if self._names is not None and not self._names.has(request.headers.get("host", "")):
            text = "This page is not known by that name; see [web] names in coordinator.toml.\n"
            return Response(text, 421, media_type="text/plain")
        if self._logins is None or request.url.path.startswith(OPEN_PATHS):
            return None
        cookie = request.cookies.get(COOKIE, "")
        if self._logins.holds(cookie, request.headers.get("authorization", "")):
            return None
        if request.headers.get("reefleet-live"):
            return Response("The login is over.\n", 401, media_type="text/plain")
        return RedirectResponse("/login", 303)


def build(view: View, names: Names | None, logins: Logins | None) -> Guard:
    """The application: `names` where it is on loopback, `logins` where it is not."""
    pages = Pages(view, logins)
    handlers: dict[Any, Any] = dict.fromkeys((HTTPException, StoreError, Exception), pages.failed)
    return Guard(Starlette(routes=pages.routes(), exception_handlers=handlers), names, logins)


async def _form(request: Request) -> dict[str, list[str]]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413)
    return parse_qs(body.decode(errors="replace"), max_num_fields=8)


def _number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text[:10]) < MAX_NUMBER:
        raise HTTPException(404)
    return int(text)
