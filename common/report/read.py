"""Reads what a report shows from the files of a run folder, and from nothing else.

These are ``metrics.jsonl``, ``scores.jsonl``, ``config.yaml``, ``versions.txt`` and
``videos/``. What is missing is said in the page.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from ruamel.yaml import YAML, YAMLError

from common.errors import UserError, nearest
from common.logging.jsonl import read_jsonl
from common.logging.logger import ELAPSED
from common.report.data import Curve, RunData
from common.run.folder import CONFIG, METRICS, SCORES, VERSIONS, VIDEOS

_DAMAGE = (
    YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def read_run(logdir: pathlib.Path) -> RunData:
    """Reads the files of a run folder.

    Raises:
        UserError: The folder does not exist or holds none of these files.
    """
    logdir = pathlib.Path(logdir)
    known = (METRICS, SCORES, CONFIG)
    if not any((logdir / name).is_file() for name in known):
        siblings = logdir.parent.glob(f"*/{CONFIG}")
        near = sorted(path.parent.name for path in siblings if path.parent != logdir)
        hint = nearest(logdir.name, near) if near else "; give the --logdir of a train command"
        raise UserError(f"there is no run in {logdir}{hint}")
    config = _text(logdir / CONFIG)
    settings = _settings(config)
    clock = "updates" if settings.get("run", {}).get("data") else "frames"
    metrics = _curves(logdir / METRICS, clock)
    scores = _curves(logdir / SCORES, clock).get("return", Curve(np.zeros(0), np.zeros(0)))
    curves = [scores, *metrics.values()]
    elapsed = metrics.pop(ELAPSED, None)
    return RunData(
        logdir=logdir,
        metrics=metrics,
        scores=scores,
        clock=clock,
        frames=int(max((curve.frames[-1] for curve in curves if len(curve.frames)), default=0)),
        seconds=elapsed.last if elapsed else float("nan"),
        config=config,
        settings=settings,
        versions=_versions(logdir),
        videos=_videos(logdir / VIDEOS),
    )


def _curves(path: pathlib.Path, clock: str) -> dict[str, Curve]:
    if not path.is_file():
        return {}
    points: dict[str, list[tuple[float, float]]] = {}
    for record in read_jsonl(path, clock):
        frames = record.pop(clock)
        for name, value in record.items():
            if isinstance(value, (int, float)):
                points.setdefault(name, []).append((frames, value))
    return {name: Curve(*np.array(pairs, float).T) for name, pairs in points.items()}


def _text(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _settings(config: str) -> dict[str, Any]:
    """Returns what ``config.yaml`` says; what is damaged says nothing."""
    try:
        settings = YAML(typ="safe").load(config)
    except _DAMAGE:
        return {}
    if not isinstance(settings, dict):
        return {}
    run = settings.get("run")
    return settings | {"run": run if isinstance(run, dict) else {}}


def _versions(logdir: pathlib.Path) -> dict[str, str]:
    """Reads the lines "name value"."""
    pairs = [line.partition(" ") for line in _text(logdir / VERSIONS).splitlines()]
    return {name: value for name, _, value in pairs if name}


def _videos(directory: pathlib.Path) -> dict[str, tuple[int, pathlib.Path]]:
    newest: dict[str, tuple[int, pathlib.Path]] = {}
    for path in sorted([*directory.glob("[!.]*.mp4"), *directory.glob("[!.]*.gif")]):
        name, _, number = path.stem.rpartition("-")
        name, frames = (name, int(number)) if name and number.isdigit() else (path.stem, 0)
        if name not in newest or frames >= newest[name][0]:
            newest[name] = (frames, path)
    return newest
