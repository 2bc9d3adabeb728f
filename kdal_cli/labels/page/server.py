"""The server of the labelling page: on loopback alone, for whoever has its address, and for no other site.

The address has a random token, so that no other user or page of this machine can guess it. `Host` has to be ours, since
a name of a stranger's that leads to this machine must not reach it (DNS rebinding); what changes something has to come
from our own page (`Origin`). Nothing is served but the page, the state of the question that is open, and its images.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from kdal_cli.errors import KdalError, UserError
from kdal_cli.labels.naming import Unnameable
from kdal_cli.labels.page.board import Board, Taken

LONGEST_BODY = 4_096
"""Bytes of an answer."""

PATIENCE, PACE = 20.0, 1.0
"""Seconds that a page waits for news of a question, and between two looks at a run that trains."""

KINDS, TEXT = {"png": "image/png", "jpg": "image/jpeg"}, "text/plain; charset=utf-8"


def serve(board: Board, port: int = 0) -> str:
    """Serve a board until the process ends; returns the address of its page. Raises UserError for a port in use."""
    token = secrets.token_urlsafe(24)
    handler = type("Bound", (Handler,), {"board": board, "token": token})
    try:
        server = Server(("127.0.0.1", port), handler)
    except OSError as error:
        cure = "choose another oracle.port; 0 takes any that is free"
        raise UserError(f"no page can be served on port {port}: {error.strerror}", cure=cure) from None
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/{token}/"


class Server(ThreadingHTTPServer):
    """A thread for each connection; none of them keeps the process from ending."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that goes away in the middle of an answer is nothing to tell."""


class Handler(BaseHTTPRequestHandler):
    """The three things that can be got, and the one that can be said."""

    board: ClassVar[Board]
    token: ClassVar[str]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "kdal", ""
    timeout = 60

    def do_GET(self) -> None:
        """The page, its state, an image."""
        path = self._path()
        if path is None:
            return
        if path == "":
            self._send(HTTPStatus.OK, page().encode(), "text/html; charset=utf-8")
        elif path == "icon":
            self._send(HTTPStatus.NO_CONTENT, b"", TEXT)
        elif path == "state":
            asked = parse_qs(urlsplit(self.path).query, max_num_fields=4)
            name, seen = asked.get("name", [""])[0], asked.get("seen", ["0"])[0]
            wait = (PATIENCE if name else PACE) if "wait" in asked else 0.0
            self._json(self.board.state(name, int(seen) if re.fullmatch(r"\d{1,9}", seen) else 0, wait))
        elif found := re.fullmatch(r"image/(\d{1,12})", path):
            shown = self.board.picture(int(found.group(1)))
            if shown is None:
                self._refuse(HTTPStatus.NOT_FOUND)
            else:
                self._send(HTTPStatus.OK, shown.data, KINDS[shown.suffix])
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """An answer."""
        path = self._path()
        if path is None:
            return
        body = self._body()
        if self.headers.get("Origin") != f"http://{self.headers.get('Host')}":
            self._refuse(HTTPStatus.FORBIDDEN)
        elif path != "answer":
            self._refuse(HTTPStatus.NOT_FOUND)
        elif self.headers.get_content_type() != "application/json" or body is None:
            self._refuse(HTTPStatus.BAD_REQUEST)
        else:
            self._answer(body)

    def _answer(self, body: Mapping[str, Any]) -> None:
        name, seen, proposed = body.get("name"), body.get("seen"), body.get("proposed", "")
        id, label, word, seconds = (body.get(key) for key in ("id", "label", "word", "seconds"))
        typed = (
            isinstance(name, str)
            and type(seen) is int
            and type(id) is int
            and (label is None or type(label) is int)
            and isinstance(word, str)
            and isinstance(proposed, str)
            and isinstance(seconds, int | float)
        )
        if not typed:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        status = HTTPStatus.OK
        try:
            self.board.answer(name, id, label, word, float(seconds), proposed)  # type: ignore[arg-type]
        except Taken:
            status = HTTPStatus.CONFLICT
        except Unnameable as reason:
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, str(reason).encode(), TEXT)
            return
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        except KdalError as error:
            self._send(HTTPStatus.INSUFFICIENT_STORAGE, str(error).encode(errors="replace"), TEXT)
            return
        self._json(self.board.state(name, max(0, seen), 0.0), status)  # type: ignore[arg-type, type-var]

    def _path(self) -> str | None:
        """What is asked for below the token; None where that was refused."""
        port = self.connection.getsockname()[1]
        host = self.headers.get_all("Host") or []
        parts = urlsplit(self.path).path.split("/", 2)
        token = parts[1] if len(parts) == 3 else ""
        site = self.headers.get("Sec-Fetch-Site", "none")
        if len(host) != 1 or host[0] not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self._refuse(HTTPStatus.FORBIDDEN)
        elif not hmac.compare_digest(token.encode(), self.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
        elif site not in ("none", "same-origin") and (parts[2] or self.command != "GET"):
            self._refuse(HTTPStatus.FORBIDDEN)
        else:
            return parts[2]
        return None

    def _body(self) -> Mapping[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,6}", length) or int(length) > LONGEST_BODY:
            self.close_connection = True  # what was not read must not be taken for another request
            return None
        try:
            value = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def _json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, json.dumps(value, allow_nan=False).encode(), "application/json")

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status, status.phrase.encode(), TEXT)

    def _send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in {**HEADERS, "Content-Security-Policy": policy()}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a token in a log would be a token for whoever reads it."""


HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@cache
def page() -> str:
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """What the page may do: its own script and style, known by their hashes, its own images, its own server."""
    parts = {tag: re.search(f"<{tag}>(.*?)</{tag}>", page(), re.DOTALL) for tag in ("script", "style")}
    hashes = {
        tag: base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()
        for tag, found in parts.items()
        if found is not None
    }
    allowed = {f"{tag}-src": f"'sha256-{digest}'" for tag, digest in hashes.items()}
    rules = {"default-src": "'none'", **allowed, "img-src": "'self'", "connect-src": "'self'"}
    rules |= dict.fromkeys(("base-uri", "form-action", "frame-ancestors"), "'none'")
    return "; ".join(f"{name} {value}" for name, value in rules.items())
