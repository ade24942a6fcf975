"""Several processes, on one host or on many, make one training.

The first one listens at an address that all are given, the others connect to it. Over these
connections go the few numbers that the run loops have to agree on at every step: counters, whether
to stop, whether to save. They are JSON, a line each, so that nothing of them is ever executed. What
an update exchanges are arrays, and XLA's business (``common.run.devices``).

Everything that a run decides, it decides by numbers that all processes have. A process that is lost
ends the others: what the newest checkpoint holds is where the same command goes on.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

from common.errors import Lost, UserError
from common.files import WriteError

PATIENCE = 120.0
"""Seconds in which all processes have to come together."""
HEARTBEAT = 30
"""Seconds after which a process that is silent counts as lost, such as one of a dead host."""
HELLO = 10.0
"""Seconds that a process has to say who it is, once it is connected."""
PARTING = 3.0
"""Seconds that the first process gives the others to end before it."""
BEAT = 1.0
"""Seconds between two signs of life of a process for which the others wait."""
GONE = "is gone, see what it says"
"""Words of who lost another process; what went wrong, that one has said."""
_LONGEST = 2**26
_PORTS = 2


class Place(NamedTuple):
    """Where the processes of a training meet, and which of them this one is.

    Attributes:
        host: Host of the first process, as the others reach it.
        port: A free port there; the next one is taken as well.
        amount: How many processes there are.
        index: Number of this one, from 0 on.
    """

    host: str
    port: int
    amount: int
    index: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``host:port,amount,index``.

        Raises:
            UserError: It is something else.
        """
        address, *numbers = text.split(",")
        host, _, port = address.rpartition(":")
        try:
            place = cls(host, int(port), *map(int, numbers))
        except (TypeError, ValueError):
            place = cls("", 0, 0, 0)
        last = 2**16 - _PORTS
        if not host or not 0 < place.port <= last or not 0 <= place.index < place.amount:
            raise UserError(
                f"run.coordinator is {text!r}; expected host:port,amount,index such as "
                f"10.0.0.7:29400,4,0, with a port up to {last} and an index from 0 to amount - 1"
            )
        return place


def free_port(host: str = "") -> int:
    """Returns a port that is free here with the next one, as process 0 needs them.

    Args:
        host: Address of this machine at which they are wanted; empty for all.
    """
    while True:
        with socket.create_server((host, 0)) as server, contextlib.suppress(OSError, OverflowError):
            port = server.getsockname()[1]
            socket.create_server((host, port + 1)).close()
            return port


def lost(who: str) -> Lost:
    """Returns what to raise where another process is gone."""
    return Lost(
        f"{who} of this training {GONE}; start all of them again, they go on from the newest "
        "checkpoint, or from the beginning where there is none yet"
    )


def leads(text: str) -> bool:
    """Whether a process with this ``run.coordinator`` is the first one, or the only one."""
    return not text or Place.parse(text).index == 0


