"""Several tasks in one environment: every episode is one of them, drawn at random.

Actions are as long as the longest of the tasks; a task takes the first entries that it
needs and ignores the rest. Vectors are padded with zeros, and a vector that a task lacks is
zero. The agent is not told which task it is (after PlaNet, arXiv:1811.04551, 4.3), but where
that is asked for: by a one-hot vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium
import numpy as np

from common.envs.base import Env, Row
from common.errors import UserError
from common.rows import LOG_PREFIX, ROW_KEYS
from common.spaces import ObservationSpec, TaskSpec, action_spec

FRAMES = LOG_PREFIX + "simulator_steps"
"""Simulator steps of a row: with several tasks they differ from episode to episode."""
TASK = "task"
"""The observation that says which task is played, where one does."""


class MultiTask:
    """Plays a random one of several environments in every episode.

    Rows say their ``FRAMES``, and the reward once more under "log/return/<task>", so that
    each task's returns are logged apart.

    Args:
        envs: The environments by name; their actions are continuous.
        seed: Seed of the choices.
        only: Name of the one task to play, padded as if with all; None for all.
        one_hot: Whether the observation ``TASK`` says which task is played.

    Raises:
        UserError: A task's actions are not continuous, or images differ in their shape, or a
            task has an observation of that name.
    """

    def __init__(
        self, envs: Mapping[str, Env], seed: int, only: str | None = None, one_hot: bool = False
    ):
        self._envs = dict(envs)
        self._playing = [only] if only else list(self._envs)
        self._rng = np.random.default_rng(seed)
        self._name = self._playing[0]
        for name, env in self._envs.items():
            if any(part.kind != "continuous" for part in env.action_spec.parts):
                raise UserError(
                    f"the actions of {name!r} are not continuous; several tasks at once need "
                    "continuous actions"
                )
        size = max(env.action_spec.size for env in self._envs.values())
        self.action_space = gymnasium.spaces.Box(-1, 1, (size,), np.float32)
        self.action_spec = action_spec(self.action_space)
        self._own_specs = self.observation_specs = _union(self._envs)
        self._tells = one_hot and len(self._envs) > 1
        if self._tells:
            specs = self._own_specs | {TASK: _task(self._envs, self._own_specs)}
            self.observation_specs = dict(sorted(specs.items()))
        self.action_repeat = max(env.action_repeat for env in self._envs.values())
        steps = [self._envs[name].max_steps for name in self._playing]
        self.max_steps = max(steps) if all(steps) else 0

    def reset(self) -> Row:
        """Draws a task and begins an episode of it."""
        self._name = self._playing[self._rng.integers(len(self._playing))]
        return self._pad(self._env.reset())

    def step(self, action: np.ndarray) -> Row:
        """Applies the entries of a flat action ``[A]`` that the task has."""
        row = self._pad(self._env.step(action[: self._env.action_spec.size]))
        row[FRAMES] = self._env.action_repeat
        row[f"{LOG_PREFIX}return/{self._name}"] = row["reward"]
        return row

    def render(self) -> np.ndarray | None:
        """Returns the picture of the task that is played."""
        return self._env.render()

    def close(self) -> None:
        """Closes all tasks."""
        for env in self._envs.values():
            env.close()

    @property
    def _env(self) -> Env:
        return self._envs[self._name]

    def _pad(self, row: Row) -> Row:
        padded = {key: value for key, value in row.items() if _is_no_observation(key)}
        if self._tells:
            played = [name == self._name for name in self._envs]
            padded[TASK] = np.array(played, np.float32)
        for key, spec in self._own_specs.items():
            value = row.get(key, np.zeros(0, spec.dtype))
            missing = spec.shape[0] - len(value)
            padded[key] = np.pad(value, (0, missing)) if spec.kind == "vector" else value
        return padded


def _is_no_observation(key: str) -> bool:
    return key in ROW_KEYS or key.startswith(LOG_PREFIX)


def _union(envs: Mapping[str, Env]) -> dict[str, ObservationSpec]:
    specs: dict[str, ObservationSpec] = {}
    for env in envs.values():
        for key, spec in env.observation_specs.items():
            other = specs.get(key, spec)
            if "image" in (spec.kind, other.kind) and spec != other:
                raise UserError(
                    f"observation {key!r} is {spec.kind} {spec.shape} in one task and "
                    f"{other.kind} {other.shape} in another; choose tasks that agree"
                )
            larger = ObservationSpec(max(spec.shape, other.shape), "vector")
            specs[key] = spec if spec == other else larger
    for key, spec in specs.items():
        lacking = [name for name, env in envs.items() if key not in env.observation_specs]
        if lacking and spec.kind == "image":
            raise UserError(f"{lacking[0]!r} has no image {key!r}; choose tasks that agree")
    return dict(sorted(specs.items()))


def _task(envs: Mapping[str, Env], specs: Mapping[str, ObservationSpec]) -> ObservationSpec:
    if TASK in specs:
        raise UserError(
            f"an observation is called {TASK!r}, as the one that says which task is played; rename "
            "it, or set env.task_one_hot false"
        )
    tasks = tuple(TaskSpec(name, env.action_spec.size, env.max_steps) for name, env in envs.items())
    return ObservationSpec((len(tasks),), "vector", (len(tasks),), (0,), tasks)
