"""The run loop. It knows rows, batches, clocks and the Agent protocol; no algorithm.

    fill the replay with random actions, then repeat:
        send the policy's actions to the environments
        make the updates that are due              (while the environments step)
        receive the rows, add them to the replay

A run is resumed by calling ``train`` again with the same folder: learner, counters,
random numbers, replay and logs continue; the environments start a new episode.
"""

from __future__ import annotations

import pathlib
import signal
import time
from typing import Any

import jax
import numpy as np

from common import checkpoint, report, run_folder, video
from common.clocks import Every, Meter, Ratio, Silence
from common.driver import LOG_PREFIX, Driver, RandomPolicy
from common.envs import make
from common.envs.base import Envs
from common.envs.multitask import FRAMES
from common.errors import UserError
from common.evaluation import MakePolicy, Results, play
from common.export import EXPORT, export
from common.imagine import CONTEXT
from common.learner import Learner
from common.logging import Logger, default_sinks
from common.program import Program
from common.replay import Prefetcher, Replay
from common.types import Rows

CHECKPOINTS = "checkpoints"
REPLAY = "replay"
STOP_SIGNALS = signal.SIGTERM, signal.SIGINT
_COUNTERS = ("frames", "agent_steps", "episodes", "updates") + ("evaluations", "finished_frames")


def train(program: Program, config: Any, logdir: pathlib.Path) -> None:
    """Trains an agent until ``config.run.frames``, or until SIGTERM or Ctrl-C.

    Args:
        program: The agent's program.
        config: Its configuration.
        logdir: Run folder; made, or continued where it holds the same run.

    Raises:
        UserError: The folder holds another run, or something in the configuration or
            the environment is wrong, or another process trains there. A folder without a
            checkpoint is then left as it was.
    """
    run_folder.check(logdir, program.name, config)
    lock = run_folder.Lock(logdir)
    lock.acquire()
    try:
        _train(program, config, logdir, lock)
    finally:
        lock.release()


def _train(program: Program, config: Any, logdir: pathlib.Path, lock: run_folder.Lock) -> None:
    directory = logdir / CHECKPOINTS
    newest = checkpoint.latest(directory)
    # A resumed run gets seeds of its own, or it would begin with the same episodes again.
    envs = make(config.task, config.env, config.seed + (newest or 0), config.env.amount)
    try:
        _check_length(config, envs)
        agent = program.make_agent(config, envs.observation_specs, envs.action_spec)
        learner = Learner(agent, envs.num_envs, config.seed)
        earlier: dict[str, Any] = {}
        if newest is not None:
            tree, earlier = checkpoint.restore(directory, learner.tree())
            learner.load(tree)
        if earlier and earlier["finished_frames"] >= config.run.frames:
            frames = earlier["frames"]
            print(f"this run is complete at frame {frames:,}; raise --run.frames to go on")
            return
        worth_keeping = lambda: checkpoint.latest(directory) is not None  # noqa: E731
        with run_folder.undone_on_error(logdir, worth_keeping):
            run = Run(program, config, logdir, envs, learner, earlier, lock)
            try:
                run.go()
            finally:
                run.close()
    finally:
        envs.close()


