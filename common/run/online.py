"""Learning from experience that the run collects. It knows rows, clocks and ratios; no algorithm.

fill the replay with random actions, until the episodes end, then repeat:
    send the policy's actions to the environments
    make the updates that are due              (while the environments step)
    receive the rows, add them to the replay
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.envs.multitask import FRAMES
from common.envs.registry import split
from common.errors import UserError, warn_once
from common.replay import Replay, Share, Windows
from common.rows import COST, EXPLORES, LOG_PREFIX, row_specs, without_log
from common.run import folder as run_folder
from common.run.base import BaseRun
from common.run.clocks import Every, Ratio
from common.run.config import Settings
from common.run.driver import Driver, Episode, Policy, RandomPolicy
from common.types import Rows


class OnlineRun(BaseRun):
    """A run that collects what it learns from.

    Attributes:
        frames: Simulator steps so far, all environments together.
        agent_steps: Actions so far.
        rows: Rows so far, those of resets included.
    """

    CLOCK = "frames"
    COUNTERS = ("frames", "agent_steps", "rows", "episodes", "updates", "evaluations")

    def _open(self, earlier: dict[str, Any]) -> None:
        """Begins the first episodes, and opens replay and log."""
        config, envs = self._config, self._envs
        self._ready = False
        per_episode, self._tasks = self._schedule.updates_per_episode, len(split(config.task))
        ratio = per_episode or config.updates_per_step()
        self._ratio = Ratio(ratio, first=self._schedule.pretrain)
        # A run that goes on does not draw again what it began with.
        self._random = RandomPolicy(envs.action_spec, config.seed + self.agent_steps)
        self._policy = Handover(
            self._random, self._timed_policy, self._num_envs, self._schedule.prefill
        )
        self._driver = Driver(envs)
        self._driver.act(None)
        first = self._driver.receive()  # Environments that fail at once do so before any file.
        self._take_folder()
        specs = row_specs(envs.observation_specs, envs.action_spec, COST in first)
        specs |= self._learner.latent_specs
        share = Share(self._processes.index, self._processes.amount)
        directory = self._logdir / run_folder.REPLAY
        self._replay = Replay(config.replay, directory, specs, envs.num_envs, config.seed, share)
        if earlier:
            self._ratio.load(earlier["ratio"])
            self._replay.load_state(earlier["replay"])
        else:  # A run that was killed before its first checkpoint starts again.
            self._replay.clear()
        self._open_log(earlier)
        self._take(first)

    def _loop(self) -> None:
        schedule = self._schedule
        log = Every(schedule.log_every, self.frames)
        evaluation = Every(schedule.eval_every, self.frames)
        filming = Every(schedule.report_every, self.frames)
        while self.frames < schedule.frames and not self._ending.now:
            filled = self._filled()
            learning = filled and self._ready
            with self._stopwatch.part("environment"):
                self._driver.act(self._policy if filled else self._random)
            if filled and self._learner.latent_specs:
                self._replay.annotate(self._learner.policy.latents)
            while learning and not self._ending.now and self._ratio.due(self._clock):
                self._learn()
            with self._stopwatch.part("environment"):
                rows = self._driver.receive()
            self._take(rows)
            if filming.due(self.frames) and learning and schedule.video:
                self._report()
            if evaluation.due(self.frames) and self.frames < schedule.frames:
                self._evaluate()
            if log.due(self.frames):
                self._log(self._meter.take(self.frames, self.updates))
            self._say_progress()
            if self._save_due:
                self._save()

    def _timed_policy(self, rows: Rows) -> np.ndarray:
        """Acts by the learner's policy, once it has the parameters of the newest update."""
        if until := self._learner.explores_until:
            rows = {**rows, EXPLORES: np.full(self._envs.num_envs, self.frames < until)}
        with self._stopwatch.part("update"):
            self._learner.wait()
        with self._stopwatch.part("acting", first="compiling"):
            return self._learner.policy(rows)

    def _filled(self) -> bool:
        """Whether there is enough experience of the random policy."""
        schedule = self._schedule
        episodes = schedule.prefill_episodes * self._tasks
        return self.agent_steps >= schedule.prefill and self.episodes >= episodes

    @property
    def _clock(self) -> int:
        """What updates are due by."""
        if self._schedule.updates_per_episode:
            return self.episodes // self._tasks
        return self.rows if self._schedule.train_ratio else self.agent_steps

    def _take(self, rows: Rows) -> None:
        """Keeps the rows that the environments returned, and counts those of all processes."""
        with self._stopwatch.part("replay"):
            self._replay.add(without_log(rows))
        steps = ~rows["is_first"]
        repeats = rows.get(FRAMES, np.full(len(steps), self._envs.action_repeat))
        heard = self._agree(
            agent_steps=int(steps.sum()),
            rows=len(steps),
            frames=int(np.nansum(repeats[steps])),
            episodes=[_scalars(episode) for episode in self._driver.episodes],
            ready=self._replay.can_sample(self._config.replay.window),
        )
        for name in ("agent_steps", "rows", "frames"):
            setattr(self, name, getattr(self, name) + sum(one[name] for one in heard))
        self._ready = all(one["ready"] for one in heard)
        episodes = [scalars for one in heard for scalars in one["episodes"]]
        self.episodes += len(episodes)
        for scalars in episodes:
            self._record(lambda scalars=scalars: self._logger.score(self.frames, scalars))
            self._meter.add({f"episode/{key}": value for key, value in scalars.items()})

    def _draw(self) -> Windows:
        replay = self._config.replay
        return self._replay.draw(replay.batch // self._processes.amount, replay.window)

    def _progress(self) -> str:
        return f"at frame {self.frames:,} after {self.updates:,} updates"

    def _metadata(self) -> dict[str, Any]:
        return {"ratio": self._ratio.state()}

    def _plan(self) -> str:
        schedule, repeat, replay = self._schedule, self._envs.action_repeat, self._config.replay
        if schedule.updates_per_episode:
            each = f"{self._tasks} episodes" if self._tasks > 1 else "episode"
            amount = f"{schedule.updates_per_episode:,} updates per {each}"
        else:
            given = self._config, self._num_envs
            before = max(_steps_before(*given), _longest_before(*given, self._envs.max_steps))
            amount = f"about {_updates(self._config, repeat, before):,} updates"
        begin = f"{schedule.prefill:,} random agent steps"
        if episodes := schedule.prefill_episodes * self._tasks:
            begin += f" and {episodes} episodes"
        return (
            f"{schedule.frames:,} frames = {schedule.frames // repeat:,} agent steps, {amount} of "
            f"{replay.batch}x{replay.length} rows after {begin}"
        )


class Handover:
    """Random actions until an environment begins its next episode, those of a policy from there.

    A policy that began in the middle of an episode would know nothing of what came before. While
    some environments have begun and others have not, it is shown the rows of those others as if an
    episode began with each: it remembers no action that it chose and that nobody took, and what it
    notes of a row says nothing of the rows before.
    """

    def __init__(self, random: Policy, policy: Policy, num_envs: int, prefill: int):
        """Begins at random everywhere.

        Args:
            random: Acts first.
            policy: Takes over.
            num_envs: The environments, of all processes together.
            prefill: Agent steps that were random before, of all environments together. After
                as many again the policy takes over everywhere, since some episodes never end.
        """
        self._random, self._policy = random, policy
        self._begun: Any = np.False_
        self._left = prefill // num_envs

    def __call__(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        """Returns actions ``[N, A]`` for rows ``[N, ...]``."""
        first = rows["is_first"] | ~self._begun
        self._begun = self._begun | rows["is_first"] | (self._left <= 0)
        self._left -= 1
        if not self._begun.any():
            return self._random(rows)
        actions = self._policy({**rows, "is_first": first})
        if self._begun.all():
            return actions
        return np.where(self._begun[:, None], actions, self._random(rows))


def _scalars(episode: Episode) -> dict[str, float]:
    """Returns what is logged of an episode."""
    scalars = {"return": episode.episode_return, "length": episode.length}
    return scalars | {key.removeprefix(LOG_PREFIX): x for key, x in episode.extras.items()}


def check_length(config: Settings, repeat: int, num_envs: int, max_steps: int = 0) -> None:
    """Raises a UserError where a run would end before it learns anything.

    Args:
        config: Of the run.
        repeat: Simulator steps per action of its environments.
        num_envs: How many there are, those of all processes.
        max_steps: Actions of their longest episode; 0 where that is not known.
    """
    before = _steps_before(config, num_envs)
    frames = before * repeat
    if config.run.frames <= frames:
        raise UserError(
            f"run.frames is {config.run.frames:,}, but learning starts after {frames:,} frames "
            f"(run.prefill, replay.length); raise --run.frames or lower --run.prefill"
        )
    longest = _longest_before(config, num_envs, max_steps) * repeat
    if config.run.frames <= longest:
        warn_once(
            f"run.frames is {config.run.frames:,}, and learning starts after episodes that take up "
            f"to {longest:,} frames; raise --run.frames or lower --run.prefill_episodes"
        )
    if not config.run.updates_per_episode and not _updates(config, repeat, before):
        option = "run.train_ratio" if config.run.train_ratio else "run.train_every"
        raise UserError(
            f"{option} is {getattr(config.run, option[4:]):g}, which makes no update in "
            f"{config.run.frames:,} frames; give more updates or more frames"
        )


def _steps_before(config: Settings, num_envs: int) -> int:
    """Agent steps until learning starts, all environments counted."""
    rows = num_envs * config.replay.rows
    return max(config.run.prefill, rows, config.replay.minimum + rows - num_envs)


def _longest_before(config: Settings, num_envs: int, max_steps: int) -> int:
    """Agent steps until the first episodes are over, were all as long as they can be.

    It is 0 where none are waited for, or nobody knows how long they can be.
    """
    wanted = config.run.prefill_episodes * len(split(config.task))
    return -(-wanted // num_envs) * num_envs * max_steps


def _updates(config: Settings, repeat: int, before: int) -> int:
    """About how many updates a run makes that makes them by agent steps.

    Args:
        config: Of the run.
        repeat: Simulator steps per action.
        before: Agent steps before the first one.
    """
    steps = config.run.frames // repeat - before
    return config.run.pretrain + max(0, int(steps * config.updates_per_step()))
