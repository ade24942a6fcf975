"""Times environments in this process, in processes, and in actors of Ray, in turn.

    python -m benchmarks.speed.environments           # every kind
    python -m benchmarks.speed.environments pixels-4  # one of them

All places are open at the same time and take turns, so that a machine's load is the same for all
of them on the whole; what counts are their ratios. Each kind becomes a JSON in
benchmarks/results/speed. Ray is the cluster of RAY_ADDRESS, or one that is started here.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import sys
import time
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from benchmarks.options import Parser, make_results
from common.envs import EnvConfig, Envs, make
from common.errors import UserError, exit_code, nearest

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "results" / "speed"
WARM_UP = 5
"""Steps that do not count."""


class Idle(gymnasium.Env):
    """Does nothing, for 500 steps an episode."""

    def __init__(self) -> None:
        """Sets the spaces."""
        self.observation_space = gymnasium.spaces.Box(-1, 1, (8,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Begins an episode."""
        self._steps = 0
        return np.zeros(8, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Counts a step."""
        self._steps += 1
        return np.zeros(8, np.float32), 0.0, False, self._steps == 500, {}


class Kind(NamedTuple):
    """Environments to time.

    Attributes:
        task: What they play.
        amount: How many.
        pixels: Whether they are seen in pictures or by their state.
    """

    task: str
    amount: int
    pixels: bool


KINDS = {
    "idle-8": Kind("benchmarks.speed.environments:Idle", 8, False),
    "walker-8": Kind("dmc_walker_walk", 8, False),
    "pixels-4": Kind("dmc_walker_walk", 4, True),
}


class Place(NamedTuple):
    """Where they step: options of ``EnvConfig``."""

    workers: str
    per_worker: int


def places(amount: int) -> dict[str, Place]:
    """Returns where so many environments are timed, by name."""
    found = {"local": Place("none", 0)}
    for word, workers in (("process", "process"), ("Ray actor", "ray")):
        for size in (1, amount // 2, amount):
            found[f"{word} for {size}"] = Place(workers, size)
    return found


def measure(kind: Kind, rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Times a kind in all places, in turn.

    Args:
        kind: What to time.
        rounds: Turns of each place.
        seconds: Length of a turn.

    Returns:
        For each place, by name: steps of all environments per second in every turn, and the
        median; milliseconds of this process's own processor time for a step of all, the median;
        and how fast it is against the other places, the median over the rounds.
    """
    opened: dict[str, Envs] = {}
    try:
        for name, place in places(kind.amount).items():
            config = EnvConfig(pixels=kind.pixels, state=not kind.pixels, **place._asdict())
            opened[name] = make(kind.task, config, seed=0, num_envs=kind.amount)
            _step(opened[name], WARM_UP)
        rates: dict[str, list[float]] = {name: [] for name in opened}
        cores: dict[str, list[float]] = {name: [] for name in opened}
        for _ in range(rounds):
            for name, envs in opened.items():
                steps, took, core = _turn(envs, seconds)
                rates[name].append(steps * kind.amount / took)
                cores[name].append(1000 * core / steps)
    finally:
        for envs in opened.values():
            envs.close()
    return {
        name: {
            "steps_per_second": statistics.median(rates[name]),
            "turns": rates[name],
            "own_core_ms": statistics.median(cores[name]),
            "of": {other: _ratio(rates[name], rates[other]) for other in opened if other != name},
        }
        for name in opened
    }


def _step(envs: Envs, steps: int) -> None:
    action = np.zeros((envs.num_envs, envs.action_spec.size), np.float32)
    for _ in range(steps):
        envs.step(action)


def _turn(envs: Envs, seconds: float) -> tuple[int, float, float]:
    """Returns steps, and the time and the processor time of this process that they took."""
    begun, core, steps = time.perf_counter(), time.process_time(), 0
    while (took := time.perf_counter() - begun) < seconds or not steps:
        _step(envs, 1)
        steps += 1
    return steps, took, time.process_time() - core


def _ratio(rates: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(rates, others, strict=True))


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.speed.environments", description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each place (7)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a turn (1.5)")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")

    def run() -> int:
        given = parser.parse(argv)
        for name in given.kinds:
            if name not in KINDS:
                raise UserError(f"unknown kind {name!r}{nearest(name, KINDS)}")
        if given.rounds < 1 or not 0 < given.seconds < float("inf"):
            raise UserError("--rounds and --seconds have to be above 0")
        make_results(given.results, "--results")
        for name in given.kinds or KINDS:
            _record(name, given.rounds, given.seconds, given.results)
        return 0

    return exit_code(run)


def _record(name: str, rounds: int, seconds: float, results: pathlib.Path) -> None:
    """Measures a kind, prints it and writes it down."""
    from benchmarks.speed import record  # Loads JAX, which workers that import this need not.
    from common.run import versions

    load = os.getloadavg()[0]
    found = measure(KINDS[name], rounds, seconds)
    for place, figures in found.items():
        of = ", ".join(f"{ratio:.2f} of {other}" for other, ratio in figures["of"].items())
        print(f"{name}: {place}: {figures['steps_per_second']:.0f} steps/s; {of}", flush=True)
    record.write(
        results,
        {
            "workload": f"environments/{name}",
            "summary": f"steps of {KINDS[name].amount} environments of {KINDS[name].task}",
            "places": found,
            "rounds": rounds,
            "seconds": seconds,
            "load_average": [load, os.getloadavg()[0]],
            "cores": len(os.sched_getaffinity(0)),
            "versions": [*versions.describe().splitlines(), f"ray {versions.version_of('ray')}"],
        },
    )


if __name__ == "__main__":
    sys.exit(main())
