"""Images whose channels come first, as many libraries want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict


class ChannelsLast(gymnasium.ObservationWrapper):
    """Turns images ``[C, H, W]``, which are uint8, into ``[H, W, C]``."""

    def __init__(self, env: gymnasium.Env):
        """Changes the space."""
        super().__init__(env)
        self.observation_space = _channels_last(env.observation_space)

    def observation(self, observation: Any) -> Any:
        """Changes an observation."""
        return _move_channels(observation, self.env.observation_space)


def _channels_last(space: gymnasium.Space) -> gymnasium.Space:
    if isinstance(space, Dict):
        inner = {key: _channels_last(child) for key, child in space.spaces.items()}
        return Dict(inner)
    if _is_image(space):
        low, high = (np.moveaxis(bound, 0, -1) for bound in (space.low, space.high))
        return Box(low, high, dtype=np.uint8)
    return space


def _move_channels(value: Any, space: gymnasium.Space) -> Any:
    if isinstance(space, Dict) and isinstance(value, Mapping):
        known = space.spaces
        return {k: _move_channels(v, known[k]) if k in known else v for k, v in value.items()}
    if _is_image(space) and np.ndim(value) == 3:  # Others are refused where they are adapted.
        return np.moveaxis(np.asarray(value), 0, -1)
    return value


def _is_image(space: gymnasium.Space) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3
