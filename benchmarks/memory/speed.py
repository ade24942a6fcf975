"""Time of one update by the length of its windows, with each dynamics in turn."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks.memory.sizes import DYNAMICS, count_parameters, shape_of
from benchmarks.speed.harness import matmul_gflops, peak_gib
from benchmarks.speed.workloads import make_batch
from common.run import versions

Program = Callable[[], None]
"""One update that is waited for."""


class Times(NamedTuple):
    """Wall-clock seconds of every update, and its processor time over all threads.

    The latter is what it would cost with nobody else on the machine.
    """

    wall: list[float]
    core: list[float]


def measure(lengths: Sequence[int], repeats: int, rows: int) -> Iterator[dict[str, Any]]:
    """Times whole updates, world model and behaviour, of ``rows`` rows each.

    The dynamics take turns at every length, call by call, so that what else the machine does
    meets all of them alike.

    Args:
        lengths: Rows in a window.
        repeats: Timed updates of each.
        rows: Rows in a batch.

    Yields:
        The record, after every length.
    """
    # A window as long as the transformer reaches is what is asked for here.
    warnings.filterwarnings("ignore", "the transformer looks back")
    load, matmul = os.getloadavg()[0], matmul_gflops()
    parameters = {name: count_parameters(shape_of(name).agent()) for name in DYNAMICS}
    times: dict[str, list[Times]] = {name: [] for name in DYNAMICS}
    for done, length in enumerate(lengths, 1):
        for name, found in _at_length(length, repeats, rows).items():
            times[name].append(found)
        matmul = max(matmul, matmul_gflops())
        yield {
            "rows": rows,
            "lengths": list(lengths[:done]),
            "repeats": repeats,
            "parameters": parameters,
            "seconds": {name: [one.wall for one in found] for name, found in times.items()},
            "core_seconds": {name: [one.core for one in found] for name, found in times.items()},
            "median_core_seconds": {
                name: [statistics.median(one.core) for one in found]
                for name, found in times.items()
            },
            "matmul_gflops": matmul,
            "peak_gib": peak_gib(),
            "load_average": load,
            "cores": len(os.sched_getaffinity(0)),
            "versions": versions.describe().splitlines(),
        }


def _at_length(length: int, repeats: int, rows: int) -> dict[str, Times]:
    programs = {name: _program(name, length, rows) for name in DYNAMICS}
    times = {name: Times([], []) for name in DYNAMICS}
    for turn in range(repeats + 1):
        for name, program in programs.items():
            start, start_core = time.perf_counter(), time.process_time()
            program()
            if turn:  # The first one warms up.
                times[name].wall.append(time.perf_counter() - start)
                times[name].core.append(time.process_time() - start_core)
    return times


def _program(dynamics: str, length: int, rows: int) -> Program:
    shape = shape_of(dynamics, length, rows)
    agent = shape.agent()
    batch = make_batch(shape, shape.config())
    key = jax.random.key(1)
    state = jax.jit(agent.init)(jax.random.key(0))
    compiled = jax.jit(agent.update, donate_argnums=0).lower(state, key, batch).compile()

    def program() -> None:
        nonlocal state
        state = jax.block_until_ready(compiled(state, key, batch))[0]

    return program


def write(directory: pathlib.Path, record: dict[str, Any]) -> list[pathlib.Path]:
    """Writes ``speed.json`` and ``speed.png``."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / "speed.json", directory / "speed.png"]
    paths[0].write_text(json.dumps(record, indent=1) + "\n")
    _plot(paths[1], record)
    return paths


def _plot(path: pathlib.Path, record: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    for name, medians in record["median_core_seconds"].items():
        axes.plot(record["lengths"], medians, "-o", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(record["lengths"], [str(length) for length in record["lengths"]])
    axes.set_xlabel("rows in a window")
    axes.set_ylabel("processor seconds of an update, median")
    axes.set_title(
        f"One update of {record['rows']:,} rows on {record['cores']} core(s)", fontsize=9
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def table(record: dict[str, Any]) -> str:
    """Medians of the processor time as Markdown, in milliseconds."""
    lines = ["| rows in a window | " + " | ".join(DYNAMICS) + " |"]
    lines.append("|---" * (1 + len(DYNAMICS)) + "|")
    for i, length in enumerate(record["lengths"]):
        cells = [f"{1000 * record['median_core_seconds'][name][i]:.0f}" for name in DYNAMICS]
        lines.append(f"| {length} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
