"""Recorded runs of control tasks beside published agents after the same number of frames.

    python -m benchmarks.low_frames state_cpu cup_catch_state_cpu finger_spin_state_cpu ...

prints one table of the named records of benchmarks/results/learning, and draws their curves, with
what others reached, to NAME_low_frames.png beside them. What is published comes from
common/published/data/dmc_state_low_frames.csv, or, with --pixels, dmc_pixels_low_frames.csv.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.options import Parser
from common.errors import UserError, exit_code
from common.published.tables import read_rows

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "learning"
AGENTS = {
    "tdmpc2": "TD-MPC2", "tdmpc": "TD-MPC", "bro_utd2": "BRO", "simbav2_utd2": "SimbaV2",
    "sac_yarats": "SAC", "dreamerv3": "DreamerV3, 2023", "tdmpc2_pixels": "TD-MPC2", "drq": "DrQ",
    "curl_pixels": "CURL", "sac_pixels": "SAC",
}  # fmt: skip
"""Who is shown, where there is a number of theirs."""
Published = Mapping[tuple[str, str, int], float]
"""(agent, task, frames) -> mean return."""


class Record(NamedTuple):
    """What a record of ``benchmarks.learning`` says.

    Attributes:
        task: Such as "cup_catch".
        frames: Of the evaluations ``[V]``.
        returns: Of every seed ``[S, V]``.
        random: Of the random policy.
    """

    task: str
    frames: np.ndarray
    returns: np.ndarray
    random: float


def read_record(path: pathlib.Path) -> Record:
    """Reads one record.

    Raises:
        UserError: There is none, or its seeds were not evaluated at the same frames.
    """
    if not path.exists():
        raise UserError(f"there is no record {path}; python -m benchmarks.learning makes them")
    found = json.loads(path.read_text())
    curves = [np.array(one["evaluations"])[:, :2] for one in found["curves"]]
    if len({tuple(curve[:, 0]) for curve in curves}) > 1:
        raise UserError(f"{path.name}: its seeds were not evaluated at the same frames")
    scores = [value for value in found["random_return"] if value is not None]
    task = found["task"].removeprefix("dmc_").replace("ball_in_cup", "cup")
    returns = np.stack([curve[:, 1] for curve in curves])
    return Record(task, curves[0][:, 0], returns, float(np.mean(scores)) if scores else np.nan)


def read_published(pixels: bool) -> Published:
    """Reads what others reached."""
    return {
        (one["agent"], one["task"], int(one["frames"])): float(one["mean"])
        for one in read_rows(f"dmc_{'pixels' if pixels else 'state'}_low_frames.csv")
    }


def table(records: Sequence[Record], published: Published, frames: int) -> str:
    """Shows every task: ours at the last evaluation up to ``frames``, and others at ``frames``.

    The last row is the mean over the tasks, of those who have all of them.
    """
    agents = [one for one in AGENTS if any((one, x.task, frames) in published for x in records)]
    lines = [
        f"| {frames:,} frames | ours | each seed | random | "
        + " | ".join(AGENTS[one] for one in agents) + " |",
        "|---" * (4 + len(agents)) + "|",
    ]  # fmt: skip
    ours, theirs = [], {one: [] for one in agents}
    for record in records:
        last = np.flatnonzero(record.frames <= frames)[-1]
        seeds = record.returns[:, last]
        ours.append(seeds.mean())
        when = "" if record.frames[last] == frames else f" (at {record.frames[last]:,.0f})"
        cells = []
        for one in agents:
            value = published.get((one, record.task, frames))
            theirs[one].append(value)
            cells.append("" if value is None else f"{value:.0f}")
        shown = ", ".join(f"{value:.0f}" for value in seeds)
        lines.append(
            f"| {record.task}{when} | **{seeds.mean():.0f}** | {shown} | {record.random:.0f} | "
            + " | ".join(cells) + " |"
        )  # fmt: skip
    means = ["" if None in theirs[one] else f"{np.mean(theirs[one]):.0f}" for one in agents]
    lines.append(f"| mean of {len(records)} | **{np.mean(ours):.0f}** | | | {' | '.join(means)} |")
    return "\n".join(lines)


def plot(records: Sequence[Record], published: Published, path: pathlib.Path) -> None:
    """Draws ours as a curve, minimum to maximum of the seeds, and others as dots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(4, len(records))
    rows = -(-len(records) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3.0 * columns, 2.6 * rows + 0.6), dpi=120, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, record in zip(grid.flat, records, strict=False):
        end = record.frames[-1]
        axes.fill_between(record.frames, *_range(record), color="C0", alpha=0.2, linewidth=0)
        axes.plot(record.frames, record.returns.mean(0), "-", color="C0", label="ours")
        axes.axhline(record.random, color="gray", linestyle="--", label="random policy")
        for number, (agent, name) in enumerate(AGENTS.items(), 1):
            points = [
                (frames, value) for (who, task, frames), value in published.items()
                if (who, task) == (agent, record.task) and frames <= end
            ]  # fmt: skip
            if points:
                axes.plot(*zip(*points, strict=True), "o", color=f"C{number}", ms=4, label=name)
        axes.set_title(record.task, fontsize=9)
        axes.set_ylim(-20, 1020)
        axes.xaxis.set_major_formatter(lambda frames, _: f"{frames / 1000:g}")
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=7)
    for axes in list(grid.flat)[len(records) :]:
        axes.axis("off")
    labels: dict[str, Any] = {}
    for axes in grid.flat:
        labels |= {name: line for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle(
        "Return over thousands of frames (simulator steps, action repeat included);\n"
        "band: minimum to maximum of our seeds", fontsize=9,
    )  # fmt: skip
    figure.savefig(path)
    plt.close(figure)


def _range(record: Record) -> tuple[np.ndarray, np.ndarray]:
    return record.returns.min(0), record.returns.max(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.low_frames", description=__doc__)
    add = parser.add_argument
    add("name", help="name of the figure")
    add("records", nargs="+", help="names of records of different tasks")
    add("--frames", type=int, default=100_000, help="frames of the table (100000)")
    add("--pixels", action="store_true", help="beside agents that learn from pixels")
    add("--results", type=pathlib.Path, default=RESULTS, help="where the records are")
    return exit_code(lambda: _run(parser.parse(argv)))


def _run(arguments: argparse.Namespace) -> int:
    records = [read_record(arguments.results / f"{name}.json") for name in arguments.records]
    if not all((one.frames <= arguments.frames).any() for one in records):
        raise UserError(f"--frames is {arguments.frames}; a record begins later")
    published = read_published(arguments.pixels)
    print(table(records, published, arguments.frames))
    plot(records, published, arguments.results / f"{arguments.name}_low_frames.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
