"""A Label Studio server, by the few calls of its REST interface that a query needs.

Where it is and who calls are said by the environment, as Label Studio's own tools have it, and by nothing that is
saved: whoever resumes the run of somebody else sends no token to an address out of that run.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from kdal_cli.errors import MachineError, UserError, printable

ADDRESS, TOKEN = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
LOCAL = "http://localhost:8080"
PATIENCE = 60.0
"""Seconds for one answer."""

LARGEST = 1 << 28
"""Bytes of an answer."""


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would take the token to another place."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Studio:
    """`studio("GET", "/api/projects/")` is the JSON that is answered.

    Legacy tokens are sent as they are; a personal one, which has three parts, is exchanged for a token of five minutes.
    Raises UserError for a token that is refused, MachineError where the server does not answer or answers an error.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token, self.access = url.rstrip("/"), token, ""
        self._open = build_opener(_NoRedirect).open

    @classmethod
    def of_the_environment(cls) -> "Studio":
        url, token = os.environ.get(ADDRESS, LOCAL), os.environ.get(TOKEN, "")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UserError(f"{ADDRESS}={printable(url)}", cure=f"the address of Label Studio, such as {LOCAL}")
        if not token or not token.isascii() or not token.isprintable():
            cure = "an access token of your account, from Account & Settings in Label Studio"
            raise UserError(f"{TOKEN} is not set" if not token else f"{TOKEN} is no token", cure=f"set it: {cure}")
        return cls(url, token)

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        personal = self.token.count(".") == 2
        for attempt in range(2):
            if personal and not self.access:
                exchanged = self._json("POST", "/api/token/refresh/", {"refresh": self.token}, None)
                with understood():
                    self.access = str(exchanged["access"])
            try:
                return self._json(method, path, body, f"Bearer {self.access}" if personal else f"Token {self.token}")
            except _Refused:
                if not personal or attempt:
                    break
                self.access = ""
        raise UserError(f"Label Studio refuses the token in {TOKEN}", where=self.url, cure="take another one there")

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """The items of a list that comes in pages."""
        number, between = 1, "&" if "?" in path else "?"
        while True:
            page = self("GET", f"{path}{between}page={number}&page_size=100")
            with understood():
                items, more = list(page["results"]), page.get("next")
            yield from items
            if not more:
                return
            number += 1

    def _json(self, method: str, path: str, body: Any, authorization: str | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"Authorization": authorization} if authorization else {}
        data = json.dumps(body).encode() if body is not None else None
        try:
            request = Request(self.url + path, data, headers, method=method)
            with self._open(request, timeout=PATIENCE) as reply:
                return json.loads(reply.read(LARGEST))
        except HTTPError as error:
            with error:
                said = printable(error.read(1 << 12).decode(errors="replace"), 200)
            if error.code in (401, 403):
                raise _Refused(f"Label Studio refuses the token in {TOKEN}", where=self.url, cure=said) from None
            raise MachineError(
                f"Label Studio answers {error.code} to {method} {path}", where=self.url, cure=said
            ) from None
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            cure = f"start it, or set {ADDRESS}; then resume the run"
            raise MachineError(f"Label Studio does not answer: {reason}", where=self.url, cure=cure) from None
        except (ValueError, RecursionError):
            cure = f"is {ADDRESS} its address?"
            raise MachineError(
                f"{method} {path} was answered by something else than JSON", where=self.url, cure=cure
            ) from None


class _Refused(UserError):
    """The token is not taken."""


@contextmanager
def understood() -> Iterator[None]:
    """Raises MachineError where an answer has another form than the code within takes for granted."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        cure = "kdal knows versions 1.x"
        raise MachineError(f"Label Studio answers in another form: {printable(error)}", cure=cure) from error
