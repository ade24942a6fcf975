"""What all runs do: learn, evaluate, film, log, save, and go on from there.

The *clock* of a run is what it counts its progress by, the x axis of everything that it
writes: frames where it collects experience (``common.run.online``), updates where it learns
from episodes that are there already (``common.run.offline``).
"""

from __future__ import annotations

import contextlib
import pathlib
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from common.agent import NORMALISERS
from common.envs.waiting import Stopped, leave, stopped_by
from common.export import export
from common.files import WriteError
from common.logging import Logger, Sink, video
from common.model.imagine import CONTEXT
from common.replay import Prefetcher, Windows
from common.run import checkpoint
from common.run import folder as run_folder
from common.run.clocks import Meter, Silence
from common.run.config import Settings
from common.run.driver import RandomPolicy
from common.run.environments import Environments
from common.run.evaluation import MakePolicy, Results, play_in
from common.run.learner import LeftOut
from common.run.program import Program
from common.run.progress import Progress, Watch
from common.run.protocols import Learner, Replay
from common.run.sinks import chosen_sinks, default_sinks, open_logger
from common.types import Rows

STOP_SIGNALS = signal.SIGTERM, signal.SIGINT


class Parts(NamedTuple):
    """What a run is given.

    Attributes:
        environments: What it plays in.
        learner: New, or restored from the checkpoint.
        loggers: Where metrics and videos go besides the run's own log.
        watch: Told of every line of the log, and may stop the run; None for nobody.
    """

    environments: Environments
    learner: Learner
    loggers: Sequence[Sink] = ()
    watch: Watch | None = None


