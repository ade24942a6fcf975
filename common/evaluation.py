"""Scores a policy: one episode in each of several environments."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from common.driver import AgentPolicy, Driver, Policy
from common.envs import make
from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.loading import LoadedAgent
from common.program import Program
from common.video import check_suffix, write_video


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


def evaluate(policy: Policy, envs: Envs, *, film: bool = False) -> Evaluation:
    """Plays one episode in each environment.

    Args:
        policy: Starts with empty memory.
        envs: Fresh from their construction.
        film: Whether to film the first environment.
    """
    driver = Driver(envs)
    returns = np.full(envs.num_envs, np.nan)
    lengths = np.zeros(envs.num_envs, np.int64)
    frames: list[np.ndarray] = []
    filming = film
    driver.act(None)
    driver.receive()
    while np.isnan(returns).any():
        if filming:
            picture = envs.render()
            if picture is None:
                filming = False
            else:
                frames.append(picture)
        driver.act(policy)
        driver.receive()
        for episode in driver.episodes:
            if np.isnan(returns[episode.env]):
                returns[episode.env] = episode.episode_return
                lengths[episode.env] = episode.length
                filming = filming and episode.env != 0
    return Evaluation(returns, lengths, np.stack(frames) if frames else None)


def evaluate_run(
    program: Program, logdir: pathlib.Path, *, episodes: int, seed: int, video: str | None
) -> Evaluation:
    """Evaluates a trained agent on its own task and prints the returns.

    Args:
        program: The agent's program.
        logdir: Run folder.
        episodes: Episodes to play.
        seed: Seed of environments and draws.
        video: Where to write a film of the first episode; None for nowhere.

    Raises:
        UserError: There is no trained agent, or the film's format is unknown.
    """
    if video is not None:
        check_suffix(pathlib.Path(video))
    agent = LoadedAgent(program, logdir, seed)
    config = agent.config
    envs = make_evaluation_envs(config.task, config.env, episodes, seed)
    try:
        policy = AgentPolicy(agent.act_function, agent.params, episodes, seed, "eval")
        result = evaluate(policy, envs, film=video is not None)
    finally:
        envs.close()
    for number, (score, length) in enumerate(zip(result.returns, result.lengths, strict=True)):
        print(f"episode {number + 1}: return {score:.1f}, {length} agent steps")
    print(
        f"{config.task}: mean return {result.returns.mean():.1f} ± {result.returns.std():.1f} "
        f"over {episodes} episodes"
    )
    if video is not None and result.video is not None:
        write_video(pathlib.Path(video), result.video)
        print(f"video: {video}")
    elif video is not None:
        print(f"no video: {config.task} cannot be drawn here; dreamer doctor says more")
    return result
