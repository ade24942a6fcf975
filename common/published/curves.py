"""Learning curves of published agents: who reached what on a task after how many frames.

Frames are simulator steps, action repeat included. A point is the mean over the seeds of a
training, with how far the seeds lie apart where that is known.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from common.published.tables import column, read_json, read_rows, read_scores, seed_curves

Inputs = Literal["pixels", "state"]


class Target(NamedTuple):
    """A task that others have published returns of.

    Attributes:
        suite: "dmc" or "atari".
        name: As the tables have it, such as "cup_catch" or "Pong".
        top: The largest return that there can be; NaN where there is no such.
    """

    suite: Literal["dmc", "atari"]
    name: str
    top: float


class Point(NamedTuple):
    """The return at one place of a curve.

    Attributes:
        frames: Where.
        mean: Mean over the seeds.
        sd: Sample standard deviation over the seeds; NaN where it is not known.
        seeds: How many; 0 where it is not known.
    """

    frames: float
    mean: float
    sd: float = math.nan
    seeds: int = 0


class Protocol(NamedTuple):
    """How returns came about.

    Attributes:
        repeat: How often an action is repeated, in words; "" where it is not known.
        returns: What a return averages, in words; "" where it is not known.
        world: What else the environment does, in words.
    """

    repeat: str
    returns: str
    world: str = ""


@dataclasses.dataclass(frozen=True)
class Agent:
    """One published agent on one task.

    Attributes:
        name: Its name.
        source: Where its returns come from, with the licence.
        protocol: How they came about.
        points: Its curve, by frames; at least one.
        usual: Whether a figure shows it; others stand in tables only.
    """

    name: str
    source: str
    protocol: Protocol
    points: tuple[Point, ...]
    usual: bool = True


def find_target(task: str) -> Target | None:
    """Returns what others call a task of the command line; None where nobody published it."""
    dmc = {f"dmc_{row['task']}": row["task"] for row in read_rows("dmc_scores.csv")}
    dmc |= {f"dmc_{x['dm_domain']}_{x['dm_task']}": x["task"] for x in read_rows("dmc_scores.csv")}
    if task in dmc:
        return Target("dmc", dmc[task], 1000.0)
    games = {f"atari_{row['rom']}": row["game"] for row in read_rows("atari_scores.csv")}
    return Target("atari", games[task], math.nan) if task in games else None


def published_agents(target: Target, inputs: Inputs) -> list[Agent]:
    """Returns everybody who published returns on a task from these inputs; may be nobody."""
    if target.suite == "atari":
        found = [*_atari_curves(target.name), *_atari_scores(target.name)]
    elif inputs == "state":
        found = _low_frames(target.name, "state")
    else:
        found = [*_dmc_curves(target.name), *_low_frames(target.name, "pixels"), *_planet(target)]
    return [agent for agent in found if agent.points]


_LOW_FRAMES = {
    "tdmpc2": ("TD-MPC2", True),
    "tdmpc": ("TD-MPC", True),
    "bro_utd2": ("BRO", True),
    "simbav2_utd2": ("SimbaV2", True),
    "sac_yarats": ("SAC", True),
    "dreamerv3": ("DreamerV3, 2023", True),
    "sac_hansen": ("SAC, run for TD-MPC2", False),
    "dreamerv3_hansen": ("DreamerV3, 2023, run for TD-MPC2", False),
    "dmpo": ("DMPO", False),
    "d4pg": ("D4PG", False),
    "mpo": ("MPO", False),
    "ddpg": ("DDPG", False),
    "ppo": ("PPO", False),
    "tdmpc2_pixels": ("TD-MPC2", True),
    "drq": ("DrQ", True),
    "curl_pixels": ("CURL", True),
    "sac_pixels": ("SAC", False),
    "ppo_pixels": ("PPO", False),
}
"""Agents of ``dmc_*_low_frames.csv``: their name, and whether figures show them."""
_LATER = {
    "tdmpc2": "tdmpc2_state_1m",
    "sac_hansen": "sac_state_1m",
    "dreamerv3_hansen": "dreamerv3_state_1m",
}
"""Columns of ``dmc_scores.csv`` that are the same trainings after a million frames."""


def _low_frames(task: str, inputs: Inputs) -> list[Agent]:
    """Those whose returns are known at some marks, seed by seed."""
    points: dict[str, list[Point]] = {name: [] for name in _LOW_FRAMES}
    for row in read_rows(f"dmc_{inputs}_low_frames.csv"):
        if row["task"] == task:
            sd = float(row["sd"]) if row["sd"] and int(row["n"]) > 1 else math.nan
            point = Point(int(row["frames"]), float(row["mean"]), sd, int(row["n"]))
            points[row["agent"]].append(point)
    scores = read_scores("dmc_scores.csv")[task]
    for name, key in _LATER.items():
        if points[name] and scores[key]:
            points[name].append(Point(1_000_000, float(scores[key]), seeds=3))
    sources = _sources()
    return [
        Agent(title, *sources[name], tuple(sorted(points[name])), usual)
        for name, (title, usual) in _LOW_FRAMES.items()
    ]


@functools.cache
def _sources() -> dict[str, tuple[str, Protocol]]:
    """Source and protocol of the agents of ``dmc_low_frames_sources.csv``."""
    found = {}
    for row in read_rows("dmc_low_frames_sources.csv"):
        repeat = row["action_repeat_of_runs"]
        returns = row["value_is"] + " episodes" * (row["value_is"] in ("evaluation", "training"))
        protocol = Protocol("" if repeat == "not stated" else repeat, returns)
        for name in row["agent"].split(", "):
            found[name] = (f"{row['repo']} ({row['licence']})", protocol)
    return found


def _dmc_curves(task: str) -> Iterable[Agent]:
    """Those from pixels whose whole curves are known."""
    every = "training episodes, every one that was played"
    described = {
        "dreamerv3_2024": ("DreamerV3, 2024", "danijar/dreamerv3", "training episodes"),
        "drqv2": ("DrQ-v2", "danijar/dreamerv3", "evaluation episodes"),
        "dreamerv2": ("DreamerV2", "danijar/dreamerv2", every),
        "dreamerv1_tf2": ("Dreamer V1", "danijar/dreamer", "10 evaluation episodes"),
    }
    methods = read_json("dmc_curves.json.gz")["methods"]
    for method, (name, repository, returns) in described.items():
        runs = methods[method]["tasks"].get(task)
        if runs:
            points = _points(*seed_curves(methods[method], runs))
            yield Agent(name, f"{repository} (MIT)", Protocol("2", returns), points)


def _planet(target: Target) -> list[Agent]:
    """PlaNet, by its table."""
    scores = read_scores("dmc_scores.csv")[target.name]
    points = tuple(Point(5_000_000, float(x), seeds=5) for x in [scores["planet_5m"]] if x)
    source = "Dreamer's paper, table per task (arXiv:1912.01603)"
    return [Agent("PlaNet", source, Protocol("by task, 2 to 8", ""), points)]


_ALL, _MINIMAL = "all 18 actions", "those actions that the game uses"


def _atari_curves(game: str) -> Iterable[Agent]:
    """Agents with 200M frames."""
    record = read_json("atari_curves_dreamerv2.json.gz")
    runs = list(record["games"][game]["dreamerv2"].values())
    evaluated = Protocol(
        "4", "10 evaluation episodes", f"sticky actions with probability 0.25, {_ALL}"
    )
    points = _points(*seed_curves(record, runs))
    yield Agent("DreamerV2", "danijar/dreamerv2 (MIT)", evaluated, points)
    trained = Protocol(
        "4", "training episodes", f"sticky actions with probability 0.25, {_MINIMAL}"
    )
    record = read_json("atari_curves_dopamine.json.gz")
    for name in ("Rainbow", "IQN", "C51", "DQN"):
        curve = record["games_by_agent"][name.lower()][game]
        sample = math.sqrt(5 / 4)  # The file has population deviations of 5 seeds.
        points = tuple(
            Point(frames, mean, std * sample, 5)
            for frames, mean, std in zip(record["x"], curve["mean"], curve["std"], strict=True)
        )
        yield Agent(name, "Dopamine, by danijar/dreamerv3 (MIT)", trained, points, name != "C51")
    row = read_scores("atari_scores.csv")[game]
    if row["dreamerv3_2024"]:
        seeds = int(row["dreamerv3_2024_seeds"])
        point = Point(200_000_000, float(row["dreamerv3_2024"]), seeds=seeds)
        protocol = trained._replace(world=evaluated.world)
        yield Agent("DreamerV3, 2024", "danijar/dreamerv3 (MIT)", protocol, (point,))


_ATARI_100K = {
    "dreamerv3_2024": ("DreamerV3, 2024", "danijar/dreamerv3 (MIT)", 5, True),
    "diamond": ("DIAMOND", "eloialonso/diamond (MIT)", 5, True),
    "twm": ("TWM", "jrobine/twm (MIT)", 5, True),
    "storm": ("STORM", "weipu-zhang/STORM, the mean alone", 5, True),
    "iris": ("IRIS", "eloialonso/iris, the mean alone", 5, True),
    "efficientzero": ("EfficientZero", "Ye et al. 2021", 0, True),
    "delta_iris": ("Delta-IRIS", "vmicheli/delta-iris, the mean alone", 5, False),
    "rem": ("REM", "leor-c/REM, the mean alone", 5, False),
    "muzero": ("MuZero", "Ye et al. 2021", 0, False),
    "dreamerv3_2023_paper": ("DreamerV3, 2023", "its paper of 2023", 5, False),
    "spr": ("SPR", "Agarwal et al. 2021", 100, False),
    "drq_eps": ("DrQ-eps", "Agarwal et al. 2021", 100, False),
    "curl": ("CURL", "Agarwal et al. 2021", 100, False),
    "simple": ("SimPLe", "Kaiser et al. 2020", 5, False),
    "ppo_2024": ("PPO, 2024", "danijar/dreamerv3 (MIT)", 5, False),
}
"""Columns of ``atari100k_scores.csv``: name, source, seeds, whether figures show them."""


def _atari_scores(game: str) -> Iterable[Agent]:
    """Agents with 400k frames, of which the last return is known."""
    rows = read_scores("atari100k_scores.csv")
    seeds = read_json("atari100k_seeds.json")
    loose = f"mostly no sticky actions and {_MINIMAL}"
    for key, (name, source, amount, usual) in _ATARI_100K.items():
        mean = column(rows, key).get(game)
        if mean is not None:
            each = np.array(seeds.get(key, {}).get(game, ()), float)
            sd = float(np.std(each, ddof=1)) if len(each) > 1 else math.nan
            point = Point(400_000, mean, sd, len(each) or amount)
            returns = "training episodes" if key == "dreamerv3_2024" else ""
            protocol = Protocol("4", returns, loose)
            yield Agent(f"{name} (100k)", source, protocol, (point,), usual)


def _points(frames: np.ndarray, returns: np.ndarray) -> tuple[Point, ...]:
    """Mean and deviation over the seeds that have data at each place.

    Args:
        frames: Places ``[P]``.
        returns: Of every seed ``[S, P]``, NaN where it has none.
    """
    points = []
    for place, values in zip(frames, returns.T, strict=True):
        known = values[np.isfinite(values)]
        if len(known):
            sd = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
            points.append(Point(float(place), float(known.mean()), sd, len(known)))
    return tuple(points)
