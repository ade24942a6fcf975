"""Trains the members of a fleet, each in a thread, and says of every line whose it is."""

from __future__ import annotations

import dataclasses
import pathlib
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from common.config import difference
from common.errors import UserError
from common.run.config import Settings, check_fleet
from common.run.ending import STOP_SIGNALS
from common.run.fleet import Fleet
from common.run.program import Program
from common.run.progress import Result
from common.run.train import Given, train_given


class Member(NamedTuple):
    """One run of a fleet.

    Attributes:
        name: What its lines begin with.
        config: Its configuration.
        logdir: Its folder, that of a run of its own.
    """

    name: str
    config: Settings
    logdir: pathlib.Path


def train_fleet(program: Program, members: Sequence[Member]) -> list[Result | Exception]:
    """Trains several runs in one program, to their ends or until SIGTERM or Ctrl-C.

    Args:
        program: Their agent's program.
        members: They may differ in task and seed.

    Returns:
        How each of them ended: one that fails ends alone, with what it raised.

    Raises:
        UserError: They cannot learn together.
    """
    check_members(members)
    fleet, stop = Fleet([member.config.seed for member in members]), threading.Event()
    ends: dict[int, Result | Exception] = {}

    def run(number: int, member: Member) -> None:
        try:
            learner = lambda agent, envs: fleet.learner(number, agent, envs)  # noqa: E731
            given = Given(learner=learner, told=stop.is_set)
            ends[number] = train_given(program, member.config, member.logdir, given)
        except UserError as error:
            ends[number] = error
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        except Exception as error:
            ends[number] = error
            print(traceback.format_exc(), file=sys.stderr, end="", flush=True)
        finally:
            fleet.leave(number)

    def told(*_: object) -> None:
        """Stops all members at their next step; a second Ctrl-C ends them at once."""
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    threads = [  # Nobody waits at the end for one whose environment hangs.
        threading.Thread(target=run, args=(number, member), name=member.name, daemon=True)
        for number, member in enumerate(members)
    ]
    names = {thread.name for thread in threads}
    previous = {name: signal.signal(name, told) for name in STOP_SIGNALS}
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Labelled(out, names), Labelled(err, names)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.stdout, sys.stderr = out, err
        for name, handler in previous.items():
            signal.signal(name, handler)
    return [ends[number] for number in range(len(members))]


def check_members(members: Sequence[Member]) -> None:
    """Raises a UserError where runs cannot learn in one program."""
    first = members[0].config
    for member in members:
        other = dataclasses.replace(member.config, task=first.task, seed=first.seed)
        if changes := difference(first, other):
            raise UserError(
                f"{member.name} differs from {members[0].name} in more than task and seed: "
                f"{changes[0]}; a fleet has one configuration"
            )
    if len({member.logdir for member in members}) < len(members):
        raise UserError("the members of a fleet need a folder each; give every seed once")
    check_fleet(first)


class Labelled:
    """A stream that writes whole lines, each with the name of the thread that it comes from."""

    def __init__(self, stream: TextIO, names: set[str]):
        """Wraps a stream.

        Args:
            stream: Where to write.
            names: Threads whose lines get their name; those of others stay as they are.
        """
        self._stream, self._names = stream, names
        self._begun: dict[str, str] = {}
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Writes the lines that are complete with this text."""
        name = threading.current_thread().name
        if name not in self._names:
            return self._stream.write(text)
        with self._lock:
            *lines, rest = (self._begun.get(name, "") + text).split("\n")
            self._begun[name] = rest
            self._stream.write("".join(f"{name} | {line}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        """What else a stream has is that of the wrapped one."""
        return getattr(self._stream, name)
