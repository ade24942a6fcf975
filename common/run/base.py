"""What all runs do: learn, evaluate, film, log, save, and go on from there.

The *clock* of a run is what it counts its progress by, the x axis of everything that it
writes: frames where it collects experience (``common.run.online``), updates where it learns
from episodes that are there already (``common.run.offline``).
"""

from __future__ import annotations

import pathlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from common.agent import NORMALISERS
from common.envs.waiting import Stopped
from common.export import export
from common.files import WriteError
from common.logging import Logger, Sink, video
from common.model.imagine import CONTEXT
from common.replay import Prefetcher, Windows
from common.run import checkpoint
from common.run import folder as run_folder
from common.run.clocks import Meter, Silence, Stopwatch
from common.run.config import Settings
from common.run.driver import RandomPolicy
from common.run.ending import Ending
from common.run.evaluation import MakePolicy, Results, play_in
from common.run.learner import LeftOut
from common.run.program import Program
from common.run.progress import Progress
from common.run.protocols import Parts, Replay
from common.run.sinks import chosen_sinks, default_sinks, open_logger
from common.types import Rows


class BaseRun(ABC):
    """What a run is made of, and its counters.

    Attributes:
        CLOCK: What the run counts its progress by, in the plural.
        COUNTERS: Names of the integers below that a checkpoint keeps.
        frames: Simulator steps so far, all environments together; 0 where none is made.
        episodes: Episodes that ended so far; 0 where none is played.
        updates: Updates so far.
        evaluations: Evaluations so far.
    """

    CLOCK: str
    COUNTERS: tuple[str, ...] = ("updates", "evaluations")
    frames: int = 0
    episodes: int = 0
    updates: int
    evaluations: int

    def __init__(
        self,
        program: Program,
        config: Settings,
        logdir: pathlib.Path,
        parts: Parts,
        earlier: dict[str, Any],
        lock: run_folder.Lock,
    ):
        """Continues the counters and opens folder, replay and log.

        Args:
            program: The agent's program.
            config: Its configuration.
            logdir: Run folder.
            parts: Environments, learner and whoever listens.
            earlier: Metadata of that checkpoint; empty for a new run.
            lock: Of the folder, taken here where the folder is new.
        """
        self._program, self._config, self._schedule = program, config, config.run
        self._logdir, self._lock, self._parts = logdir, lock, parts
        self._envs, self._learner = parts.environments.training, parts.learner
        self._processes, self._ending = parts.processes, Ending(parts.processes, parts.told)
        for name in self.COUNTERS:
            setattr(self, name, earlier.get(name, 0))
        self._finished = self.finished(earlier)
        self._evaluation_due = earlier.get("evaluation_due", False)
        self._saved, self._save_due = time.monotonic(), False
        self._silence, self._stopwatch, self._left_out = Silence(), Stopwatch(), LeftOut()
        self._batches: Prefetcher[Windows, tuple[Windows, Rows]] | None = None
        self._inferred: tuple[Windows, Rows] | None = None
        self._replay: Replay
        self._logger: Logger | None = None
        self._open(earlier)

    @classmethod
    def finished(cls, earlier: dict[str, Any]) -> int:
        """The clock at which a run last reached its end, by a checkpoint; 0 before."""
        return earlier.get(f"finished_{cls.CLOCK}", 0)

    @classmethod
    def length(cls, config: Settings) -> int:
        """Length of the run by its clock."""
        return getattr(config.run, cls.CLOCK)

    @property
    def now(self) -> int:
        """How far the run is by its clock."""
        return getattr(self, self.CLOCK)

    @abstractmethod
    def _open(self, earlier: dict[str, Any]) -> None:
        """Makes the replay, ``_take_folder`` and ``_open_log``, and whatever else it needs.

        Args:
            earlier: Metadata of the checkpoint; empty for a new run.
        """

    @abstractmethod
    def _loop(self) -> None:
        """Runs until the end of the run, or until it is stopped."""

    @abstractmethod
    def _plan(self) -> str:
        """Says what the run is going to do, in some lines."""

    @abstractmethod
    def _progress(self) -> str:
        """Says how far the run is."""

    @abstractmethod
    def _metadata(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps besides counters and learner."""

    def go(self) -> bool:
        """Runs from wherever the run is to its end; returns whether it got there."""
        sizes = ", ".join(
            f"{name} {sum(x.size for x in jax.tree.leaves(params)):,}"
            for name, params in self._learner.params.items()
            if name != NORMALISERS
        )
        self._say(
            f"{self._program.name} on {self._config.task}, {self._num_envs} environment(s), "
            f"action repeat {self._envs.action_repeat}, on {self._learner.where}\n"
            f"parameters: {sizes}\n{self._plan()}\n{self._replay.memory_estimate()}\n"
            f"run folder: {self._logdir}"
        )
        for line in self._config.remarks(jax.default_backend()) if self._processes.first else ():
            print(f"warning: {line}", file=sys.stderr, flush=True)
        with self._ending.listening():
            if complete := self._work():
                self._finished = self.now
            self._write_back(None)
            try:
                self._save()
            except WriteError as error:
                raise self._ending.failure or error from None
        if not complete:
            self._say(f"stopped at {self._where}; the same command goes on from here")
        if self._ending.failure is not None:
            raise self._ending.failure
        return complete

    def _work(self) -> bool:
        """Goes to the end of the run; False where it was stopped before, by a full disk too."""
        try:
            if self.now == 0 and self._schedule.random_episodes:
                self._score_random()
            if self._evaluation_due and self.now < self.length(self._config):
                self._evaluate()
            self._loop()
            if self._ending.now:
                return False
            self._check_updates(over=True)
            return self._evaluate()
        except Stopped:
            return False
        except WriteError as error:
            self._ending.ask(error)
            return False

    def close(self) -> None:
        """Stops the background thread and closes the files."""
        if self._batches is not None:
            self._batches.close()
        if self._logger is not None:
            self._logger.close()

    @property
    def _num_envs(self) -> int:
        """Training environments of all processes."""
        return self._envs.num_envs * self._processes.amount

    def _take_folder(self) -> None:
        """Makes the folder where it is new, and keeps others out of it."""
        if self._processes.first:
            run_folder.make(self._logdir)
            self._lock.acquire()

    def _open_log(self, earlier: dict[str, Any]) -> None:
        """Writes the configuration and opens the log where the checkpoint ended."""
        sinks: list[Sink] = []
        if self._processes.first:
            run_folder.write(self._logdir, self._program.name, self._config)
            sinks = default_sinks(self._logdir, self.length(self._config), clock=self.CLOCK)
            sinks += chosen_sinks(self._logdir, self._program.name, self._config, self.CLOCK)
        self._ending.agree()
        run_folder.check_shared(self._logdir, self._processes)
        if self._processes.first:
            lent = self._parts.loggers
            self._logger = open_logger(self._logdir, *sinks, lent=lent, clock=self.CLOCK)
            self._logger.rewind(self.now if earlier else -1)
        if earlier:
            after = f" after {self.updates:,} updates" if self.CLOCK != "updates" else ""
            self._say(f"resumed at {self._where}{after}")
        self._meter = Meter(self.frames, self.updates)

    @property
    def _where(self) -> str:
        return f"{self.CLOCK.removesuffix('s')} {self.now:,}"

    def _say(self, text: str) -> None:
        """Prints it once, however many processes there are."""
        if self._processes.first:
            print(text, flush=True)

    def _log(self, metrics: Mapping[str, float]) -> None:
        """Writes a line of the log, with where the time went since the last one."""
        metrics = {**metrics, **self._stopwatch.take()}
        self._record(lambda: self._logger.write(self.now, metrics))
        self._silence.broken()
        self._check_updates()
        self._tell("metrics", metrics)

    def _tell(
        self, kind: Literal["metrics", "evaluation", "random"], metrics: Mapping[str, float]
    ) -> None:
        """Tells whoever watches, who may stop the run; what they raise waits for a checkpoint."""
        watch, total = self._parts.watch, self.length(self._config)
        if watch is None or self._ending.failure is not None or not self._processes.first:
            return
        now = Progress(kind, self.CLOCK, self.now, total, self.frames, self.updates, metrics)
        with self._ending.waits():
            if watch(now) == "stop":
                self._ending.ask()

    def _record(self, write: Callable[[], None]) -> None:
        """Writes to the log."""
        if self._processes.first:
            with self._ending.waits(), self._stopwatch.part("log"):
                write()

    def _agree(self, **mine: Any) -> list[dict[str, Any]]:
        """Exchanges with the other processes what decides how the run goes on."""
        due = time.monotonic() - self._saved > self._schedule.checkpoint_every
        heard = self._ending.agree(due=due, **mine)
        self._save_due = heard[0]["due"]
        return heard

    def _learn(self) -> None:
        """Makes one update."""
        if self._batches is None:
            replay = self._config.replay
            self._batches = Prefetcher(
                self._draw,
                lambda windows: (windows, self._learner.place(self._replay.gather(windows))),
                replay.prefetch,
            )
        with self._stopwatch.part("replay"):
            windows, batch = next(self._batches)
        with self._stopwatch.part("update", first="compiling"):
            metrics = self._learner.update(batch)
            self._write_back(windows)
        self._meter.add(metrics)
        self._left_out.add(metrics)
        self.updates += 1
        self._say_progress()
        self._agree()

    @abstractmethod
    def _draw(self) -> Windows:
        """Draws the rows of this process for an update."""

    def _write_back(self, windows: Windows | None) -> None:
        """Gives the replay what the update before inferred, while that of ``windows`` is made."""
        if self._inferred is not None:
            self._replay.write_back(self._inferred[0], jax.device_get(self._inferred[1]))
        latents = self._learner.latents
        self._inferred = (windows, latents) if latents and windows is not None else None

    def _check_updates(self, over: bool = False) -> None:
        """Says how many updates were left out; ends a run that learns nothing."""
        for line in self._left_out.take(over):
            if self._processes.first:
                print(f"warning: {line}", file=sys.stderr, flush=True)

    def _say_progress(self) -> None:
        """Breaks a long silence between two lines of the log."""
        if self._silence.too_long():
            self._say(self._progress())

    def _score_random(self) -> None:
        """Records what the random policy reaches, the baseline of the report."""
        episodes, seed = self._schedule.random_episodes, self._config.seed + 10_000
        policy = lambda envs: RandomPolicy(envs.action_spec, seed)  # noqa: E731

        def record(result: Results) -> None:
            self._say(f"random policy: {result}")
            self._record(lambda: self._logger.write(0, result.metrics("random")))
            self._tell("random", result.metrics("random"))

        self._play(policy, episodes, seed, record)

    def _evaluate(self) -> bool:
        """Plays episodes with the policy as it is evaluated; False where the run was stopped."""
        episodes = self._schedule.eval_episodes
        if not episodes:
            return True
        seed = self._config.seed + 20_000 + 1000 * self.evaluations
        policy = lambda envs: self._learner.evaluation_policy(envs.num_envs, seed)  # noqa: E731

        def record(result: Results) -> None:
            metrics = result.metrics("eval") | self._stopwatch.take()
            self._record(lambda: self._logger.write(self.now, metrics))
            self._say(f"evaluation at {self._where}: {result}")
            for name, film in result.videos.items():
                self._film(f"eval/{name}", film)
            self._tell("evaluation", result.metrics("eval"))

        played = self._play(policy, episodes, seed, record, film=self._schedule.video)
        self._evaluation_due = not played
        self.evaluations += played
        return played

    def _play(
        self,
        policy: MakePolicy,
        episodes: int,
        seed: int,
        record: Callable[[Results], None],
        film: bool = False,
    ) -> bool:
        """Plays episodes in environments of their own; False where the run was stopped.

        Of several processes the first one does.
        """
        makers = self._parts.environments.evaluation(self.episodes // self._num_envs)

        def work(stop: Callable[[], bool]) -> bool:
            result = play_in(makers, episodes, seed, policy, film=film, stop=stop)
            if result is not None:
                record(result)
            return result is not None

        with self._stopwatch.part("evaluation"):
            played = self._processes.alone(work, lambda: self._ending.asked)
        self._silence.broken()
        self._agree()
        return played

    def _report(self) -> None:
        """Films what the model imagines from a few rows of the replay."""
        if not self._processes.first:
            return
        length = max(self._config.replay.length, 2 * CONTEXT)
        if not self._replay.can_sample(length):
            return
        # Other draws than those of learning, which a film must not change.
        rng = np.random.default_rng([self._config.seed, self.now])
        with self._stopwatch.part("evaluation"):
            predictions = self._learner.report(self._replay.sample(6, length, rng))
            for name, pair in predictions.items():
                strip = video.open_loop_strip(pair.truth, pair.model, CONTEXT)
                self._film(f"open_loop/{name}", strip)

    def _film(self, name: str, video: np.ndarray) -> None:
        self._record(lambda: self._logger.video(self.now, name, video))

    def _save(self) -> None:
        """Writes replay, checkpoint and the export that ``load`` reads."""
        self._check_updates()
        with self._stopwatch.part("checkpoint"):
            self._replay.flush()
            ahead = self._batches.ahead if self._batches else None
            replays = self._processes.gather(self._replay.state(ahead))
            # Until it is written, nobody goes on, or leaves.
            self._processes.write(lambda: self._write(self._replay.join(replays)))
        self._saved, self._save_due = time.monotonic(), False

    def _write(self, replay: dict[str, Any]) -> None:
        metadata = {name: getattr(self, name) for name in self.COUNTERS} | self._metadata()
        metadata |= {f"finished_{self.CLOCK}": self._finished}
        metadata |= {"replay": replay, "evaluation_due": self._evaluation_due}
        directory, keep = self._logdir / run_folder.CHECKPOINTS, self._schedule.checkpoints
        checkpoint.save(directory, self.now, self._learner.tree(), metadata, keep)
        export(
            self._logdir / run_folder.EXPORT, self._program.name, self._config,
            self._envs.observation_specs, self._envs.action_spec, self._learner.params,
        )  # fmt: skip
        self._logger.flush()
