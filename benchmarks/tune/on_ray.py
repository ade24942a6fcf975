"""What Ray Tune is given; it is imported where Ray is connected, for Ray reads variables then."""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import optuna
from optuna import distributions
from ray.tune import Stopper, Trainable
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks.tune.progress import Watch
from benchmarks.tune.record import Question, Record, Trial
from benchmarks.tune.space import decode, encode, words
from benchmarks.tune.trial import Run


class Stop(Stopper):
    """Ends all trials when it is told so.

    Attributes:
        stopping: Whether it was.
    """

    stopping = False

    def stop(self) -> None:
        """Has all of them end."""
        self.stopping = True

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a trial shall end."""
        return self.stopping

    def stop_all(self) -> bool:
        """Whether all shall."""
        return self.stopping


class Watched(Trainable):
    """One trial; its steps are the reports of a run."""

    def setup(self, config: dict[str, Any]) -> None:
        """Starts or goes on with the run."""
        folder = pathlib.Path(config["folder"])
        self._run = Run(config["words"], folder, config["environment"], config["ended_at"])

    def step(self) -> dict[str, Any]:
        """Reports on it."""
        return self._run.next()

    def cleanup(self) -> None:
        """Has it end with a checkpoint."""
        self._run.stop()


class Numbered(Searcher):
    """Suggests first all that was tried before, then what Optuna finds, and records all of it."""

    def __init__(
        self,
        record: Record,
        question: Question,
        first: Mapping[str, Any] | None,
        environment: Mapping[str, str],
        watch: Watch,
        stop: Stop,
    ):
        """Suggests nothing yet.

        Args:
            record: What was tried before; it grows.
            question: What is searched.
            first: Values of the very first trial; None lets Optuna choose.
            environment: Variables of the runs.
            watch: Is told of starts and ends.
            stop: Whether the search itself was stopped.
        """
        super().__init__(metric="area", mode="max")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._record, self._question, self._environment = record, question, dict(environment)
        self._watch, self._stop = watch, stop
        self._trials: dict[str, Trial] = {}
        self._replayed: set[str] = set()
        points = [one.values for _, one in sorted(record.trials.items())]
        if first is not None and not points:
            points = [first]
        self._inner = OptunaSearch(
            _distributions(question),
            "area",
            "max",
            points_to_evaluate=[encode(question.space, one) for one in points],
            # A generator that began anew would draw again what it drew before.
            sampler=optuna.samplers.TPESampler(seed=question.seed + len(record.trials)),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Keeps nothing in what Ray writes: the record is what a search goes on from."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Returns the configuration of the next trial."""
        number = len(self._trials)
        values = decode(self._question.space, self._inner.suggest(trial_id))
        old, ended_at = self._record.trials.get(number), None
        if old is not None and old.state in ("done", "stopped"):
            ended_at = old.frames
            self._replayed.add(trial_id)
        else:
            values = values if old is None else old.values
            self._record.begin(number, values)
            self._watch.begin(self._record.trials[number])
        self._trials[trial_id] = self._record.trials[number]
        folder = self._record.folder(number)
        return {
            "words": command(self._question, self._trials[trial_id].values, folder),
            "folder": str(folder),
            "environment": self._environment,
            "ended_at": ended_at,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps where a trial is."""
        if trial_id not in self._replayed:
            _take(self._trials[trial_id], result)
            self._watch.look()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Records how a trial ended, unless it is the search that was stopped."""
        trial, result = self._trials[trial_id], result or {}
        failed = error or result.get("ended") == "failed"
        if trial_id not in self._replayed and (result.get("ended") or not self._stop.stopping):
            _take(trial, result)
            trial.state = "failed" if failed else result.get("ended") or "stopped"
            trial.fault = "Ray lost it" if error else result.get("fault", "")
            self._record.end(trial)
            self._watch.end(trial)
        unknown = failed or not math.isfinite(result.get("area", math.nan))
        self._inner.on_trial_complete(trial_id, None if unknown else result, error=unknown)

    def save(self, checkpoint_path: str) -> None:
        """Keeps nothing, as above."""

    def restore(self, checkpoint_path: str) -> None:
        """Needs nothing."""


def command(question: Question, values: Mapping[str, Any], folder: pathlib.Path) -> list[str]:
    """Returns the words of the train command of a trial."""
    found = [sys.executable, "-m", question.agent, "train", "--configs", *question.configs]
    found += ["--task", question.task, "--seed", str(question.seed), *question.options]
    for path, value in values.items():
        found += [f"--{path}={words(value)}"]
    return [*found, "--logdir", str(folder)]


def _take(trial: Trial, result: Mapping[str, Any]) -> None:
    for name in ("frames", "area", "score"):
        setattr(trial, name, result.get(name, getattr(trial, name)))


def _distributions(question: Question) -> dict[str, Any]:
    found = {}
    for one in question.space:
        if one.kind == "choice":
            found[one.path] = distributions.CategoricalDistribution(range(len(one.values)))
        elif one.kind == "integer":
            found[one.path] = distributions.IntDistribution(*one.values)
        else:
            found[one.path] = distributions.FloatDistribution(*one.values, log=one.kind == "log")
    return found
