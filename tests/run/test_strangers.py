"""What else there is at the address of a training: whoever calls it, and whatever answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from common.errors import UserError
from common.run import processes
from common.run.processes import Place, free_port
from tests.run.several import HERE

GREETINGS = (
    b"GET / HTTP/1.0\r\n\r",
    b"[]",
    b"[" * 10**5,
    b'{"index": "x"}',
    b'{"index": Infinity}',
    b'{"index": 1, "identity": 2}',
)


def test_strangers_are_passed_over(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 20.0)
    place, found = Place(HERE, free_port(HERE), 2, 1), {}

    def knock():
        for text in (*(text + b"\n" for text in GREETINGS), b""):
            while True:
                with contextlib.suppress(OSError):
                    stranger = socket.create_connection((HERE, place.port), 1)
                    break
                time.sleep(0.01)
            with stranger:
                stranger.sendall(text)
        found[0] = processes._call(place, {"agent": "fake"})

    thread = threading.Thread(target=knock)
    thread.start()
    found[1] = processes._welcome(place._replace(index=0), {"agent": "fake"})[1]
    thread.join()
    found[0].send("hello")
    assert found[1].receive() == "hello"
    for peer in found.values():
        peer.close()


@pytest.mark.parametrize(
    ("answer", "fault"),
    [(b"", "does not answer"), (b"SSH-2.0-OpenSSH_9\r\n", "is no process of a training")],
)
def test_something_else_listens_there(monkeypatch, answer, fault):
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    monkeypatch.setattr(processes, "HELLO", 0.2)
    with socket.create_server((HERE, 0)) as server:
        port, accepted = server.getsockname()[1], []

        def say():
            accepted.append(server.accept()[0])
            accepted[0].sendall(answer)

        thread = threading.Thread(target=say)
        thread.start()
        with pytest.raises(UserError, match=f"what listens at {HERE}:{port} {fault}; run.coord"):
            processes._call(Place(HERE, port, 2, 1), {})
        thread.join()
        accepted[0].close()
