"""Scores a policy: as many episodes in each of several environments, of one task or of many."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.envs.fit import check_fits
from common.envs.registry import Task
from common.envs.waiting import Stopped, stopped_by
from common.logging.video import Film
from common.rows import COST, LOG_PREFIX
from common.run.clocks import Silence
from common.run.driver import AgentPolicy, Driver, Episode, NumpyRows, Policy
from common.run.environments import MakeEnvs, for_evaluation
from common.run.loading import LoadedAgent
from common.types import Mode


class Evaluation(NamedTuple):
    """Episodes of one evaluation.

    Attributes:
        returns: Undiscounted return of each episode ``[E]``.
        lengths: Agent steps of each episode ``[E]``.
        video: First episode as uint8 ``[T, height, width, 3]``; None where not filmed.
        costs: Sum of the costs of each episode ``[E]``; None where none are counted.
    """

    returns: np.ndarray
    lengths: np.ndarray
    video: np.ndarray | None
    costs: np.ndarray | None = None

    def __str__(self) -> str:
        """Says mean and deviation, and the mean cost where there is one."""
        mean, std = self.returns.mean(), self.returns.std()
        cost = "" if self.costs is None else f", cost {self.costs.mean():.1f}"
        return f"return {mean:.1f} ± {std:.1f} over {len(self.returns)} episodes{cost}"


@dataclasses.dataclass(frozen=True)
class Results:
    """Evaluations of one task or of several.

    Attributes:
        tasks: The evaluation of each task.
    """

    tasks: dict[Task, Evaluation]

    @property
    def all(self) -> Evaluation:
        """The episodes of all tasks in one."""
        each = list(self.tasks.values())
        returns, lengths = (np.concatenate(x) for x in list(zip(*each, strict=True))[:2])
        costs = [one.costs for one in each if one.costs is not None]
        whole = np.concatenate(costs) if len(costs) == len(each) else None
        return Evaluation(returns, lengths, None, whole)

    @property
    def videos(self) -> dict[str, np.ndarray]:
        """What was filmed: "policy", or "policy_<task>" of each of several tasks."""
        name = "policy" if len(self.tasks) == 1 else "policy_{}"
        films = {name.format(task): one.video for task, one in self.tasks.items()}
        return {name: film for name, film in films.items() if film is not None}

    def __str__(self) -> str:
        """Says mean and deviation, and the mean of each of several tasks."""
        means = [f"{task} {one.returns.mean():.1f}" for task, one in self.tasks.items()]
        return f"{self.all}" + (f" ({', '.join(means)})" if len(means) > 1 else "")

    def metrics(self, name: str) -> dict[str, float]:
        """Returns ``{name}/return_mean`` and the like, ``{name}/return/<task>`` of several."""
        returns, lengths, _, costs = self.all
        scalars = {
            f"{name}/return_mean": float(returns.mean()),
            f"{name}/return_std": float(returns.std()),
            f"{name}/return_min": float(returns.min()),
            f"{name}/return_max": float(returns.max()),
            f"{name}/length_mean": float(lengths.mean()),
        }
        if costs is not None:
            scalars[f"{name}/cost_mean"] = float(costs.mean())
        if len(self.tasks) > 1:
            means = {task: float(one.returns.mean()) for task, one in self.tasks.items()}
            scalars |= {f"{name}/return/{task}": mean for task, mean in means.items()}
        return scalars


MakePolicy = Callable[[Envs], Policy]
"""Returns a policy with empty memory for fresh environments."""


def trained_policy(agent: LoadedAgent, seed: int, mode: Mode = "eval") -> MakePolicy:
    """Returns what makes the policy of a trained agent.

    Args:
        agent: The agent.
        seed: Seed of its draws.
        mode: "train" explores, "eval" does what the agent does when it is evaluated.

    Returns:
        A function that raises a UserError where environments are not those that the agent
        was trained in.
    """

    def make_policy(envs: Envs) -> Policy:
        check_fits(agent.observations, agent.actions, envs, "the agent")
        return AgentPolicy(agent.act_function, agent.params, envs.num_envs, seed, mode)

    return make_policy


def play(
    task: Task,
    config: EnvConfig,
    episodes: int,
    seed: int,
    make_policy: MakePolicy,
    *,
    film: bool = False,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[NumpyRows], None] = lambda rows: None,
) -> Results | None:
    """Plays episodes of a task, or as many of each of several tasks.

    Each environment plays a number of episodes that is fixed beforehand, one where there are
    enough environments, so that no short episode is favoured.

    Args:
        task: As of ``common.envs.make``.
        config: How the environments are built.
        episodes: Episodes of each task.
        seed: Seed of the environments.
        make_policy: Called anew for each task.
        film: As of ``evaluate``.
        stop: As of ``evaluate``.
        watch: As of ``evaluate``.

    Returns:
        The evaluations; None where they were given up.
    """
    makers = for_evaluation(task, config)
    return play_in(makers, episodes, seed, make_policy, film=film, stop=stop, watch=watch)


def play_in(
    makers: Mapping[Task, MakeEnvs],
    episodes: int,
    seed: int,
    make_policy: MakePolicy,
    *,
    film: bool = False,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[NumpyRows], None] = lambda rows: None,
) -> Results | None:
    """``play`` in environments of any origin.

    Args:
        makers: Builds the environments of each task, which are closed after its episodes.
        episodes: Episodes of each task.
        seed: Seed of the environments.
        make_policy: Called anew for each task.
        film: As of ``evaluate``.
        stop: As of ``evaluate``.
        watch: As of ``evaluate``.

    Returns:
        The evaluations; None where they were given up.
    """
    results = {}
    for name, make in makers.items():
        try:
            with stopped_by(stop), contextlib.closing(make(seed, episodes)) as envs:
                policy = make_policy(envs)
                result = evaluate(policy, envs, episodes, film=film, stop=stop, watch=watch)
        except Stopped:
            result = None
        if result is None:
            return None
        results[name] = result
    return Results(results)


def evaluate(
    policy: Policy,
    envs: Envs,
    episodes: int = 0,
    *,
    film: bool = False,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[NumpyRows], None] = lambda rows: None,
) -> Evaluation | None:
    """Plays as many episodes in each environment; says how far it is when that takes long.

    An episode is cut where it goes on beyond the longest of the environment, or beyond
    ``LONGEST`` agent steps where that is not known; the environment then plays no other.

    Args:
        policy: Starts with empty memory.
        envs: Fresh from their construction.
        episodes: Episodes of all environments together; 0 for one of each.
        film: Whether to film the first environment.
        stop: Asked before every step; when true the episodes are given up.
        watch: Given the rows ``[N, ...]`` of every step, of the resets too; an environment
            that is done goes on while others play.

    Returns:
        The episodes; None where they were given up.
    """
    driver, silence, steps, begin = Driver(envs), Silence(), 0, 0.0
    plan = _Plan(envs, episodes or envs.num_envs)
    pictures = Film()
    driver.act(None)
    watch(driver.receive())
    while plan.left:
        if stop():
            return None
        if film and not plan.done[0]:
            pictures.add(envs.render)
        driver.act(policy)
        watch(driver.receive())
        steps += 1
        begin = begin or time.monotonic()  # The first step may have compiled the policy.
        plan.add(driver)
        if silence.too_long():
            left = time_left(steps - 1, plan.longest() - 1, time.monotonic() - begin)
            total = len(plan.played) + plan.left
            print(
                f"playing: step {steps:,}, {len(plan.played)} of {total} episodes are over{left}",
                flush=True,
            )
    returns = np.array([episode.episode_return for episode in plan.played])
    lengths = np.array([episode.length for episode in plan.played], np.int64)
    costs = [episode.extras.get(LOG_PREFIX + COST) for episode in plan.played]
    return Evaluation(
        returns, lengths, pictures.video() if film else None,
        None if None in costs else np.array(costs),
    )  # fmt: skip


class _Plan:
    """How many episodes each environment has played, and how many it should."""

    def __init__(self, envs: Envs, episodes: int):
        """Shares the episodes out."""
        self._envs = envs
        share, rest = divmod(episodes, envs.num_envs)
        self._wanted = [share + (env < rest) for env in range(envs.num_envs)]
        self.done: list[list[Episode]] = [[] for _ in range(envs.num_envs)]
        """Episodes of each environment that are over."""

    @property
    def left(self) -> int:
        """Episodes that are still to be played to their end."""
        return sum(self._wanted) - sum(map(len, self.done))

    @property
    def played(self) -> list[Episode]:
        """Episodes that are over, those of the first environment first."""
        return [episode for episodes in self.done for episode in episodes]

    def add(self, driver: Driver) -> None:
        """Takes what ended with the driver's newest rows, and cuts what is too long."""
        for episode in driver.episodes:
            if len(self.done[episode.env]) < self._wanted[episode.env]:
                self.done[episode.env].append(episode)
        for env in driver.overdue:
            if len(self.done[env]) < self._wanted[env]:
                self.done[env].append(driver.meter.so_far(env))
                self._wanted[env] = len(self.done[env])

    def longest(self) -> int:
        """Agent steps until the last episode ends at the latest; 0 where that is not known."""
        return self._envs.max_steps * max(self._wanted)


def time_left(steps: int, longest: int, seconds: float) -> str:
    """Says how long it will take at most, after a comma.

    Args:
        steps: Steps so far.
        longest: How many there may be at most; 0 where that is not known.
        seconds: What they took.

    Returns:
        "" where nothing is known yet.
    """
    if longest < 1 or steps < 1:
        return ""
    left = datetime.timedelta(seconds=round(seconds / steps * max(longest - steps, 0)))
    return f", at most {left} left"
