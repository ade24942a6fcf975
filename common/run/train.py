"""Trains an agent: from the command line, from a script, in a thread.

A run is resumed by calling ``train`` again with the same folder: learner, counters,
random numbers, replay and logs continue; the environments start a new episode. With
``run.data`` nothing is collected, and the loop is that of ``common.run.offline``; else it is
that of ``common.run.online``.

The same seed gives the same run, bit for bit. A run that learns from data learns the same
whether it was stopped or not; one that collects does not, because of that new episode.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from common.envs.base import Envs
from common.logging import Sink
from common.run import checkpoint, upgrade
from common.run import folder as run_folder
from common.run.base import BaseRun, Parts
from common.run.config import Settings
from common.run.devices import Devices
from common.run.environments import MakeEnvs, open_environments
from common.run.learner import AgentLearner
from common.run.offline import OfflineRun
from common.run.online import OnlineRun, check_length
from common.run.program import Program
from common.run.progress import Result, Watch
from common.run.sinks import check_loggers


def train(
    program: Program,
    config: Settings,
    logdir: str | pathlib.Path,
    *,
    envs: Envs | MakeEnvs | None = None,
    loggers: Sequence[Sink] = (),
    progress: Watch | None = None,
) -> Result:
    """Trains an agent until ``config.run`` ends, or until it is told to stop.

    That is by ``progress``, and in the main thread by SIGTERM or Ctrl-C too. In another
    thread signals stay whose they are.

    Args:
        program: The agent's program.
        config: Its configuration.
        logdir: Run folder; made, or continued where it holds the same run.
        envs: Environments in place of those that ``config.task`` names, which is then only a
            name. Best a function ``(seed, amount) -> Envs``: it builds those to learn in, of
            ``config.env.amount``, and fresh ones for every evaluation, all closed here.
            ``common.envs.make`` turns a function that returns one Gymnasium environment into
            such. Or environments that are open, which stay open; there are no evaluations then.
        loggers: Where metrics and videos go besides the run folder and the terminal. They are
            flushed, and stay open.
        progress: Called after every line of the log and every evaluation; see
            ``common.run.progress``.

    Returns:
        How far the run is, and whether that is its end.

    Raises:
        UserError: The folder holds another run, or something in the configuration, the
            environment or the data is wrong, or another process trains there. A folder
            without a checkpoint is then left as it was.
    """
    logdir = pathlib.Path(logdir).expanduser()
    run_folder.check(logdir, program.name, config)
    check_loggers(config)
    lock = run_folder.Lock(logdir)
    lock.acquire()
    try:
        return _train(program, config, logdir, lock, envs, loggers, progress)
    finally:
        lock.release()


def _train(
    program: Program,
    config: Settings,
    logdir: pathlib.Path,
    lock: run_folder.Lock,
    given: Envs | MakeEnvs | None,
    loggers: Sequence[Sink],
    watch: Watch | None,
) -> Result:
    directory = logdir / run_folder.CHECKPOINTS
    kind: type[BaseRun] = OfflineRun if config.run.data else OnlineRun
    newest = checkpoint.latest(directory)
    devices = Devices(config.run.devices, config.replay.batch)
    # A resumed run gets seeds of its own, or it would begin with the same episodes again.
    seed, amount = config.seed + (newest or 0), 1 if config.run.data else config.env.amount
    environments = open_environments(config, given, seed, amount)
    try:
        envs = environments.training
        if not config.run.data:
            check_length(config, envs)
        agent = program.make_agent(config, envs.observation_specs, envs.action_spec)
        learner = AgentLearner(agent, envs.num_envs, config.seed, devices)
        earlier: dict[str, Any] = {}
        if newest is not None:
            tree, earlier = checkpoint.restore(directory, learner.tree(), renamed=upgrade.leaf_path)
            learner.load(tree)
        if earlier and kind.finished(earlier) >= kind.length(config):
            where = f"{kind.CLOCK.removesuffix('s')} {earlier[kind.CLOCK]:,}"
            print(f"this run is complete at {where}; raise --run.{kind.CLOCK} to go on")
            return Result(True, earlier.get("frames", 0), earlier["updates"], logdir)
        worth_keeping = lambda: checkpoint.latest(directory) is not None  # noqa: E731
        parts = Parts(environments, learner, loggers, watch)
        with run_folder.undone_on_error(logdir, lock, worth_keeping):
            run = kind(program, config, logdir, parts, earlier, lock)
            try:
                return Result(run.go(), run.frames, run.updates, logdir)
            finally:
                run.close()
    finally:
        environments.close()
