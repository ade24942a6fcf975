"""Ray Tune at work: which trial comes next, which one is stopped early, and what is recorded.

Optuna's tree-structured Parzen estimator (TPE; Bergstra et al., 2011) suggests values. ASHA (Li et
al., 2020) stops a trial at --grace, and at three, nine, ... times that, unless its area is among
the best third of those that came there so far. What Ray keeps of its own is thrown away: whoever
goes on with a search tells Ray again what the run folders hold, so that nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.jobs.watch import stop_signals
from benchmarks.tune.progress import Watch
from benchmarks.tune.record import REDUCTION, Question, Record
from common.cluster import connected
from common.errors import UserError
from common.launch.process import ROOT
from common.launch.request import HANDED_ON

LIBRARIES = ("ray", "pandas", "pyarrow", "optuna")


class Request(NamedTuple):
    """What a search asks of this machine, or of the cluster of RAY_ADDRESS.

    Attributes:
        trials: Their number in the end.
        jobs: Trials at a time.
        cores: CPUs of one.
        gpus: GPUs of one, or the part of one.
    """

    trials: int
    jobs: int = 1
    cores: float = 1
    gpus: float = 0


def check() -> None:
    """Raises a UserError where a library is missing; imports none, for Ray reads variables then."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"tune needs {' and '.join(missing)}: pip install 'world-model-agents[tune]'"
        )


def search(
    record: Record,
    question: Question,
    request: Request,
    first: Mapping[str, Any] | None,
    changed: Callable[[], None],
) -> bool:
    """Tries values until there are as many trials as asked for, or until SIGTERM or Ctrl-C.

    Args:
        record: What was tried before; it grows.
        question: What is searched.
        request: How much, and by what.
        first: Values of the very first trial; None lets the searcher choose.
        changed: Called after every end of a trial.

    Returns:
        Whether it went on to the end.

    Raises:
        UserError: Ray is missing, or the cluster; or it has no room for a trial.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    with _quiet(), connected("tune", [str(ROOT)]) as ray:
        room = ray.cluster_resources()
        for name, wanted in (("CPU", request.cores), ("GPU", request.gpus)):
            if wanted > room.get(name, 0):
                raise UserError(
                    f"a trial asks for {wanted:g} {name}s; Ray has {room.get(name, 0):g} in all"
                )
        with tempfile.TemporaryDirectory(prefix=".ray-", dir=record.logdir) as scratch:
            return _tune(record, question, request, first, changed, scratch)


def _tune(
    record: Record,
    question: Question,
    request: Request,
    first: Mapping[str, Any] | None,
    changed: Callable[[], None],
    scratch: str,
) -> bool:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from benchmarks.tune.on_ray import Numbered, Stop, Watched

    watch, stop = Watch(record, question, request.trials, changed), Stop()
    environment = {name: it for name, it in os.environ.items() if name.startswith(HANDED_ON)}
    if 0 < request.gpus < 1:
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    resources = {"cpu": request.cores, "gpu": request.gpus}
    tuner = tune.Tuner(
        tune.with_resources(Watched, resources),
        tune_config=tune.TuneConfig(
            metric="area",
            mode="max",
            num_samples=request.trials,
            max_concurrent_trials=request.jobs,
            trial_dirname_creator=lambda trial: trial.trial_id,
            search_alg=Numbered(record, question, first, environment, watch, stop),
            scheduler=ASHAScheduler(
                time_attr="frames",
                max_t=question.frames + 1,  # What comes to its end is done, not stopped.
                grace_period=question.grace,
                reduction_factor=REDUCTION,
            ),
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=scratch,
            verbose=0,
            stop=stop,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with stop_signals(stop.stop):
        tuner.fit()
    return not stop.stopping


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what Ray and Optuna say about themselves."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "optuna")]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
