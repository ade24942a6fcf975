"""Adds a trained agent to those that come with the package: ``python -m benchmarks.zoo``.

It stores the weights in 16 bits, plays episodes with those, not the ones of training, measures an
action, and writes ``common/zoo/NAME.npz`` and the agent's entry of ``agents.json``.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.learning.record import read_run, versions_of
from benchmarks.options import Parser
from common.errors import UserError, exit_code
from common.export import EXPORT, read_export
from common.files import make_folder, replacing
from common.npz import read_npz
from common.run.driver import NumpyRows
from common.run.evaluation import play, trained_policy
from common.run.loading import LoadedAgent
from common.run.program import find_program
from common.run.versions import processor
from common.trained import FOLDER, INDEX, Trained, trained_agents

MOST_BYTES = 1_500_000
SEED = 1000
"""Of the episodes that are played; no run evaluates itself with it."""
_TIMED = 200


def add(
    name: str, logdir: pathlib.Path, episodes: int = 10, folder: pathlib.Path = FOLDER
) -> Trained:
    """Adds the agent of a finished run.

    Args:
        name: Its name in the zoo.
        logdir: Folder of the run.
        episodes: Episodes to play.
        folder: The zoo.

    Raises:
        UserError: The folder holds no run, or its export is too large.
    """
    run, program = read_run(logdir), find_program(read_export(logdir).agent)
    versions = versions_of(run)
    make_folder(folder)
    with replacing(folder / f"{name}.npz") as temporary:
        _shrink(logdir / EXPORT, temporary)
        size = temporary.stat().st_size
        if size > MOST_BYTES:
            raise UserError(
                f"{logdir / EXPORT} takes {size:,} bytes, and one of the zoo at most "
                f"{MOST_BYTES:,}; train a smaller one, or distil it"
            )
    agent = LoadedAgent(program, folder / f"{name}.npz")
    config = agent.config
    seen: list[NumpyRows] = []
    policy = trained_policy(agent, SEED)
    results = play(config.task, config.env, episodes, SEED, policy, watch=seen.append)
    returns = np.array(results.all.returns)
    entry = Trained(
        agent=program.name,
        task=config.task,
        command=_value(versions, "command"),
        frames=int(run.evaluations[-1, 0]),
        curve=np.round(run.evaluations[:, :2], 1).tolist(),
        episodes=episodes,
        seed=SEED,
        mean=round(float(returns.mean()), 1),
        deviation=round(float(returns.std()), 1),
        least=round(float(returns.min()), 1),
        random=None if run.random is None else round(run.random, 1),
        milliseconds=round(_latency(agent, seen[:_TIMED]), 2),
        machine=processor(),
        versions=versions,
        challenges=config.env.challenge.named(),
    )
    entries = trained_agents(folder) if (folder / INDEX).exists() else {}
    entries[name] = entry
    with replacing(folder / INDEX) as temporary:
        lines = (f"{json.dumps(key)}: {json.dumps(one._asdict())}" for key, one in entries.items())
        temporary.write_text("{\n" + ",\n".join(sorted(lines)) + "\n}\n")
    return entry


def _shrink(export: pathlib.Path, out: pathlib.Path) -> None:
    """Writes kernels in 16 bits, and all compressed; counted statistics keep theirs."""
    arrays = {
        name: array.astype(np.float16) if array.dtype == np.float32 and array.ndim > 1 else array
        for name, array in read_npz(export).items()
    }
    with out.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _value(versions: Sequence[str], name: str) -> str:
    """Returns what a line of a run's versions says."""
    return next(line.partition(" ")[2] for line in versions if line.startswith(f"{name} "))


def _latency(agent: LoadedAgent, seen: Sequence[NumpyRows]) -> float:
    """Returns the median milliseconds of an action in rows of one episode."""
    carry, spent = None, []
    for rows in seen:
        observation = {key: rows[key][0] for key in agent.observations}
        before = time.perf_counter()
        _, carry = agent.act(observation, carry)
        spent.append(time.perf_counter() - before)
    return statistics.median(spent) * 1e3


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser(prog="python -m benchmarks.zoo", description=__doc__.partition("\n")[0])
    add_argument = parser.add_argument
    add_argument("name", help="the agent's name in the zoo, such as walker_walk")
    add_argument("--run", type=pathlib.Path, required=True, help="folder of the finished run")
    add_argument("--episodes", type=int, default=10, help="episodes to play (10)")
    add_argument("--folder", type=pathlib.Path, default=FOLDER, help=argparse.SUPPRESS)

    def work() -> int:
        options = parser.parse(argv)
        entry = add(options.name, options.run, options.episodes, options.folder)
        print(f"{options.name}: {entry.mean} ± {entry.deviation} in {entry.task}")
        return 0

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
