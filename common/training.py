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

from common import checkpoint, run_folder, video
from common.agent import Agent
from common.clocks import Every, Meter, Ratio
from common.driver import LOG_PREFIX, ActFunction, AgentPolicy, Driver, RandomPolicy
from common.envs import make
from common.envs.base import Envs
from common.evaluation import evaluate, make_evaluation_envs
from common.export import EXPORT, export
from common.imagine import CONTEXT
from common.logging import Logger, default_sinks
from common.program import Program
from common.replay import Prefetcher, Replay
from common.types import Rows

CHECKPOINTS = "checkpoints"
REPLAY = "replay"
_COUNTERS = ("frames", "agent_steps", "updates", "evaluations", "finished_frames")


def train(program: Program, config: Any, logdir: pathlib.Path) -> None:
    """Trains an agent until ``config.run.frames``, or until SIGTERM.

    Args:
        program: The agent's program.
        config: Its configuration.
        logdir: Run folder; made, or continued where it holds the same run.

    Raises:
        UserError: The folder holds another run, or something in the configuration or
            the environment is wrong.
    """
    run_folder.check(logdir, program.name, config)
    envs = make(config.task, config.env, config.seed, num_envs=config.env.amount)
    try:
        agent = program.make_agent(config, envs.observation_specs, envs.action_spec)
        run = Run(program, config, logdir, envs, agent)
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
        updates: Updates so far.
        evaluations: Evaluations so far.
        finished_frames: Frames at which the run last reached its end; 0 before.
    """

    def __init__(
        self, program: Program, config: Any, logdir: pathlib.Path, envs: Envs, agent: Agent
    ):
        """Builds learner, replay, policy and clocks; continues a run that is there."""
        self._program, self._config, self._schedule = program, config, config.run
        self._logdir, self._envs, self._agent = logdir, envs, agent
        self.frames = self.agent_steps = self.updates = self.evaluations = 0
        self.finished_frames = 0
        self._stopping = False
        self._replay = Replay(
            config.replay, logdir / REPLAY, _row_specs(envs), envs.num_envs, config.seed
        )
        # Jitted so that every array of the state has a buffer of its own to donate.
        self._state = jax.jit(agent.init)(jax.random.key(config.seed))
        self._update = jax.jit(agent.update, donate_argnums=0)
        self._report_function = jax.jit(agent.report)
        self._key = jax.random.key(config.seed + 1)
        self._act = ActFunction(agent)
        params = agent.params(self._state)
        self._policy = AgentPolicy(self._act, params, envs.num_envs, config.seed + 2, "train")
        self._random = RandomPolicy(envs.action_spec, config.seed)
        self._driver = Driver(envs)
        self._ratio = Ratio(1 / self._schedule.train_every)
        run_folder.write(logdir, program.name, config)
        self._logger = Logger(logdir, *default_sinks(logdir, self._schedule.frames))
        if checkpoint.latest(logdir / CHECKPOINTS) is not None:
            self._restore()
        else:  # A run that was killed before its first checkpoint starts again.
            self._replay.clear()
            self._logger.rewind(-1)
        self._meter = Meter(self.frames, self.updates)
        self._batches: Prefetcher | None = None
        self._compiled = False

    def go(self) -> None:
        """Runs from wherever the run is to its end."""
        if self.finished_frames >= self._schedule.frames:
            print(f"this run is complete at frame {self.frames:,}; raise --run.frames to go on")
            return
        self._print_plan()
        previous = signal.signal(signal.SIGTERM, self._stop)
        try:
            if self.frames == 0 and self._schedule.random_episodes:
                self._score_random()
            self._loop()
        finally:
            signal.signal(signal.SIGTERM, previous)
        if self._stopping:
            print(f"stopped at frame {self.frames:,}; the same command goes on from here")
        else:
            self._evaluate()
            self.finished_frames = self.frames
        self._save()

    def close(self) -> None:
        """Stops the background thread and closes the files."""
        if self._batches is not None:
            self._batches.close()
        self._logger.close()

    def _loop(self) -> None:
        schedule = self._schedule
        log = Every(schedule.log_every, self.frames)
        evaluation = Every(schedule.eval_every, self.frames)
        report = Every(schedule.report_every, self.frames)
        saved = time.monotonic()
        while self.frames < schedule.frames and not self._stopping:
            learning = self._ready()
            self._driver.act(self._policy if learning else self._random)
            if learning:
                for _ in range(self._due_updates()):
                    self._learn()
            self._receive()
            if report.due(self.frames) and learning and schedule.video:
                self._report()
            if evaluation.due(self.frames) and self.frames < schedule.frames:
                self._evaluate()
            if log.due(self.frames):
                self._logger.write(self.frames, self._meter.take(self.frames, self.updates))
            if time.monotonic() - saved > schedule.checkpoint_every:
                self._save()
                saved = time.monotonic()

    def _ready(self) -> bool:
        """Whether there is enough experience to learn from."""
        enough = self.agent_steps >= self._schedule.prefill
        return enough and self._replay.can_sample(self._config.replay.length)

    def _due_updates(self) -> int:
        pretrain = self._schedule.pretrain if self.updates == 0 else 0
        return self._ratio.due(self.agent_steps) + pretrain

    def _learn(self) -> None:
        """Makes one update."""
        if self._batches is None:
            replay = self._config.replay
            self._batches = Prefetcher(
                lambda: self._replay.sample(replay.batch, replay.length),
                jax.device_put,
                replay.prefetch,
            )
        self._key, key = jax.random.split(self._key)
        batch = next(self._batches)
        begin = time.monotonic()
        self._state, metrics = self._update(self._state, key, batch)
        if not self._compiled:
            jax.block_until_ready(self._state)
            print(f"compiled the update in {time.monotonic() - begin:.1f} s", flush=True)
            self._compiled = True
        self._policy.params = self._agent.params(self._state)
        self._meter.add(metrics)
        self.updates += 1

    def _receive(self) -> None:
        """Takes the rows that the environments return."""
        rows = self._driver.receive()
        self._replay.add(_without_log(rows))
        steps = int((~rows["is_first"]).sum())
        self.agent_steps += steps
        self.frames += steps * self._envs.action_repeat
        for episode in self._driver.episodes:
            scalars = {"return": episode.episode_return, "length": episode.length}
            scalars |= {key.removeprefix(LOG_PREFIX): x for key, x in episode.extras.items()}
            self._logger.score(self.frames, scalars)
            self._meter.add({f"episode/{key}": value for key, value in scalars.items()})

    def _score_random(self) -> None:
        """Records what the random policy reaches, the baseline of the report."""
        episodes = self._schedule.random_episodes
        seed = self._config.seed + 10_000
        policy = RandomPolicy(self._envs.action_spec, seed)
        envs = make_evaluation_envs(self._config.task, self._config.env, episodes, seed)
        try:
            result = evaluate(policy, envs)
        finally:
            envs.close()
        mean, std = result.returns.mean(), result.returns.std()
        print(f"random policy: return {mean:.1f} ± {std:.1f} over {episodes} episodes", flush=True)
        self._logger.write(0, result.metrics("random"))

    def _evaluate(self) -> None:
        """Plays episodes with the mode of the policy."""
        schedule, config = self._schedule, self._config
        if not schedule.eval_episodes:
            return
        seed = config.seed + 20_000 + 1000 * self.evaluations
        self.evaluations += 1
        envs = make_evaluation_envs(config.task, config.env, schedule.eval_episodes, seed)
        params = self._agent.params(self._state)
        policy = AgentPolicy(self._act, params, envs.num_envs, seed, "eval")
        try:
            result = evaluate(policy, envs, film=schedule.video)
        finally:
            envs.close()
        self._logger.write(self.frames, result.metrics("eval"))
        mean, std = result.returns.mean(), result.returns.std()
        print(
            f"evaluation at frame {self.frames:,}: return {mean:.1f} ± {std:.1f} over "
            f"{envs.num_envs} episodes",
            flush=True,
        )
        if result.video is not None:
            self._logger.video(self.frames, "eval/policy", result.video)

    def _report(self) -> None:
        """Films what the model imagines from a few rows of the replay."""
        length = max(self._config.replay.length, 2 * CONTEXT)
        if not self._replay.can_sample(length):
            return
        self._key, key = jax.random.split(self._key)
        batch = self._replay.sample(6, length)
        predictions = self._report_function(self._agent.params(self._state), key, batch)
        for name, pair in jax.device_get(predictions).items():
            strip = video.open_loop_strip(pair.truth, pair.model, CONTEXT)
            self._logger.video(self.frames, f"open_loop/{name}", strip)

    def _save(self) -> None:
        """Writes replay, checkpoint and the export that ``load`` reads."""
        self._replay.flush()
        metadata = {name: getattr(self, name) for name in _COUNTERS}
        metadata |= {"ratio": self._ratio.state(), "replay": self._replay.state()}
        directory = self._logdir / CHECKPOINTS
        keep = self._schedule.checkpoints
        checkpoint.save(directory, self.frames, self._tree(), metadata, keep)
        export(
            self._logdir / EXPORT, self._program.name, self._config,
            self._envs.observation_specs, self._envs.action_spec,
            self._agent.params(self._state),
        )  # fmt: skip
        self._logger.flush()

    def _restore(self) -> None:
        """Continues from the newest checkpoint."""
        tree, metadata = checkpoint.restore(self._logdir / CHECKPOINTS, self._tree())
        self._state, self._key = tree["agent"], tree["key"]
        self._policy.key = tree["policy_key"]
        self._policy.params = self._agent.params(self._state)
        for name in _COUNTERS:
            setattr(self, name, metadata[name])
        self._ratio.load(metadata["ratio"])
        self._replay.load_state(metadata["replay"])
        self._logger.rewind(self.frames)
        print(f"resumed at frame {self.frames:,} after {self.updates:,} updates")

    def _tree(self) -> dict[str, Any]:
        return {"agent": self._state, "key": self._key, "policy_key": self._policy.key}

    def _stop(self, *_: Any) -> None:
        self._stopping = True

    def _print_plan(self) -> None:
        schedule, envs = self._schedule, self._envs
        sizes = {
            name: sum(x.size for x in jax.tree.leaves(params))
            for name, params in self._agent.params(self._state).items()
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


def _row_specs(envs: Envs) -> dict[str, tuple[tuple[int, ...], Any]]:
    specs = {key: (spec.shape, spec.dtype) for key, spec in envs.observation_specs.items()}
    specs["action"] = (envs.action_spec.size,), np.float32
    specs["reward"] = (), np.float32
    return specs | {key: ((), bool) for key in ("is_first", "is_last", "is_terminal")}


def _without_log(rows: Rows) -> Rows:
    return {key: value for key, value in rows.items() if not key.startswith(LOG_PREFIX)}
