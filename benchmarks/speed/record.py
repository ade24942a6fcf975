"""Writes a measurement with what it ran on, and compares it with other packages."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

from benchmarks.speed.harness import Measurement
from common.run import versions

PEERS = pathlib.Path(__file__).resolve().parent / "peers.csv"
PEERS_MATMUL_GFLOPS = 430.0
"""The matrix product on both cores of the machine on which most peers were timed."""


class Peer(NamedTuple):
    """Seconds that another package took for the same work.

    Attributes:
        package: Its name.
        seconds: A median; on two idle cores where no other speed of the matrix product is given.
        matmul_gflops: Speed of the matrix product beside it.
    """

    package: str
    seconds: float
    matmul_gflops: float = PEERS_MATMUL_GFLOPS


def peers(workload: str) -> list[Peer]:
    """Other packages at a workload, fastest first."""
    with PEERS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["workload"] == workload]
    found = [
        Peer(
            row["package"],
            float(row["seconds"]),
            float(row["matmul_gflops"] or PEERS_MATMUL_GFLOPS),
        )
        for row in rows
    ]
    return sorted(found, key=lambda peer: peer.seconds)


def to_record(
    workload: str, summary: str, measurement: Measurement, frames: int, config: dict[str, Any]
) -> dict[str, Any]:
    """Builds the record of one workload.

    Args:
        workload: Its name, ``shape/piece``.
        summary: One line about it.
        measurement: What was found.
        frames: Rows of experience that one call works on.
        config: Configuration of the agent.
    """
    return {
        "workload": workload,
        "summary": summary,
        **dataclasses.asdict(measurement),
        "calls_per_second": 1 / measurement.median,
        "frames_per_second": frames / measurement.median,
        "fraction_of_matmul": measurement.gflops / measurement.matmul_gflops,
        "peers": [
            {
                "package": peer.package,
                "seconds": peer.seconds,
                "ours_is_faster_by": peer.seconds / measurement.median,
                "at_equal_matmul_speed": peer.seconds
                * peer.matmul_gflops
                / (measurement.median * measurement.matmul_gflops),
            }
            for peer in peers(workload)
        ],
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions.describe().splitlines(),
        "config": config,
    }


def write(directory: pathlib.Path, record: dict[str, Any]) -> pathlib.Path:
    """Writes ``shape-piece.json`` and returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{record['workload'].replace('/', '-')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def format_line(record: dict[str, Any]) -> str:
    """One line for people: time, speed, memory, and the fastest other package."""
    unit, scale = ("s", 1) if record["median"] >= 0.1 else ("ms", 1000)
    line = (
        f"{record['workload']:<28} {record['median'] * scale:8.3g} {unit:<2} "
        f"{record['frames_per_second']:9.1f} frames/s {record['calls_per_second']:8.2f} calls/s "
        f"{record['flops'] / 1e9:8.1f} GFLOP {100 * record['fraction_of_matmul']:5.1f}% of matmul "
        f"({record['matmul_gflops']:.0f} GFLOP/s)  peak {record['peak_gib']:.2f} GiB  "
        f"compile {record['compile_seconds']:.1f} s"
    )
    if record["peers"]:
        best = record["peers"][0]
        line += (
            f"  x{best['ours_is_faster_by']:.2f} {best['package'].split(',')[0]} "
            f"(x{best['at_equal_matmul_speed']:.2f} at equal matmul speed)"
        )
    return line
