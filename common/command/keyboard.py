"""Plays an environment by the keys of a terminal, in which it is drawn as well.

A terminal is there over ssh and on a machine without a screen, and needs no library. What it cannot
tell is that a key was let go: a key counts for one step, or with a rate until another one is
pressed.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from common.envs.base import Envs
from common.envs.pictures import NoPicture, to_frame
from common.errors import UserError
from common.run.driver import NumpyRows
from common.run.recording import Enough
from common.spaces import ActionSpec

QUIT = "q"
CHOICES = "0123456789abcdefghijklmnoprstuvwxyz"
"""The keys of choice 0, 1, and so on; all but the one that ends it."""
PAIRS = (("left", "right"), ("down", "up"), ("a", "d"), ("s", "w"))
"""The keys that make each number the smallest and the largest; a space puts all in the middle."""
_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
_KEY = re.compile(r"\x1b[\[O]([A-D])|\x1b[\[O][\d;]*.?|(.)", re.DOTALL)
_SCREEN, _BACK, _HOME = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l", "\x1b[H"


def bindings(actions: ActionSpec) -> dict[str, np.ndarray]:
    """Returns what every key does: flat actions ``[A]``.

    Raises:
        UserError: The action is not one choice of at most 35, nor one to four numbers.
    """
    part, *others = actions.parts
    if not others and part.kind == "categorical" and part.size <= len(CHOICES):
        one_hot = np.eye(part.size, dtype=np.float32)
        return dict(zip(CHOICES[: part.size], one_hot, strict=True))
    if others or part.kind == "categorical" or part.size > len(PAIRS):
        raise UserError(
            f"--policy human plays one choice of at most {len(CHOICES)}, or 1 to {len(PAIRS)} "
            f"numbers; an action of this task is {_words(actions)}: wrap the environment, or let "
            "another policy play"
        )
    keys = {" ": np.zeros(part.size, np.float32)}
    for number, (low, high) in enumerate(PAIRS[: part.size]):
        for key, value in ((low, -1), (high, 1)):
            keys[key] = np.zeros(part.size, np.float32)
            keys[key][number] = value
    return keys


def _words(actions: ActionSpec) -> str:
    return ", ".join(
        f"one of {part.size} choices" if part.kind == "categorical" else f"{part.size} numbers"
        for part in actions.parts
    )


def explained(actions: ActionSpec, names: Sequence[str] = ()) -> str:
    """Says in one line what the keys do.

    Args:
        actions: Of the environment.
        names: What it calls the choices of its action; () where it does not say.
    """
    (part,) = actions.parts
    if part.kind == "categorical":
        keys = CHOICES[: part.size]
        if len(names) == part.size:
            return ", ".join(f"{key}: {name}" for key, name in zip(keys, names, strict=True))
        return f"{keys[0]} to {keys[-1]}: choices {part.start} to {part.start + part.size - 1}"
    pairs = (
        f"{low}/{high}: {part.low[number]:g}/{part.high[number]:g}"
        for number, (low, high) in enumerate(PAIRS[: part.size])
    )
    return ", ".join([*pairs, "space: the middle"])


def _names(envs: Envs) -> Sequence[str]:
    """What the environment calls its choices, where it steps in this process and says it."""
    try:
        return getattr(envs if hasattr(envs, "action_names") else envs.local(), "action_names", ())
    except (AttributeError, UserError):
        return ()


class Terminal:
    """The keys and the screen of the terminal that this process runs in."""

    def __init__(self) -> None:
        """Changes nothing yet.

        Raises:
            UserError: There is none.
        """
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UserError(
                "--policy human needs a terminal for its keys and pictures, and here is none; run "
                "it in one, or choose --policy random or a run"
            )
        self._keys = sys.stdin.fileno()
        self._waiting: list[str] = []

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Takes keys at once and unseen, and gives the terminal back as it was."""
        before = termios.tcgetattr(self._keys)
        try:
            tty.setcbreak(self._keys, termios.TCSANOW)  # Ctrl-C interrupts as ever.
            self.write(_SCREEN)
            yield
        finally:
            self.write(_BACK)
            termios.tcsetattr(self._keys, termios.TCSADRAIN, before)

    def write(self, text: str) -> None:
        """Puts text on the screen."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def next_key(self) -> str:
        """Waits for a key: its character, or "up", "down", "left", "right"."""
        while not self._waiting:
            self._read(None)
        return self._waiting.pop(0)

    def last_key(self, seconds: float) -> str:
        """Waits so long; returns the last key of that time, "" for none.

        The one that ends it counts wherever it stands.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)
        keys, self._waiting = self._waiting, []
        return QUIT if QUIT in keys else (keys or [""])[-1]

    def _read(self, seconds: float | None) -> None:
        if not select.select([self._keys], [], [], seconds)[0]:
            return
        try:
            found = os.read(self._keys, 1024).decode(errors="ignore")
        except OSError:  # The terminal is gone.
            found = ""
        for arrow, other in _KEY.findall(found) if found else [("", QUIT)]:
            if arrow or other:
                self._waiting.append(_ARROWS.get(arrow, other))


