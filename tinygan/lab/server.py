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
LARGEST_REQUEST = 65_536  # bytes
MOST_PAGES = 30
NOTHING_FROM_ELSEWHERE = ("default-src 'none'; script-src 'unsafe-inline'; "
                          "style-src 'unsafe-inline'; connect-src 'self'; img-src data:")


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
            raise UsageError(f"port {port} can't be had ({error}): is the laboratory open "
                             "already? Otherwise choose another --port") from error
        self.session, self.token = session, secrets.token_urlsafe(16)
        port = self.server_address[1]
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.address = f"http://127.0.0.1:{port}/?token={self.token}"

    def in_background(self) -> None:
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that went away is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /events its stream of messages, POST /do what is to be done.

    A foreign site could make a browser ask, under a name of its own that leads to 127.0.0.1 or as
    a form: so Host and Origin must be ours. The page itself holds no secret, and needs no token.
    """

    server: Server
    timeout = 10  # seconds for a request, and for a page to take what it is sent
    server_version, sys_version = "tinygan", ""

    def do_GET(self) -> None:
        path = self._path()
        if path == "/":
            self._answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif path == "/events":
            self._stream()
        elif path:
            self._answer(404, b"there is no such page")

    def do_POST(self) -> None:
        path = self._path()
        if path == "/do":
            self._do()
        elif path:
            self._answer(404, b"there is nothing to do")

    def _path(self) -> str:
        """The path that is asked for, or "" where the request was refused."""
        origin = self.headers.get("Origin")
        ours = {f"http://{host}" for host in self.server.hosts}
        if self.headers.get("Host") not in self.server.hosts or origin not in (None, *ours):
            self._answer(403, b"the laboratory is for pages of 127.0.0.1 alone")
            return ""
        try:
            address = urlsplit(self.path)
            token = parse_qs(address.query).get("token", [""])[0]
        except ValueError:
            self._answer(400, b"this is no address")
            return ""
        same = secrets.compare_digest(token.encode(errors="replace"), self.server.token.encode())
        if address.path != "/" and not same:
            self._answer(403, b"open the address that tinygan lab has printed: it has the token")
            return ""
        return address.path

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", NOTHING_FROM_ELSEWHERE)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")

    def _stream(self) -> None:
        """Server-sent events, until the page goes away or the session ends."""
        if self.server.session.watching >= MOST_PAGES:
            self._answer(503, b"too many pages are open: close some")
            return
        self.send_response(200)
        self._headers("text/event-stream")
        self.end_headers()
        messages = self.server.session.watch()
        try:
            for kind, text in messages:
                # A line that starts with a colon says nothing, but fails if nobody is there.
                self.wfile.write(f"event: {kind}\ndata: {text}\n\n".encode() if kind else b":\n\n")
        finally:
            messages.close()

    def _do(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length[:9]) <= LARGEST_REQUEST):
            self._answer(413, b"a request says its length, and is small")
            return
        try:
            wish = json.loads(self.rfile.read(int(length)))
            act(self.server.session, wish)
        except UsageError as error:
            self._answer(400, str(error).encode(errors="replace"))
        except (ValueError, RecursionError):
            self._answer(400, b"a request is a small object in JSON")
        else:
            self._answer(200, b"done")

    def log_message(self, *_: Any) -> None:
        """Silence: the terminal is for the address."""


def act(session: Session, wish: Any) -> None:
    """Do what a page wishes: {"do": NAME} and for speed and change a "value".

    Raises UsageError for anything else.
    """
    what, value = (wish.get("do"), wish.get("value")) if isinstance(wish, dict) else (None, None)
    if what == "change" and isinstance(value, dict):
        session.change(controls.read(value))
    elif what == "speed" and value in [*SPEEDS]:
        session.set_speed(value)
    elif what == "update" and value in ["D", "G"]:
        session.update(value)
    elif what in ("play", "pause", "reset"):
        getattr(session, what)()
    else:
        raise UsageError("a request is play, pause, reset, or update, speed or change with a value")
