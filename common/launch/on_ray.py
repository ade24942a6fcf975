"""A training on the machines of a Ray cluster: one actor on each, which runs the train command."""

from __future__ import annotations

import pathlib
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from common.cluster import connected
from common.errors import MISTAKE, STOPPED, UserError
from common.launch.process import ROOT, Command
from common.launch.process import train as train_here
from common.launch.request import Request
from common.run.ending import STOP_SIGNALS
from common.run.processes import HEARTBEAT, free_port

ROOM_SECONDS = 60.0
"""How long to wait for room on the cluster."""
STOPPED_WELL = (0, STOPPED, -signal.SIGTERM)
"""Exit codes of processes that were told to stop; the last of one that had not begun yet."""
GRACE = 2.0 * HEARTBEAT
"""Seconds in which processes end by themselves after one of them did."""


class Host:
    """What an actor does: it looks for a port, and runs the train command."""

    def __init__(self, wanted: Request):
        """Starts nothing yet."""
        self._wanted, self._command = wanted, Command()

    def address(self) -> tuple[str, int]:
        """Returns this machine's address, and a port for process 0."""
        import ray

        return ray.util.get_node_ip_address(), free_port()

    def run(self, host: str, port: int, index: int, environment: dict[str, str]) -> int:
        """Trains as process ``index``, with process 0 at an address; returns the exit code."""
        return train_here(self._command, self._wanted, (host, port, index), environment)

    def stop(self) -> None:
        """As of ``Command.stop``."""
        self._command.stop()

    def kill(self) -> None:
        """As of ``Command.kill``."""
        self._command.kill()


def train(wanted: Request) -> int:
    """Trains to the end, or until SIGTERM or Ctrl-C; prints what process 0 says.

    Returns:
        As ``common.launch.launch``.

    Raises:
        UserError: Ray is missing, or the cluster, or it has no room.
    """
    with connected("--launcher ray", [str(ROOT)]) as ray, _Training(ray, wanted) as training:
        return training.go()


class _Training:
    """Starts all processes, and all of them again where one was lost."""

    def __init__(self, ray: Any, wanted: Request):
        self._ray, self._wanted = ray, wanted
        self._stopping, self._over = False, threading.Event()
        self._reader = threading.Thread(target=self._read, args=(wanted.log(0),), daemon=True)

    def __enter__(self) -> _Training:
        self._previous = {name: signal.signal(name, self._stop) for name in STOP_SIGNALS}
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._reader.join()
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def go(self) -> int:
        for attempt in range(self._wanted.retries + 1):
            codes = self._attempt()
            if all(code == 0 for code in codes):
                return 0
            if MISTAKE in codes:
                print(f"error: {self._wanted.fault()}", file=sys.stderr)
                return MISTAKE
            if all(code in STOPPED_WELL for code in codes):
                return STOPPED
            again = attempt < self._wanted.retries and not self._stopping
            how = ", ".join("lost" if code is None else f"exit code {code}" for code in codes)
            words = "all start again" if again else f"given up; {self._wanted.fault()}"
            print(f"the processes ended ({how}); {words}", file=sys.stderr, flush=True)
            if not again:
                break
        return 1

    def _attempt(self) -> list[int | None]:
        """Runs all processes once; returns their exit codes, None of those that were lost."""
        ray, wanted = self._ray, self._wanted
        group = self._room()
        try:
            strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
            options = {"num_cpus": wanted.cores, "num_gpus": wanted.gpus, "max_concurrency": 2}
            actor = ray.remote(scheduling_strategy=strategy, **options)(Host)
            hosts = [actor.remote(wanted) for _ in range(wanted.nodes)]
            try:
                host, port = ray.get(hosts[0].address.remote())
            except ray.exceptions.RayError:
                return [None] * wanted.nodes
            environment = wanted.environment()
            running = [
                one.run.remote(host, port, index, environment) for index, one in enumerate(hosts)
            ]
            return self._watch(hosts, running)
        finally:
            ray.util.remove_placement_group(group)

    def _room(self) -> Any:
        """Reserves what all processes ask for, on as many machines as there are."""
        ray, wanted = self._ray, self._wanted
        bundle = {"CPU": wanted.cores} | ({"GPU": wanted.gpus} if wanted.gpus else {})
        group = ray.util.placement_group([bundle] * wanted.nodes, strategy="SPREAD")
        if not group.wait(ROOM_SECONDS):
            ray.util.remove_placement_group(group)
            there = ray.cluster_resources()
            has = ", ".join(f"{there.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
            raise UserError(f"the Ray cluster has no room for {wanted}; it has {has} in all")
        return group

    def _watch(self, hosts: Sequence[Any], running: Sequence[Any]) -> list[int | None]:
        """Waits for all; ends those that go on for long after another one has ended."""
        codes: dict[Any, int | None] = {}
        told, end = False, float("inf")
        while len(codes) < len(running):
            left = [one for one in running if one not in codes]
            ready, _ = self._ray.wait(left, timeout=0.5)
            for one in ready:
                try:
                    codes[one] = self._ray.get(one)
                except self._ray.exceptions.RayError:
                    codes[one] = None
                end = min(end, time.monotonic() + GRACE)
            if self._stopping and not told:
                told = True
                for host in hosts:
                    host.stop.remote()
            if time.monotonic() > end:
                for host in hosts:
                    host.kill.remote()
                end = float("inf")
        return [codes[one] for one in running]

    def _stop(self, *_: object) -> None:
        if not self._stopping:
            print("stopping: the training writes its checkpoint ...", flush=True)
        self._stopping = True

    def _read(self, log: pathlib.Path) -> None:
        """Prints what process 0 writes from now on."""
        position = log.stat().st_size if log.exists() else 0
        while True:
            over = self._over.wait(0.3)
            if log.exists():
                with log.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                position += len(text)
                print(text.decode(errors="replace"), end="", flush=True)
            if over:
                return
