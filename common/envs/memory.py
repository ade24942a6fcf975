"""Worlds that ask what was shown earlier: tasks ``memory_recall`` and ``memory_repeat``.

**Recall.** A symbol is shown, then as many distractors as ``delay`` says, then a question; the
action that answers it is the symbol's number. An episode is ``delay + 2`` actions long and ends
with the answer::

    row        0      1 ... delay     delay + 1    delay + 2
    phase      cue    wait            ask          end
    symbol     cue    any, at random  none         none
    action            ignored         ignored      the answer
    reward     0      0               0            1, or ``wrong``

**Repeat.** Every row shows a symbol, and every action is to name the one shown ``delay`` rows
before the newest. The first ``delay`` actions are not scored; an episode has ``length`` actions
that are, so that it is ``delay + length`` actions long.

Both have discrete actions, one for each symbol, and terminate. Whoever guesses answers one of
``symbols`` questions right. ``info["log/success"]`` sums up to the share of right answers in an
episode. Observations are vectors: one-hot the symbol (zeros for none), then one-hot the phase; or,
with ``pixels``, images: the symbol is a bright square at a place of its own, the phase the shade of
the frame, and where nothing is to be remembered the rest is noise.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from common.checks import check_flag, check_range, check_whole

PHASES = ("cue", "wait", "ask", "end")
IMAGE_SIZE, FRAME = 64, 8
"""Pixels of an image's side, and of the frame around it."""
_SHADES = dict(zip(PHASES, (255, 0, 160, 80), strict=True))


class MemoryWorld(gymnasium.Env):
    """What the worlds share: symbols, phases, and how they are shown.

    Args:
        delay: Rows between what is shown and what is asked; each world says which.
        symbols: How many there are, 2 to 16.
        wrong: Reward of a wrong answer, -1 to 0.
        pixels: Whether observations are images ``[64, 64, 3]``, uint8, instead of vectors.

    Raises:
        UserError: A number out of its range.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, delay: int, symbols: int, wrong: float, pixels: bool):
        check_whole("env.kwargs.symbols", symbols, 2, 16)
        check_whole("env.kwargs.delay", delay, 1)
        check_range("env.kwargs.wrong", wrong, -1, 0)
        check_flag("env.kwargs.pixels", pixels)
        self.symbols, self.delay, self.wrong, self.pixels = symbols, delay, float(wrong), pixels
        self.action_space = spaces.Discrete(symbols)
        if pixels:
            self.observation_space = spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        else:
            self.observation_space = spaces.Box(0, 1, (symbols + len(PHASES),), np.float32)

    @property
    def questions(self) -> int:
        """Scored actions of an episode."""
        return 1

    def share_right(self, total: float) -> float:
        """Returns the share of right answers in an episode with that return, or their means."""
        return (total / self.questions - self.wrong) / (1 - self.wrong)

    def _show(self, symbol: int | None, phase: str) -> np.ndarray:
        if self.pixels:
            return self._draw(symbol, phase)
        vector = np.zeros(self.symbols + len(PHASES), np.float32)
        vector[self.symbols + PHASES.index(phase)] = 1
        if symbol is not None:
            vector[symbol] = 1
        return vector

    def _draw(self, symbol: int | None, phase: str) -> np.ndarray:
        image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), _SHADES[phase], np.uint8)
        inside = image[FRAME:-FRAME, FRAME:-FRAME]
        noisy = phase == "wait"
        inside[:] = self.np_random.integers(0, 64, inside.shape) if noisy else 32
        if symbol is not None:
            cells = math.ceil(math.sqrt(self.symbols))
            size = len(inside) // cells
            row, column = (size * part for part in divmod(symbol, cells))
            inside[row : row + size, column : column + size] = 255
        return image

    def _symbol(self) -> int:
        return int(self.np_random.integers(self.symbols))


class Recall(MemoryWorld):
    """Recall of the first symbol after ``delay`` distractors; see above."""

    def __init__(
        self, delay: int = 10, symbols: int = 4, wrong: float = -1.0, pixels: bool = False
    ):
        super().__init__(delay, symbols, wrong, pixels)
        self._cue, self._time = 0, 0

    @property
    def steps(self) -> int:
        """Actions of an episode."""
        return self.delay + 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Shows the cue."""
        super().reset(seed=seed, options=options)
        self._cue, self._time = self._symbol(), 0
        return self._show(self._cue, "cue"), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Shows a distractor or the question, or takes the answer."""
        self._time += 1
        if self._time <= self.delay:
            return self._show(self._symbol(), "wait"), 0.0, False, False, {}
        if self._time == self.delay + 1:
            return self._show(None, "ask"), 0.0, False, False, {}
        right = int(action) == self._cue
        reward = 1.0 if right else self.wrong
        return self._show(None, "end"), reward, True, False, {"log/success": float(right)}


class Repeat(MemoryWorld):
    """Naming of what was shown ``delay`` rows ago; see above.

    Args:
        delay: How many rows ago; 0 would be the newest.
        length: Scored actions of an episode.
        symbols: As of ``MemoryWorld``, and so on.
    """

    def __init__(
        self,
        delay: int = 4,
        length: int = 50,
        symbols: int = 4,
        wrong: float = -1.0,
        pixels: bool = False,
    ):
        super().__init__(delay, symbols, wrong, pixels)
        check_whole("env.kwargs.length", length, 1)
        self.length, self._shown = length, []

    @property
    def questions(self) -> int:
        """Scored actions of an episode."""
        return self.length

    @property
    def steps(self) -> int:
        """Actions of an episode."""
        return self.delay + self.length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Shows the first symbol."""
        super().reset(seed=seed, options=options)
        self._shown = [self._symbol()]
        return self._show(self._shown[0], "cue"), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Scores the action, and shows the next symbol."""
        scored = len(self._shown) > self.delay
        right = scored and int(action) == self._shown[-1 - self.delay]
        reward = (1.0 if right else self.wrong) if scored else 0.0
        info = {"log/success": right / self.length} if scored else {}
        last = len(self._shown) == self.steps
        self._shown.append(self._symbol())
        phase = "end" if last else "cue" if len(self._shown) <= self.delay else "ask"
        return self._show(None if last else self._shown[-1], phase), reward, last, False, info