class BaseRun(ABC):
    """What a run is made of, and its counters.

    Attributes:
        CLOCK: What the run counts its progress by, in the plural.
        COUNTERS: Names of the integers below that a checkpoint keeps.
        frames: Simulator steps so far, all environments together; 0 where none is made.
        updates: Updates so far.
        evaluations: Evaluations so far.
    """

    CLOCK: str
    COUNTERS: tuple[str, ...] = ("updates", "evaluations")
    frames: int = 0
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
        for name in self.COUNTERS:
            setattr(self, name, earlier.get(name, 0))
        self._finished = self.finished(earlier)
        self._evaluation_due = earlier.get("evaluation_due", False)
        self._stopping = False
        self._failure: BaseException | None = None
        self._silence = Silence()
        self._batches: Prefetcher[Windows, tuple[Windows, Rows]] | None = None
        self._inferred: tuple[Windows, Rows] | None = None
        self._left_out = LeftOut()
        self._replay: Replay
        self._logger: Logger
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
        print(
            f"{self._program.name} on {self._config.task}, {self._envs.num_envs} environment(s), "
            f"action repeat {self._envs.action_repeat}, on {self._learner.where}\n"
            f"parameters: {sizes}\n{self._plan()}\n{self._replay.memory_estimate()}\n"
            f"run folder: {self._logdir}",
            flush=True,
        )
        with self._stopped_by_signals(), stopped_by(lambda: self._stopping):
            complete = self._work()
            if complete:
                self._finished = self.now
            try:
                self._save()
            except WriteError as error:
                raise self._failure or error from None
        if not complete:
            print(f"stopped at {self._where}; the same command goes on from here", flush=True)
        if self._failure is not None:
            raise self._failure
        return complete

    def _work(self) -> bool:
        """Goes to the end of the run; False where it was stopped before, by a full disk too."""
        try:
            if self.now == 0 and self._schedule.random_episodes:
                self._score_random()
            if self._evaluation_due and self.now < self.length(self._config):
                self._evaluate()
            self._loop()
            if self._stopping:
                return False
            self._check_updates(over=True)
            return self._evaluate()
        except Stopped:
            return False
        except WriteError as error:
            self._failure, self._stopping = self._failure or error, True
            return False

    def close(self) -> None:
        """Stops the background thread and closes the files."""
        if self._batches is not None:
            self._batches.close()
        self._logger.close()

    def _take_folder(self) -> None:
        """Makes the folder where it is new, and keeps others out of it."""
        run_folder.make(self._logdir)
        self._lock.acquire()

    def _open_log(self, earlier: dict[str, Any]) -> None:
        """Writes the configuration and opens the log where the checkpoint ended."""
        run_folder.write(self._logdir, self._program.name, self._config)
        sinks = default_sinks(self._logdir, self.length(self._config), clock=self.CLOCK)
        sinks += chosen_sinks(self._logdir, self._program.name, self._config, self.CLOCK)
        lent = self._parts.loggers
        self._logger = open_logger(self._logdir, *sinks, lent=lent, clock=self.CLOCK)
        self._logger.rewind(self.now if earlier else -1)
        if earlier:
            after = f" after {self.updates:,} updates" if self.CLOCK != "updates" else ""
            print(f"resumed at {self._where}{after}", flush=True)
        self._meter = Meter(self.frames, self.updates)

    @property
    def _where(self) -> str:
        return f"{self.CLOCK.removesuffix('s')} {self.now:,}"

    def _log(self, metrics: Mapping[str, float]) -> None:
        """Writes a line of the log."""
        self._record(lambda: self._logger.write(self.now, metrics))
        self._silence.broken()
        self._check_updates()
        self._tell("metrics", metrics)

    def _tell(
        self, kind: Literal["metrics", "evaluation", "random"], metrics: Mapping[str, float]
    ) -> None:
        """Tells whoever watches, who may stop the run; what they raise waits for a checkpoint."""
        watch, total = self._parts.watch, self.length(self._config)
        if watch is None or self._failure is not None:
            return
        now = Progress(kind, self.CLOCK, self.now, total, self.frames, self.updates, metrics)
        with self._after_a_checkpoint():
            if watch(now) == "stop":
                self._stopping = True

    def _record(self, write: Callable[[], None]) -> None:
        """Writes to the log."""
        with self._after_a_checkpoint():
            write()

    @contextlib.contextmanager
    def _after_a_checkpoint(self) -> Iterator[None]:
        """What the log or the caller's code raises ends the run, after a checkpoint."""
        try:
            yield
        except (Exception, SystemExit, KeyboardInterrupt) as failure:
            self._failure, self._stopping = self._failure or failure, True

    def _learn(self) -> None:
        """Makes one update."""
        if self._batches is None:
            replay = self._config.replay
            self._batches = Prefetcher(
                lambda: self._replay.draw(replay.batch, replay.window),
                lambda windows: (windows, self._learner.place(self._replay.gather(windows))),
                replay.prefetch,
            )
        windows, batch = next(self._batches)
        metrics = self._learner.update(batch)
        self._write_back(windows)
        self._meter.add(metrics)
        self._left_out.add(metrics)
        self.updates += 1
        self._say_progress()

    def _write_back(self, windows: Windows) -> None:
        """Gives the replay what the update before this one inferred, while this one is made."""
        if self._inferred is not None:
            self._replay.write_back(self._inferred[0], jax.device_get(self._inferred[1]))
        if self._learner.latents:
            self._inferred = windows, self._learner.latents

    def _check_updates(self, over: bool = False) -> None:
        """Says how many updates were left out; ends a run that learns nothing."""
        for line in self._left_out.take(over):
            print(f"warning: {line}", file=sys.stderr, flush=True)

    def _say_progress(self) -> None:
        """Breaks a long silence between two lines of the log."""
        if self._silence.too_long():
            print(self._progress(), flush=True)

    def _score_random(self) -> None:
        """Records what the random policy reaches, the baseline of the report."""
        episodes, seed = self._schedule.random_episodes, self._config.seed + 10_000
        result = self._play(lambda envs: RandomPolicy(envs.action_spec, seed), episodes, seed)
        if result is not None:
            print(f"random policy: {result}", flush=True)
            self._record(lambda: self._logger.write(0, result.metrics("random")))
            self._tell("random", result.metrics("random"))

    def _evaluate(self) -> bool:
        """Plays episodes with the mode of the policy; False where the run was stopped."""
        episodes = self._schedule.eval_episodes
        if not episodes:
            return True
        seed = self._config.seed + 20_000 + 1000 * self.evaluations
        make_policy = lambda envs: self._learner.evaluation_policy(envs.num_envs, seed)  # noqa: E731
        result = self._play(make_policy, episodes, seed, film=self._schedule.video)
        self._evaluation_due = result is None
        if result is None:
            return False
        self.evaluations += 1
        self._record(lambda: self._logger.write(self.now, result.metrics("eval")))
        print(f"evaluation at {self._where}: {result}", flush=True)
        for name, film in result.videos.items():
            self._film(f"eval/{name}", film)
        self._tell("evaluation", result.metrics("eval"))
        return True

    def _play(
        self, make_policy: MakePolicy, episodes: int, seed: int, film: bool = False
    ) -> Results | None:
        """Plays episodes in environments of their own; None where the run was stopped."""
        makers, stop = self._parts.environments.evaluation, lambda: self._stopping
        result = play_in(makers, episodes, seed, make_policy, film=film, stop=stop)
        self._silence.broken()
        return result

    def _report(self) -> None:
        """Films what the model imagines from a few rows of the replay."""
        length = max(self._config.replay.length, 2 * CONTEXT)
        if not self._replay.can_sample(length):
            return
        # Other draws than those of learning, which a film must not change.
        rng = np.random.default_rng([self._config.seed, self.now])
        predictions = self._learner.report(self._replay.sample(6, length, rng))
        for name, pair in predictions.items():
            strip = video.open_loop_strip(pair.truth, pair.model, CONTEXT)
            self._film(f"open_loop/{name}", strip)

    def _film(self, name: str, video: np.ndarray) -> None:
        self._record(lambda: self._logger.video(self.now, name, video))

    def _save(self) -> None:
        """Writes replay, checkpoint and the export that ``load`` reads."""
        self._check_updates()
        self._replay.flush()
        ahead = self._batches.ahead if self._batches else None
        metadata = {name: getattr(self, name) for name in self.COUNTERS} | self._metadata()
        metadata |= {f"finished_{self.CLOCK}": self._finished}
        metadata |= {"replay": self._replay.state(ahead), "evaluation_due": self._evaluation_due}
        directory, keep = self._logdir / run_folder.CHECKPOINTS, self._schedule.checkpoints
        checkpoint.save(directory, self.now, self._learner.tree(), metadata, keep)
        export(
            self._logdir / run_folder.EXPORT, self._program.name, self._config,
            self._envs.observation_specs, self._envs.action_spec, self._learner.params,
        )  # fmt: skip
        self._logger.flush()

    @contextlib.contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """Listens to signals, where the run has the main thread; another may not."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {name: signal.signal(name, self._stop) for name in STOP_SIGNALS}
        try:
            yield
        finally:
            for name, handler in previous.items():
                signal.signal(name, handler)

    def _stop(self, *_: Any) -> None:
        """Ends the run at its next step; a second Ctrl-C ends it at once."""
        self._stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        leave()