class Processes:
    """The processes of a training, as one of them sees the others.

    Attributes:
        amount: How many.
        index: Which of them this is.
        first: Whether it is the one that writes the log and the checkpoints.
    """

    def __init__(self, place: Place | None = None, peers: Mapping[int, _Peer] | None = None):
        """Takes the connections that ``join`` made; by itself it is the only process."""
        self.amount, self.index = (place.amount, place.index) if place else (1, 0)
        self.first = self.index == 0
        self._peers = dict(peers or {})

    def gather(self, mine: Any) -> list[Any]:
        """Exchanges what JSON can hold; returns that of every process, in their order.

        Raises:
            Lost: Another process is gone.
        """
        if self.amount == 1:
            return [mine]
        if not self.first:
            self._peers[0].send(mine)
            return self._peers[0].receive()
        everything = [mine, *(self._peers[i].receive() for i in range(1, self.amount))]
        for peer in self._peers.values():
            peer.send(everything)
        return everything

    def alone(self, work: Callable[[Callable[[], bool]], Any], stop: Callable[[], bool]) -> Any:
        """Has the first process do something, for which the others wait.

        Args:
            work: What to do, given a function that says whether to give up; returns what JSON
                can hold.
            stop: Whether this process wants it to be given up.

        Returns:
            What ``work`` returned, in every process.
        """
        if self.amount == 1:
            return work(stop)
        if not self.first:
            while (heard := self.gather({"stop": stop()})[0])["busy"]:
                pass
            return heard["result"]
        wished, looked = False, time.monotonic()

        def told() -> bool:
            nonlocal wished, looked
            if not wished and time.monotonic() - looked > BEAT:
                looked = time.monotonic()
                wished = any(one["stop"] for one in self.gather({"busy": True})[1:])
            return wished or stop()

        result = work(told)
        self.gather({"busy": False, "result": result})
        return result

    def write(self, work: Callable[[], None]) -> None:
        """Has the first process write something, for which the others wait.

        Raises:
            WriteError: It cannot be written; in all processes, which so come to the same end.
        """
        failure: WriteError | None = None
        try:
            if self.first:
                work()
        except WriteError as error:
            failure = error
        if fault := self.gather(failure and str(failure))[0]:
            raise failure or WriteError(f"process 0 says: {fault}")

    def broken(self, seconds: float = 5.0) -> bool:
        """Whether another process is gone, or goes within some seconds."""
        end = time.monotonic() + seconds
        while self._peers and (left := end - time.monotonic()) > 0:
            if any(peer.gone() for peer in self._peers.values()):
                return True
            time.sleep(min(0.1, left))
        return False

    def close(self, together: bool) -> None:
        """Parts from the others.

        Args:
            together: Whether all of them came to the same end. Else this one just leaves.
        """
        if self.amount > 1 and together:
            import jax

            with contextlib.suppress(RuntimeError):  # The others have their own reasons to end.
                jax.distributed.shutdown()
        elif self.first:
            self._let_go()
        for peer in self._peers.values():
            peer.close()

    def _let_go(self) -> None:
        """Waits a moment until the others are gone: JAX aborts those that outlive the first."""
        for peer in self._peers.values():
            peer.end()
        end = time.monotonic() + PARTING
        while time.monotonic() < end and not all(peer.gone() for peer in self._peers.values()):
            time.sleep(0.05)


def join(text: str, identity: Mapping[str, str]) -> Processes:
    """Meets the other processes of a training, before anything asks JAX for its devices.

    Args:
        text: ``run.coordinator``.
        identity: What has to be the same in all: options and versions, by name.

    Raises:
        UserError: Nobody answers, or too few come, or they are not of the same training.
    """
    place = Place.parse(text)
    peers = _welcome(place, identity) if place.index == 0 else {0: _call(place, identity)}
    import jax

    here = place.host in ("localhost", "127.0.0.1")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            f"{place.host}:{place.port + 1}",
            place.amount,
            place.index,
            initialization_timeout=int(PATIENCE),
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
            coordinator_bind_address=f"{place.host}:{place.port + 1}" if here else None,
        )
    except RuntimeError as error:
        raise UserError(
            f"JAX cannot begin with several processes: {str(error).splitlines()[0]}; with "
            "run.coordinator, training has to come before anything else that uses JAX"
        ) from error
    return Processes(place, peers)