class Run:
    """What a run is made of, and its counters.

    Attributes:
        frames: Simulator steps so far, all environments together.
        agent_steps: Actions so far.
        episodes: Episodes that ended so far.
        updates: Updates so far.
        evaluations: Evaluations so far.
        finished_frames: Frames at which the run last reached its end; 0 before.
    """

    def __init__(
        self,
        program: Program,
        config: Any,
        logdir: pathlib.Path,
        envs: Envs,
        learner: Learner,
        earlier: dict[str, Any],
        lock: run_folder.Lock,
    ):
        """Opens replay and log, and continues the counters.

        Args:
            program: The agent's program.
            config: Its configuration.
            logdir: Run folder.
            envs: Fresh environments.
            learner: New, or restored from the checkpoint.
            earlier: Metadata of that checkpoint; empty for a new run.
            lock: Of the folder, taken here where the folder is new.
        """
        self._program, self._config, self._schedule = program, config, config.run
        self._logdir, self._envs, self._learner = logdir, envs, learner
        for name in _COUNTERS:
            setattr(self, name, earlier.get(name, 0))
        self._stopping = False
        self._silence = Silence()
        per_episode = self._schedule.updates_per_episode
        ratio = per_episode or 1 / self._schedule.train_every
        self._ratio = Ratio(ratio, first=self._schedule.pretrain)
        self._random = RandomPolicy(envs.action_spec, config.seed)
        self._driver = Driver(envs)
        self._driver.act(None)
        first = self._driver.receive()  # Environments that fail at once do so before any file.
        run_folder.make(logdir)
        lock.acquire()
        self._replay = Replay(
            config.replay, logdir / REPLAY, _row_specs(envs), envs.num_envs, config.seed
        )
        run_folder.write(logdir, program.name, config)
        self._logger = Logger(logdir, *default_sinks(logdir, self._schedule.frames))
        if earlier:
            self._ratio.load(earlier["ratio"])
            self._replay.load_state(earlier["replay"])
            self._logger.rewind(self.frames)
            print(f"resumed at frame {self.frames:,} after {self.updates:,} updates", flush=True)
        else:  # A run that was killed before its first checkpoint starts again.
            self._replay.clear()
            self._logger.rewind(-1)
        self._meter = Meter(self.frames, self.updates)
        self._batches: Prefetcher | None = None
        self._take(first)

    def go(self) -> None:
        """Runs from wherever the run is to its end."""
        self._print_plan()
        previous = {name: signal.signal(name, self._stop) for name in STOP_SIGNALS}
        try:
            if self.frames == 0 and self._schedule.random_episodes:
                self._score_random()
            self._loop()
            if not self._stopping:
                self._evaluate()
            if not self._stopping:
                self.finished_frames = self.frames
            self._save()
        finally:
            for name, handler in previous.items():
                signal.signal(name, handler)
        if self._stopping:
            print(f"stopped at frame {self.frames:,}; the same command goes on from here")
        else:
            print(f"report: {report.write_report(self._logdir)}", flush=True)

    def close(self) -> None:
        """Stops the background thread and closes the files."""
        if self._batches is not None:
            self._batches.close()
        self._logger.close()

    def _loop(self) -> None:
        schedule = self._schedule
        log = Every(schedule.log_every, self.frames)
        evaluation = Every(schedule.eval_every, self.frames)
        filming = Every(schedule.report_every, self.frames)
        saved = time.monotonic()
        while self.frames < schedule.frames and not self._stopping:
            learning = self._ready()
            self._driver.act(self._learner.policy if learning else self._random)
            clock = self.episodes if schedule.updates_per_episode else self.agent_steps
            while learning and not self._stopping and self._ratio.due(clock):
                self._learn()
            self._take(self._driver.receive())
            if filming.due(self.frames) and learning and schedule.video:
                self._report()
            if evaluation.due(self.frames) and self.frames < schedule.frames:
                self._evaluate()
            if log.due(self.frames):
                self._logger.write(self.frames, self._meter.take(self.frames, self.updates))
                self._silence.broken()
            self._say_progress()
            if time.monotonic() - saved > schedule.checkpoint_every:
                self._save()
                saved = time.monotonic()

    def _ready(self) -> bool:
        """Whether there is enough experience to learn from."""
        schedule = self._schedule
        enough = self.agent_steps >= schedule.prefill and self.episodes >= schedule.prefill_episodes
        return enough and self._replay.can_sample(self._config.replay.length)

    def _learn(self) -> None:
        """Makes one update."""
        if self._batches is None:
            replay = self._config.replay
            self._batches = Prefetcher(
                lambda: self._replay.sample(replay.batch, replay.length),
                jax.device_put,
                replay.prefetch,
            )
        self._meter.add(self._learner.update(next(self._batches)))
        self.updates += 1
        self._say_progress()

    def _say_progress(self) -> None:
        """Breaks a long silence between two lines of the log."""
        if self._silence.too_long():
            print(f"at frame {self.frames:,} after {self.updates:,} updates", flush=True)

    def _take(self, rows: Rows) -> None:
        """Keeps and counts the rows that the environments returned."""
        self._replay.add(_without_log(rows))
        steps = ~rows["is_first"]
        self.agent_steps += int(steps.sum())
        repeats = rows.get(FRAMES, np.full(len(steps), self._envs.action_repeat))
        self.frames += int(np.nansum(repeats[steps]))
        self.episodes += len(self._driver.episodes)
        for episode in self._driver.episodes:
            scalars = {"return": episode.episode_return, "length": episode.length}
            scalars |= {key.removeprefix(LOG_PREFIX): x for key, x in episode.extras.items()}
            self._logger.score(self.frames, scalars)
            self._meter.add({f"episode/{key}": value for key, value in scalars.items()})

    def _score_random(self) -> None:
        """Records what the random policy reaches, the baseline of the report."""
        episodes, seed = self._schedule.random_episodes, self._config.seed + 10_000
        result = self._play(lambda envs: RandomPolicy(envs.action_spec, seed), episodes, seed)
        if result is not None:
            print(f"random policy: {result}", flush=True)
            self._logger.write(0, result.metrics("random"))

    def _evaluate(self) -> None:
        """Plays episodes with the mode of the policy."""
        episodes = self._schedule.eval_episodes
        if not episodes:
            return
        seed = self._config.seed + 20_000 + 1000 * self.evaluations
        make_policy = lambda envs: self._learner.evaluation_policy(envs.num_envs, seed)  # noqa: E731
        result = self._play(make_policy, episodes, seed, film=self._schedule.video)
        if result is None:
            return
        self.evaluations += 1
        self._logger.write(self.frames, result.metrics("eval"))
        print(f"evaluation at frame {self.frames:,}: {result}", flush=True)
        for name, film in result.videos.items():
            self._logger.video(self.frames, f"eval/{name}", film)

    def _play(
        self, make_policy: MakePolicy, episodes: int, seed: int, film: bool = False
    ) -> Results | None:
        """Plays episodes in environments of their own; None where the run was stopped."""
        task, env, stop = self._config.task, self._config.env, lambda: self._stopping
        result = play(task, env, episodes, seed, make_policy, film=film, stop=stop)
        self._silence.broken()
        return result

    def _report(self) -> None:
        """Films what the model imagines from a few rows of the replay."""
        length = max(self._config.replay.length, 2 * CONTEXT)
        if not self._replay.can_sample(length):
            return
        predictions = self._learner.report(self._replay.sample(6, length))
        for name, pair in predictions.items():
            strip = video.open_loop_strip(pair.truth, pair.model, CONTEXT)
            self._logger.video(self.frames, f"open_loop/{name}", strip)

    def _save(self) -> None:
        """Writes replay, checkpoint and the export that ``load`` reads."""
        self._replay.flush()
        metadata = {name: getattr(self, name) for name in _COUNTERS}
        metadata |= {"ratio": self._ratio.state(), "replay": self._replay.state()}
        directory = self._logdir / CHECKPOINTS
        keep = self._schedule.checkpoints
        checkpoint.save(directory, self.frames, self._learner.tree(), metadata, keep)
        export(
            self._logdir / EXPORT, self._program.name, self._config,
            self._envs.observation_specs, self._envs.action_spec, self._learner.params,
        )  # fmt: skip
        self._logger.flush()

    def _stop(self, *_: Any) -> None:
        """Ends the run at its next step; a second Ctrl-C ends it at once."""
        self._stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _print_plan(self) -> None:
        schedule, envs = self._schedule, self._envs
        sizes = {
            name: sum(x.size for x in jax.tree.leaves(params))
            for name, params in self._learner.params.items()
        }
        device = jax.devices()[0]
        steps = (schedule.frames // envs.action_repeat) - schedule.prefill
        print(
            f"{self._program.name} on {self._config.task}, {envs.num_envs} environment(s), "
            f"action repeat {envs.action_repeat}, on {device.device_kind}\n"
            f"parameters: {', '.join(f'{name} {size:,}' for name, size in sizes.items())}\n"
            f"{schedule.frames:,} frames = {schedule.frames // envs.action_repeat:,} agent steps, "
            f"about {max(0, int(steps / schedule.train_every)):,} updates of "
            f"{self._config.replay.batch}x{self._config.replay.length} rows after "
            f"{schedule.prefill:,} random agent steps\n"
            f"{self._replay.memory_estimate()}\n"
            f"run folder: {self._logdir}",
            flush=True,
        )


def _check_length(config: Any, envs: Envs) -> None:
    """Raises a UserError where a run would end before it learns anything."""
    steps = max(config.run.prefill, config.replay.length * envs.num_envs)
    frames = steps * envs.action_repeat
    if config.run.frames <= frames:
        raise UserError(
            f"run.frames is {config.run.frames:,}, but learning starts after {frames:,} frames "
            f"(run.prefill, replay.length); raise --run.frames or lower --run.prefill"
        )


def _row_specs(envs: Envs) -> dict[str, tuple[tuple[int, ...], Any]]:
    specs = {key: (spec.shape, spec.dtype) for key, spec in envs.observation_specs.items()}
    specs["action"] = (envs.action_spec.size,), np.float32
    specs["reward"] = (), np.float32
    return specs | {key: ((), bool) for key in ("is_first", "is_last", "is_terminal")}


def _without_log(rows: Rows) -> Rows:
    return {key: value for key, value in rows.items() if not key.startswith(LOG_PREFIX)}