class HumanPolicy:
    """Shows the environment and does what the keys say.

    Args:
        envs: One environment.
        terminal: Where it is shown and where keys come from.
        rate: Steps per second; 0 for one step for each key.

    Raises:
        UserError: As of ``bindings``.
    """

    def __init__(self, envs: Envs, terminal: Terminal, rate: float):
        self._envs, self._terminal, self._rate = envs, terminal, rate
        self._actions = bindings(envs.action_spec)
        self._held = next(iter(self._actions.values()))
        self._help = explained(envs.action_spec, _names(envs))
        self._episode, self._step, self._return = 0, 0, 0.0
        self._due = 0.0

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Returns the action ``[1, A]``; raises ``Enough`` where that is wanted."""
        first = bool(rows["is_first"][0])
        self._episode += first
        self._step = 0 if first else self._step + 1
        self._return = float(rows["reward"][0]) + (0.0 if first else self._return)
        if first:
            self._held = next(iter(self._actions.values()))
        self._draw(rows)
        while True:
            key = self._key()
            if key == QUIT:
                raise Enough
            if key in self._actions:
                self._held = self._actions[key]
            if self._rate or key in self._actions:
                return self._held[None]

    def _key(self) -> str:
        if not self._rate:
            return self._terminal.next_key()
        now = time.monotonic()
        self._due = max(self._due, now) + 1 / self._rate
        return self._terminal.last_key(self._due - now)

    def _draw(self, rows: NumpyRows) -> None:
        columns, lines = shutil.get_terminal_size()
        try:
            picture = self._envs.render()
            shown = (
                _seen(rows) if picture is None else blocks(to_frame(picture), columns, lines - 3)
            )
        except NoPicture:
            shown = _seen(rows)
        state = f"episode {self._episode}, step {self._step}, return {self._return:g}"
        keys = f"{self._help}, {QUIT}: end, and keep what is over"
        self._terminal.write(f"{_HOME}{shown}\x1b[0m\x1b[J{state}\r\n{keys}")


def _seen(rows: NumpyRows) -> str:
    """The numbers of an observation that has no picture."""
    vectors = {key: value[0] for key, value in rows.items() if value.ndim == 2}
    return "".join(f"{key}: {np.round(value, 2).tolist()}\r\n" for key, value in vectors.items())


def blocks(picture: np.ndarray, columns: int, lines: int) -> str:
    """Draws a picture uint8 ``[H, W, 3]`` in characters, each of two pixels above each other.

    Args:
        picture: Keeps its shape; it is made smaller, never larger.
        columns: Characters of a line.
        lines: Lines that there are.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    scale = min(columns / width, 2 * max(lines, 1) / height, 1)
    size = max(int(width * scale), 1), max(int(height * scale) // 2, 1) * 2
    pixels = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    drawn = []
    for above, below in zip(pixels[::2], pixels[1::2], strict=True):
        before: list[list[int]] = [[], []]
        for pair in zip(above.tolist(), below.tolist(), strict=True):
            # Terminals keep a colour: what is sent is what changes.
            codes = [
                f"{which};2;{';'.join(map(str, color))}"
                for which, color, old in zip((38, 48), pair, before, strict=True)
                if color != old
            ]
            drawn.append(f"\x1b[{';'.join(codes)}m▀" if codes else "▀")
            before = list(pair)
        drawn.append("\x1b[0m\r\n")
    return "".join(drawn)


def player(terminal: Terminal, rate: float) -> Callable[[Envs], HumanPolicy]:
    """Returns what makes the policy of whoever sits at the terminal."""
    return lambda envs: HumanPolicy(envs, terminal, rate)
