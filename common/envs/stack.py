"""Images that show the newest moments side by side, for agents without a memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from common.envs.base import Env, Row
from common.errors import UserError


class StackedImages:
    """An environment whose images hold the newest ones along their channels, oldest first.

    At the start of an episode they are copies of its first. All else is the environment's own.

    Args:
        env: The environment.
        amount: Images that each holds.

    Raises:
        UserError: It shows no image.
    """

    def __init__(self, env: Env, amount: int):
        specs = env.observation_specs
        self._env, self._amount = env, amount
        self._keys = [key for key, spec in specs.items() if spec.kind == "image"]
        if not self._keys:
            raise UserError(f"env.stack is {amount}, and this task shows no image; leave it 1")
        self._newest: dict[str, list[np.ndarray]] = {}
        self.observation_specs = {
            key: dataclasses.replace(spec, shape=(*spec.shape[:2], amount * spec.shape[2]))
            if key in self._keys
            else spec
            for key, spec in specs.items()
        }

    def reset(self) -> Row:
        """Begins an episode and returns its reset row."""
        row = self._env.reset()
        self._newest = {key: [row[key]] * self._amount for key in self._keys}
        return self._stacked(row)

    def step(self, action: np.ndarray) -> Row:
        """Applies one flat action."""
        row = self._env.step(action)
        for key in self._keys:
            self._newest[key] = [*self._newest[key][1:], row[key]]
        return self._stacked(row)

    def __getattr__(self, name: str) -> Any:
        """Finds everything else at the environment itself."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)

    def _stacked(self, row: Row) -> Row:
        return row | {key: np.concatenate(self._newest[key], -1) for key in self._keys}
