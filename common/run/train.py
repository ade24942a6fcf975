"""Trains an agent: from the command line, from a script, in a thread.

A run is resumed by calling ``train`` again with the same folder: learner, counters,
random numbers, replay and logs continue; the environments start a new episode. With
``run.data`` nothing is collected, and the loop is that of ``common.run.offline``; else it is
that of ``common.run.online``.

The same seed gives the same run, bit for bit. A run that learns from data learns the same
whether it was stopped or not; one that collects does not, because of that new episode.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from common import config as configs
from common.agent import Agent
from common.envs.base import Envs
from common.errors import Lost, UserError
from common.logging import Sink
from common.run import checkpoint, upgrade
from common.run import folder as run_folder
from common.run.base import BaseRun
from common.run.config import Settings, environments_each
from common.run.devices import Devices
from common.run.environments import MakeEnvs, open_environments
from common.run.learner import AgentLearner
from common.run.offline import OfflineRun
from common.run.online import OnlineRun, check_length
from common.run.processes import Place, Processes, join, lost
from common.run.program import Program
from common.run.progress import Result, Watch
from common.run.protocols import Learner, Parts
from common.run.sinks import check_loggers
from common.run.versions import commit, versions

APART = 1_000_003
"""From the seed of one process's environments to that of the next."""


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
    return train_given(program, config, logdir, Given(envs, loggers, progress))


def train_given(
    program: Program, config: Settings, logdir: str | pathlib.Path, given: Given
) -> Result:
    """As ``train``, with all that may be handed in."""
    logdir = pathlib.Path(logdir).expanduser()
    run_folder.check(logdir, program.name, config)
    check_loggers(config)
    there = config.run.coordinator
    if there:
        environments_each(config, Place.parse(there).amount)  # A mistake, without the others.
    processes = join(there, _identity(program, config)) if there else Processes()
    lock, together = run_folder.Lock(logdir), False
    try:
        if processes.first:
            lock.acquire()
        result = _train(program, _alike(config), logdir, lock, given, processes)
        together = True
        return result
    except Exception as error:
        if not isinstance(error, (UserError, Lost)) and processes.broken():
            raise lost("another process") from error
        raise
    finally:
        lock.release()
        processes.close(together)


class Given(NamedTuple):
    """What the caller hands in.

    Attributes:
        envs: As of ``train``.
        loggers: As of ``train``.
        watch: As of ``train``.
        learner: Makes the learner of an agent in its environments; None for one that learns by
            itself.
        told: As of ``Parts``.
    """

    envs: Envs | MakeEnvs | None = None
    loggers: Sequence[Sink] = ()
    watch: Watch | None = None
    learner: Callable[[Agent, Envs], Learner] | None = None
    told: Callable[[], bool] = lambda: False


def _alike(config: Settings) -> Settings:
    """Returns the configuration as all processes have it, whichever they are."""
    return dataclasses.replace(config, run=dataclasses.replace(config.run, coordinator=""))


def _identity(program: Program, config: Settings) -> dict[str, str]:
    """Returns what has to be the same in all processes of a training."""
    options = {option.path: str(option.value) for option in configs.options(_alike(config))}
    return {"agent": program.name, "commit": commit(), **versions(), **options}


def _train(
    program: Program,
    config: Settings,
    logdir: pathlib.Path,
    lock: run_folder.Lock,
    given: Given,
    processes: Processes,
) -> Result:
    directory = logdir / run_folder.CHECKPOINTS
    kind: type[BaseRun] = OfflineRun if config.run.data else OnlineRun
    newest = _newest(directory, processes)
    devices = Devices(config.run.devices, config.replay.batch, processes)
    # A resumed run gets seeds of its own, or it would begin with the same episodes again.
    seed = config.seed + (newest or 0) + APART * processes.index
    amount = environments_each(config, processes.amount)
    known = checkpoint.metadata(directory) or {}
    played = known.get("episodes", 0) // (amount * processes.amount)
    environments = open_environments(config, given.envs, seed, amount, played)
    try:
        envs = environments.training
        if not config.run.data:
            amount = envs.num_envs * processes.amount
            check_length(config, envs.action_repeat, amount, envs.max_steps)
        agent = program.make_agent(config, envs.observation_specs, envs.action_spec)
        if given.learner:
            learner = given.learner(agent, envs)
        else:
            learner = AgentLearner(agent, envs.num_envs, config.seed, devices)
        earlier: dict[str, Any] = {}
        if newest is not None:
            tree, earlier = checkpoint.restore(directory, learner.tree(), renamed=upgrade.leaf_path)
            learner.load(tree)
        if earlier and kind.finished(earlier) >= kind.length(config):
            where = f"{kind.CLOCK.removesuffix('s')} {earlier[kind.CLOCK]:,}"
            if processes.first:
                print(f"this run is complete at {where}; raise --run.{kind.CLOCK} to go on")
            return Result(True, earlier.get("frames", 0), earlier["updates"], logdir)
        worth_keeping = lambda: checkpoint.latest(directory) is not None  # noqa: E731
        parts = Parts(environments, learner, given.loggers, given.watch, processes, given.told)
        with run_folder.undone_on_error(logdir, lock, worth_keeping):
            run = kind(program, config, logdir, parts, earlier, lock)
            try:
                return Result(run.go(), run.frames, run.updates, logdir)
            finally:
                run.close()
    finally:
        environments.close()


def _newest(directory: pathlib.Path, processes: Processes) -> int | None:
    """Returns the step of the newest checkpoint, which all processes have to see.

    Raises:
        UserError: They do not.
    """
    found = processes.gather(checkpoint.latest(directory))
    if len(set(found)) > 1:
        raise UserError(
            f"the processes see other newest checkpoints in {directory}: {found}; all of them "
            "need one --logdir on a disk that they share"
        )
    return found[0]
