"""The page and its session over HTTP, for this machine alone."""

import json
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..files import UsageError
from . import controls
from .session import SPEEDS, Session

PAGE = Path(__file__).with_name("page.html")
DIGITS, MOST_PAGES = 5, 30  # of a request's length in bytes; pages open at a time
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src "
    "'unsafe-inline'; connect-src 'self'; img-src data:",  # nothing from elsewhere
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves a session on 127.0.0.1. Who has the address with the token may watch and steer it.

    port  0 for any that is free

    Raises UsageError where the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0):
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except OSError as error:
            raise UsageError(f"port {port} can't be had ({error}): close the laboratory that is "
                             "open there, or choose another --port") from error
        self.session, self.token = session, secrets.token_urlsafe(16)
        port = self.server_address[1]
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.address = f"http://127.0.0.1:{port}/?token={self.token}"

    def in_background(self) -> None:
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that went away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /events its stream of messages, POST /do what is to be done.

    A foreign site could have a browser ask, as a form or under a name that leads to 127.0.0.1: so
    Host and Origin must be ours. The page itself holds no secret; the rest needs the token.
    """

    server: Server
    timeout = 10  # seconds for a request, and for a page to take what it is sent
    server_version, sys_version = "tinygan", ""

    def do_GET(self) -> None:
        self._serve({"/": self._page, "/events": self._stream})

    def do_POST(self) -> None:
        self._serve({"/do": self._do})

    def _serve(self, answers: dict[str, Any]) -> None:
        try:
            address = urlsplit(self.path)
            token = parse_qs(address.query).get("token", [""])[0].encode(errors="replace")
        except ValueError:
            return self._answer(400, b"this is no address")
        hosts, origin = self.server.hosts, self.headers.get("Origin")
        if self.headers.get("Host") not in hosts or (
                origin is not None and origin.removeprefix("http://") not in hosts):
            return self._answer(403, b"the laboratory is for pages of 127.0.0.1 alone")
        if address.path != "/" and not secrets.compare_digest(token, self.server.token.encode()):
            return self._answer(403, b"open the address that tinygan lab printed: it has the token")
        if address.path not in answers:
            return self._answer(404, b"there is nothing here")
        answers[address.path]()

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self._head(status, kind, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _head(self, status: int, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def _page(self) -> None:
        self._answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")

    def _stream(self) -> None:
        """Server-sent events, until the page goes away or the session ends."""
        if self.server.session.watching >= MOST_PAGES:
            return self._answer(503, b"too many pages are open: close some")
        self._head(200, "text/event-stream", {})
        messages = self.server.session.watch()
        try:
            for kind, text in messages:
                # A line that starts with a colon says nothing, but fails if nobody is there.
                self.wfile.write(f"event: {kind}\ndata: {text}\n\n".encode() if kind else b":\n\n")
        finally:
            messages.close()

    def _do(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) <= DIGITS):
            return self._answer(413, b"a request says its length, and is small")
        try:
            act(self.server.session, json.loads(self.rfile.read(int(length))))
        except UsageError as error:
            self._answer(400, str(error).encode(errors="replace"))
        except (ValueError, RecursionError):
            self._answer(400, b"a request is a small object in JSON")
        else:
            self._answer(200, b"done")

    def log_message(self, *_: Any) -> None:
        """Silence: the terminal is for the address."""


def act(session: Session, wish: Any) -> None:
    """Do what a page wishes: {"do": NAME}, for update, speed and change with a "value".

    Raises UsageError for anything else.
    """
    what, value = (wish.get("do"), wish.get("value")) if isinstance(wish, dict) else (None, None)
    if what == "change" and isinstance(value, dict):
        session.ask(session.change, controls.read(value))
    elif what == "speed" and value in [*SPEEDS]:
        session.ask(session.set_speed, value)
    elif what == "update" and value in ["D", "G"]:
        session.ask(session.update, value)
    elif what in ["play", "pause", "reset"]:
        session.ask(getattr(session, what))
    else:
        raise UsageError("a request is play, pause, reset, or update, speed or change with a value")
