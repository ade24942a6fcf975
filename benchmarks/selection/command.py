"""The best of several trained agents by few real episodes: active offline policy selection.

    python -m benchmarks select --runs runs/* --episodes 20
    python -m benchmarks select --runs runs/* --checkpoints --episodes 30 --verify 20

Policies are compared in recorded states, so that an episode of one says something about those that
act alike (A-OPS, Konyushkova et al., 2021). What a policy returns in its agent's own world model
counts as one episode of it. All episodes are lines of episodes.jsonl in --out: killed and repeated,
the command goes on, and more --episodes may be asked for later.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.options import Parser
from benchmarks.selection.bandit import Arms
from benchmarks.selection.candidates import Candidate, load_candidates
from benchmarks.selection.imagined import expected_return
from benchmarks.selection.logged import actions_in, policy_distances, read_logged
from benchmarks.selection.record import Record
from benchmarks.selection.summary import compare, draw, regret_table, table
from common.command.line import prepare
from common.errors import UserError
from common.export import export
from common.files import make_folder, replacing
from common.logging import format_seconds
from common.run import versions
from common.run.evaluation import play, trained_policy

SUMMARY, PICTURE, CHOICE = "selection.json", "regret.png", "choice.npz"
VERIFIED = 1_000_000
"""From the seed of the episodes that choose to that of those that verify."""


def run_command(argv: Sequence[str]) -> int:
    """Runs ``select`` with the words after it; returns the exit code."""
    parser = Parser("python -m benchmarks select", description=__doc__)
    add = parser.add_argument
    add("--runs", nargs="+", required=True, help="run folders and exported files, the candidates")
    add("--checkpoints", action="store_true", help="older checkpoints of runs are candidates too")
    add("--episodes", type=int, default=20, help="real episodes to choose by (20)")
    add("--verify", type=int, default=0, help="episodes of every candidate afterwards, to see "
        "whether the choice was good (0)")  # fmt: skip
    add("--warm-start", choices=("model", "none"), default="model", help="what counts as one "
        "episode of each: one in its own world model, or nothing (model)")  # fmt: skip
    add("--data", help="recorded episodes to compare in: a run, a folder of .npz files or a "
        "collection (those of the runs)")  # fmt: skip
    add("--task", help="task of the runs, where it runs code of others; see eval")
    add("--seed", type=int, default=0, help="of episodes and draws (0)")
    add("--out", type=pathlib.Path, default=pathlib.Path("runs/selection"), help="folder of the "
        "results (runs/selection)")  # fmt: skip
    given = parser.parse(argv)
    prepare()
    for name, least in (("episodes", 1), ("verify", 0), ("seed", 0)):
        if getattr(given, name) < least:
            raise UserError(f"--{name} is {getattr(given, name)}; expected at least {least}")
    return _select(given)


def _select(given: argparse.Namespace) -> int:
    candidates = load_candidates(given.runs, given.checkpoints, given.seed, given.task)
    try:
        make_folder(given.out)
    except FileExistsError as error:
        raise UserError(f"--out {given.out} is a file; choose a folder") from error
    question = {
        "candidates": [[one.name, one.mark] for one in candidates],
        "warm_start": given.warm_start,
        "data": given.data or "",
        "seed": given.seed,
    }
    with Record(given.out, question) as record:
        if record.known is None:
            record.know(_compare_offline(candidates, given))
        arms = Arms(record.distances, record.values, given.seed)
        _choose(candidates, arms, record, given)
        belief = arms.belief(record.arms, record.returns)
        best = int(np.argmax(belief.mean))
        if given.verify:
            _verify(candidates, record, given)
        print(table(question["candidates"], record, belief))
        chosen = candidates[best]
        print(f"\nchoice: {chosen.name}, exported to {_export(chosen, given.out)}")
        found = {
            **question,
            "task": candidates[0].agent.config.task,
            **record.summary(),
            "mean": np.round(belief.mean, 3).tolist(),
            "std": np.round(belief.std, 3).tolist(),
            "choice": chosen.name,
            "versions": versions.describe().splitlines(),
        }
        if given.verify:
            found["regret"] = compare(record, arms)
            print(f"\n{regret_table(found['regret'])}")
            draw(found, given.out / PICTURE)
        with replacing(given.out / SUMMARY) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _export(chosen: Candidate, out: pathlib.Path) -> pathlib.Path:
    """Writes a file of the chosen policy, which an older checkpoint has not; returns its path."""
    agent, path = chosen.agent, out / CHOICE
    specs = agent.observations, agent.actions
    export(path, chosen.program, agent.config, *specs, agent.params)
    return path


def _compare_offline(candidates: Sequence[Candidate], given: argparse.Namespace) -> dict[str, Any]:
    """Returns the distances between policies, and what each expects, where all say so."""
    logged = read_logged(candidates, given.data, given.seed)
    actions, values = [], []
    for number, one in enumerate(candidates, 1):
        print(f"{one.name}: actions in {len(logged.chosen[0])} recorded states, {number} of "
              f"{len(candidates)}", flush=True)  # fmt: skip
        actions.append(actions_in(one.agent, logged, given.seed))
        if given.warm_start == "model":
            starts, length = logged.starts, logged.length
            values.append(expected_return(one.agent, starts, length, given.seed))
    silent = [one.name for one, value in zip(candidates, values, strict=False) if value is None]
    if silent:
        print(
            f"{silent[0]} has no policy for its world model; the first candidates are random ones"
        )
    return {
        "distances": policy_distances(np.stack(actions)).tolist(),
        "values": values if values and not silent else None,
    }


def _choose(
    candidates: Sequence[Candidate], arms: Arms, record: Record, given: argparse.Namespace
) -> None:
    """Plays episodes until there are as many as asked for."""
    begin, before = time.monotonic(), len(record.arms)
    for number in range(before, given.episodes):
        arm = arms.next(record.arms, record.returns)
        value = _play(candidates[arm], 1, given.seed + number)[0]
        record.add(arm, value)
        each = (time.monotonic() - begin) / (number + 1 - before)
        left = format_seconds(each * (given.episodes - number - 1))
        print(f"episode {number + 1} of {given.episodes}: {candidates[arm].name} {value:.1f}, "
              f"{left} left", flush=True)  # fmt: skip


def _verify(candidates: Sequence[Candidate], record: Record, given: argparse.Namespace) -> None:
    """Plays episodes of every candidate until each has as many as asked for."""
    begin, played = time.monotonic(), 0
    missing = [max(0, given.verify - len(record.verified[arm])) for arm in range(len(candidates))]
    for arm, amount in enumerate(missing):
        if not amount:
            continue
        seed = given.seed + VERIFIED + len(record.verified[arm])
        record.verify(arm, _play(candidates[arm], amount, seed))
        played += amount
        each = (time.monotonic() - begin) / played
        left = format_seconds(each * (sum(missing) - played))
        print(f"verified {candidates[arm].name}: {np.mean(record.verified[arm]):.1f}, {left} left",
              flush=True)  # fmt: skip


def _play(candidate: Candidate, episodes: int, seed: int) -> list[float]:
    """Returns the returns of some episodes, of several tasks the mean over them."""
    config = candidate.agent.config
    results = play(config.task, config.env, episodes, seed, trained_policy(candidate.agent, seed))
    return np.mean([one.returns for one in results.tasks.values()], 0).tolist()