class _Peer:
    """A connection to another process."""

    def __init__(self, connection: socket.socket, name: str):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self._file, self.name = connection, connection.makefile("rwb"), name

    def send(self, value: Any) -> None:
        try:
            self._file.write(json.dumps(value).encode() + b"\n")
            self._file.flush()
        except (OSError, ValueError) as error:
            raise lost(self.name) from error

    def receive(self) -> Any:
        try:
            line = self._file.readline(_LONGEST)
        except (OSError, ValueError) as error:
            raise lost(self.name) from error
        if not line.endswith(b"\n"):
            raise lost(self.name)
        return json.loads(line)

    def gone(self) -> bool:
        try:
            readable, _, _ = select.select([self._socket], [], [], 0)
            return bool(readable) and not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def wait(self, seconds: float | None) -> None:
        """Limits how long ``receive`` waits; None for no limit."""
        self._socket.settimeout(seconds)

    def end(self) -> None:
        """Tells the other that nothing more comes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in (self._file, self._socket):
            with contextlib.suppress(OSError):
                one.close()


def _welcome(place: Place, identity: Mapping[str, str]) -> dict[int, _Peer]:
    """Waits until all others are there, and lets them begin."""
    bound = place.host if place.host in ("localhost", "127.0.0.1") else ""
    try:
        for port in (place.port + 1, place.port):
            server = socket.create_server((bound, port), backlog=place.amount)
            if port != place.port:
                server.close()  # Only whether it is free.
    except OSError as error:
        raise UserError(
            f"run.coordinator: port {port} of {place.host} cannot be had ({error.strerror}); "
            "choose another, with the next one free as well"
        ) from error
    print(f"waiting for {place.amount - 1} process(es) at {place.host}:{place.port}", flush=True)
    peers: dict[int, _Peer] = {}
    end, fault = time.monotonic() + PATIENCE, ""
    with server:
        while len(peers) < place.amount - 1 and not fault:
            server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                peer = _Peer(server.accept()[0], "a process")
                peer.wait(HELLO)
                hello = peer.receive()
                index, _ = int(hello["index"]), dict(hello["identity"])
            except TimeoutError:
                missing = sorted(set(range(1, place.amount)) - set(peers))
                fault = f"process(es) {', '.join(map(str, missing))} did not come to "
                fault += f"{place.host}:{place.port} within {PATIENCE:.0f} seconds"
                break
            except (Lost, LookupError, OverflowError, RecursionError, TypeError, ValueError):
                continue  # Whoever that was.
            fault = _difference(place, identity, hello, index in peers)
            peer.name, peers[index] = f"process {index}", peer
    for peer in peers.values():
        with contextlib.suppress(Lost):
            peer.send(fault)
        peer.wait(None)
    if fault:
        raise UserError(fault)
    return peers


def _call(place: Place, identity: Mapping[str, str]) -> _Peer:
    """Connects to the first process, which may come later, and waits until all are there."""
    end, said = time.monotonic() + PATIENCE, False
    while True:
        try:
            left = max(end - time.monotonic(), 0.01)
            peer = _Peer(socket.create_connection((place.host, place.port), left), "process 0")
            break
        except OSError as error:
            if time.monotonic() + 0.2 > end:
                raise UserError(
                    f"nobody answers at {place.host}:{place.port} ({error}); run.coordinator names "
                    "the host of process 0, which has to run and to be reached from here"
                ) from error
            if not said:
                why = error.strerror or error
                print(f"waiting for process 0 at {place.host}:{place.port} ({why})", flush=True)
            said = True
            time.sleep(0.2)
    # As long as the first one waits for all, and for a stranger who connects and says nothing.
    peer.wait(PATIENCE + HELLO)
    peer.send({"index": place.index, "amount": place.amount, "identity": dict(identity)})
    try:
        fault = peer.receive()
    except (Lost, ValueError) as error:
        late = isinstance(error.__cause__, TimeoutError)
        if isinstance(error, Lost) and not late:
            raise
        raise UserError(
            f"what listens at {place.host}:{place.port} "
            f"{'does not answer' if late else 'is no process of a training'}; run.coordinator "
            "names the host of process 0, and a port that nothing else uses"
        ) from error
    if fault:
        raise UserError(fault)
    peer.wait(None)
    return peer


def _difference(place: Place, mine: Mapping[str, str], hello: Any, known: bool) -> str:
    """Says in what a process that calls differs from the first one, where it does."""
    index, amount, other = hello["index"], hello.get("amount"), hello.get("identity", {})
    if amount != place.amount:
        return f"process {index} says that there are {amount} processes, process 0 {place.amount}"
    if known or not 0 < index < place.amount:
        return f"there are two processes with the index {index}; each needs its own"
    names = [name for name in {**mine, **other} if mine.get(name) != other.get(name)]
    listed = ", ".join(
        f"{name} {other.get(name, 'missing')} (process 0: {mine.get(name, 'missing')})"
        for name in names[:4]
    )
    return f"process {index} differs from process 0: {listed}; start all alike" if names else ""
