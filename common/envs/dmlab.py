"""DeepMind Lab (arXiv:1612.03801) as a Gymnasium environment.

**Untested against the real engine**: it has no package in a registry and has to be built from
source, https://github.com/deepmind/lab. What is tested is that this module makes the calls of its
documented Python interface (docs/users/python_api.md there) on a stand-in that checks them.

The 15 actions are those of PopArt (arXiv:1809.04474) and R2D2, which DreamerV3 took over. An action
of the engine is seven numbers: look left and right, look up and down, in pixels a frame, strafe,
move, fire, jump and crouch. Actions are usually repeated four times.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from common.errors import UserError

ACTIONS = {
    "forward": (0, 0, 0, 1, 0, 0, 0),
    "backward": (0, 0, 0, -1, 0, 0, 0),
    "strafe left": (0, 0, -1, 0, 0, 0, 0),
    "strafe right": (0, 0, 1, 0, 0, 0, 0),
    "look a little left": (-10, 0, 0, 0, 0, 0, 0),
    "look a little right": (10, 0, 0, 0, 0, 0, 0),
    "look far left": (-60, 0, 0, 0, 0, 0, 0),
    "look far right": (60, 0, 0, 0, 0, 0, 0),
    "look down": (0, 10, 0, 0, 0, 0, 0),
    "look up": (0, -10, 0, 0, 0, 0, 0),
    "forward, a little left": (-10, 0, 0, 1, 0, 0, 0),
    "forward, a little right": (10, 0, 0, 1, 0, 0, 0),
    "forward, far left": (-60, 0, 0, 1, 0, 0, 0),
    "forward, far right": (60, 0, 0, 1, 0, 0, 0),
    "fire": (0, 0, 0, 0, 1, 0, 0),
}
_SEEN = "RGB_INTERLEAVED"
_LEVELS = "contributed/dmlab30/"


class Lab(gymnasium.Env):
    """One level.

    Args:
        level: A level of DMLab-30 without its folder, "rooms_watermaze"; or one with its folder.
        size: Height and width of the picture.
        episodic: Whether nothing follows the end of an episode, as published; else it counts as
            cut by a limit of time.
        renderer: "software" or "hardware"; "" for that of the build.
        config: Further options of the engine.

    Raises:
        UserError: deepmind_lab is not installed or cannot build the level, or that tells its task
            in words.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}
    render_mode = "rgb_array"

    def __init__(
        self,
        level: str,
        size: int = 64,
        episodic: bool = True,
        renderer: str = "",
        config: dict[str, Any] | None = None,
    ):
        try:
            import deepmind_lab
        except ImportError as error:
            raise UserError(
                f"deepmind_lab is not installed here ({error}); it is built from source, see "
                "docs/environments.md"
            ) from error
        if level.startswith("language_"):
            raise UserError(f"dmlab_{level} tells its task in words, which are not shown here")
        options = {"width": size, "height": size, "logLevel": "WARN"} | (config or {})
        try:
            self._lab = deepmind_lab.Lab(
                level if "/" in level else _LEVELS + level,
                [_SEEN],
                config={key: str(value) for key, value in options.items()},
                **({"renderer": renderer} if renderer else {}),
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"DeepMind Lab cannot build the level {level!r}: {error}") from error
        self._episodic = episodic
        self._actions = np.array(list(ACTIONS.values()), np.intc)
        self._picture = np.zeros((size, size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(ACTIONS))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Begins an episode."""
        super().reset(seed=seed)
        self._lab.reset(seed=int(self.np_random.integers(2**31 - 1)))
        self._see()
        return self._picture, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Does one action for one frame of the engine; at the end the last picture stays."""
        reward = float(self._lab.step(self._actions[action], num_steps=1))
        over = not self._lab.is_running()
        if not over:  # Afterwards there is nothing to see.
            self._see()
        return self._picture, reward, over and self._episodic, over and not self._episodic, {}

    def render(self) -> np.ndarray:
        """Returns the picture."""
        return self._picture

    def close(self) -> None:
        """Ends the engine."""
        self._lab.close()

    def _see(self) -> None:
        self._picture = np.array(self._lab.observations()[_SEEN], np.uint8)
