"""The server of the page: on the loopback interface alone, and of nothing but the runs.

Addresses name no path: a run goes by a key, and a video by a name that the run was found to have.
Whoever asks for another host than this server's own is refused, so that no page of the web can
read the answers under a name that it makes lead here (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from common.errors import UserError
from common.watch import page
from common.watch.runs import Runs, Watched, open_video

HOST = "127.0.0.1"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}
_HTML = "text/html; charset=utf-8"
_CHUNK = 1 << 20


class _Parts(NamedTuple):
    """Parts of a run as they were drawn for one reading of it, and a name for each content."""

    watched: Watched
    html: dict[str, str]
    versions: dict[str, str]


class Watch:
    """The state that requests share."""

    def __init__(self, runs: Runs, every: float = 1.0):
        """Reads nothing yet.

        Args:
            runs: What to watch.
            every: Seconds between two looks into the folders, however often one asks.
        """
        self._runs, self._every = runs, every
        self._lock = threading.Lock()
        self._read_at = -every
        self._parts: dict[str, _Parts] = {}
        self._remarks: list[str] = []

    def state(self) -> dict[str, Any]:
        """Returns which runs there are, and the versions of their parts."""
        with self._lock:
            self._refresh()
            runs = [
                {"key": key, "age": page.age(one.watched), "versions": one.versions}
                for key, one in self._parts.items()
            ]
            return {"runs": runs, "notes": page.notes(self._remarks)}

    def part(self, key: str, name: str) -> str | None:
        """Returns the HTML of a part; None where there is none."""
        with self._lock:
            return self._parts[key].html.get(name) if key in self._parts else None

    def video(self, key: str, name: str) -> tuple[int, str] | None:
        """Opens a video: a file descriptor and its type; None where there is none."""
        with self._lock:
            run = self._parts[key].watched.run if key in self._parts else None
        descriptor = None if run is None else open_video(run, name)
        if run is None or descriptor is None:
            return None
        return descriptor, _TYPES[run.videos[name][1].suffix]

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._read_at < self._every:
            return
        found, self._remarks = self._runs.read()
        parts = {}
        for one in found:
            known = self._parts.get(one.key)
            parts[one.key] = known if known and known.watched is one else _draw(one)
        self._parts = parts
        self._read_at = time.monotonic()


def _draw(one: Watched) -> _Parts:
    html = {name: draw(one) for name, draw in page.PARTS.items()}
    # Charts number their parts through; what is drawn again the same is no other version.
    plain = {name: re.sub(r"\bclip\d+", "clip", text) for name, text in html.items()}
    versions = {
        name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in plain.items()
    }
    return _Parts(one, html, versions)


class Server(http.server.ThreadingHTTPServer):
    """Listens on the loopback interface."""

    daemon_threads = True

    def __init__(self, port: int, watch: Watch, given: str):
        """Binds the port; ``given`` is shown as what is watched.

        Raises:
            OSError: The port cannot be had.
        """
        super().__init__((HOST, port), _Handler)
        self.watch, self.given = watch, given
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a reader that went away; others stay errors."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answers with the page, its script, the state, a part, or a video."""
        if self.headers.get_all("Host") not in [[host] for host in self.server.hosts]:
            self._answer(421, "this server answers for its own address only", "text/plain")
            return
        path = urlsplit(self.path).path
        words = [unquote(word) for word in path.split("/")[1:]]
        match words:
            case [""]:
                self._answer(200, page.frame(self.server.given), _HTML)
            case ["watch.js"]:
                self._answer(200, page.SCRIPT, "text/javascript; charset=utf-8")
            case ["state"]:
                state = json.dumps(self.server.watch.state())
                self._answer(200, state, "application/json")
            case ["part", key, name]:
                text = self.server.watch.part(key, name)
                self._answer(*((200, text, _HTML) if text is not None else _NOT_FOUND))
            case ["video", key, name]:
                self._video(key, name)
            case _:
                self._answer(*_NOT_FOUND)

    do_HEAD = do_GET

    def version_string(self) -> str:
        """Does not say which versions serve."""
        return "watch"

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""

    def _answer(self, status: int, text: str, kind: str) -> None:
        content = text.encode()
        self._begin(status, kind, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _begin(self, status: int, kind: str, length: int, more: str = "") -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if more:
            self.send_header("Content-Range", more)
        self.end_headers()

    def _video(self, key: str, name: str) -> None:
        """Sends a video, or the range of it that a player asks for."""
        found = self.server.watch.video(key, name)
        if found is None:
            self._answer(*_NOT_FOUND)
            return
        descriptor, kind = found
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            asked = re.fullmatch(r"bytes=(\d{1,18})-(\d{0,18})", self.headers.get("Range", ""))
            first = int(asked[1]) if asked else 0
            last = min(int(asked[2]), size - 1) if asked and asked[2] else size - 1
            if asked and not first <= last:
                self._begin(416, kind, 0, f"bytes */{size}")
                return
            more = f"bytes {first}-{last}/{size}" if asked else ""
            left = last - first + 1
            self._begin(206 if asked else 200, kind, left, more)
            file.seek(first)
            while left and self.command != "HEAD":
                content = file.read(min(left, _CHUNK))
                if not content:  # It was cut meanwhile; the reader must not wait for the rest.
                    self.close_connection = True
                    return
                self.wfile.write(content)
                left -= len(content)


_NOT_FOUND = (404, "there is no such thing here", "text/plain")


def open_server(given: Sequence[str], port: int = 0, every: float = 1.0) -> Server:
    """Binds a server to the loopback interface; ``serve_forever`` then serves.

    Args:
        given: Folders or patterns, as of ``Runs``.
        port: 0 for one that is free.
        every: As of ``Watch``.

    Raises:
        UserError: A folder does not exist, or the port cannot be had.
    """
    watch = Watch(Runs(given), every)
    try:
        return Server(port, watch, " ".join(given))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"--port {port}: {reason}; leave it out for one that is free") from error


def serve(server: Server) -> None:
    """Says where, and serves until Ctrl-C; then frees the port."""
    with server, contextlib.suppress(KeyboardInterrupt):
        print(f"watching {server.given} at http://{HOST}:{server.server_port}/", flush=True)
        print("Ctrl-C ends it", flush=True)
        server.serve_forever()
