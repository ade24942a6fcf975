"""Scores a policy: one episode in each of several environments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from common.clocks import Silence
from common.driver import Driver, Policy
from common.envs import make
from common.envs.base import Envs
from common.envs.config import EnvConfig


class Evaluation(NamedTuple):
    """Episodes of one evaluation.

    Attributes:
        returns: Undiscounted return of each episode ``[E]``.
        lengths: Agent steps of each episode ``[E]``.
        video: First episode as uint8 ``[T, height, width, 3]``; None where not filmed.
    """

    returns: np.ndarray
    lengths: np.ndarray
    video: np.ndarray | None

    def __str__(self) -> str:
        """Says mean and deviation."""
        mean, std = self.returns.mean(), self.returns.std()
        return f"return {mean:.1f} ± {std:.1f} over {len(self.returns)} episodes"

    def metrics(self, name: str) -> dict[str, float]:
        """Returns scalars such as ``{name}/return_mean``."""
        return {
            f"{name}/return_mean": float(self.returns.mean()),
            f"{name}/return_std": float(self.returns.std()),
            f"{name}/return_min": float(self.returns.min()),
            f"{name}/return_max": float(self.returns.max()),
            f"{name}/length_mean": float(self.lengths.mean()),
        }


def make_evaluation_envs(task: str, config: EnvConfig, episodes: int, seed: int) -> Envs:
    """Builds one environment for each episode, so that no short episode is favoured."""
    return make(task, dataclasses.replace(config, workers="none"), seed, num_envs=episodes)


def evaluate(
    policy: Policy, envs: Envs, *, film: bool = False, stop: Callable[[], bool] = lambda: False
) -> Evaluation | None:
    """Plays one episode in each environment; says how far it is when that takes long.

    Args:
        policy: Starts with empty memory.
        envs: Fresh from their construction.
        film: Whether to film the first environment.
        stop: Asked before every step; when true the episodes are given up.

    Returns:
        The episodes; None where they were given up.
    """
    driver, silence = Driver(envs), Silence()
    returns = np.full(envs.num_envs, np.nan)
    lengths = np.zeros(envs.num_envs, np.int64)
    frames: list[np.ndarray] = []
    driver.act(None)
    driver.receive()
    while (playing := np.isnan(returns)).any():
        if stop():
            return None
        if film and playing[0]:
            picture = envs.render()
            film = picture is not None
            frames += [picture] if film else []
        driver.act(policy)
        driver.receive()
        for episode in driver.episodes:
            if playing[episode.env]:
                returns[episode.env] = episode.episode_return
                lengths[episode.env] = episode.length
        if silence.too_long():
            over = int((~np.isnan(returns)).sum())
            print(f"playing: {over} of {envs.num_envs} episodes are over", flush=True)
    return Evaluation(returns, lengths, np.stack(frames) if frames else None)
