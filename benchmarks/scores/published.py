"""The published references as agents, read from the tables of ``common/published``."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.scores.tables import AgentScores, Curve
from benchmarks.suites import Protocol, Suite
from common.errors import UserError, nearest
from common.published.tables import column, read_json, read_scores, seed_curves

_FINAL_BIN = 199
"""Bins of 1M frames after which DreamerV2's runs are scored, as its paper did."""
_DREAMER_V2 = "danijar/dreamerv2, scores/atari-dreamerv2.json"
_DREAMER_V3 = "danijar/dreamerv3, curves of 2024"
_LOOSE = (
    "protocol assumed: most works with 100k steps, not all, use no sticky actions and the "
    "reduced action set"
)

Scores = tuple[dict[str, np.ndarray], dict[str, Curve], tuple[str, ...]]
"""Scores of the seeds and curves by task, and notes."""


@dataclasses.dataclass(frozen=True)
class _Reference:
    """One published agent.

    Attributes:
        name: Its name.
        column: Of the table of the suite.
        source: Where the scores come from.
        protocol: How they came about.
        seeds: Seeds behind the scores, or the column that holds their numbers; 0 where unknown.
        usual: Whether it belongs to those that are shown unless others are named.
        read: Reads scores seed by seed and curves; None where only the means are known.
        note: What a reader must know.
    """

    name: str
    column: str
    source: str
    protocol: Protocol
    seeds: int | str = 0
    usual: bool = True
    read: Callable[[], Scores] | None = None
    note: str = ""


def published(suite: Suite, names: Sequence[str] = ()) -> list[AgentScores]:
    """Reads published agents of a benchmark.

    Args:
        suite: The benchmark.
        names: Names of the agents; empty for the usual ones.

    Raises:
        UserError: There is no such agent.
    """
    references = {reference.name: reference for reference in _REFERENCES[suite.name]()}
    for name in names:
        if name not in references:
            raise UserError(f"unknown agent {name!r}{nearest(name, references)}")
    chosen = names or [name for name, reference in references.items() if reference.usual]
    return [_agent(suite, references[name]) for name in chosen]


def published_names(suite: Suite) -> tuple[str, ...]:
    """Names of all published agents of a benchmark, the usual ones and the others."""
    return tuple(reference.name for reference in _REFERENCES[suite.name]())


def _agent(suite: Suite, reference: _Reference) -> AgentScores:
    rows = _table(suite.name)
    means = column(rows, reference.column)
    scores = {task: np.array([mean]) for task, mean in means.items()}
    if isinstance(reference.seeds, str):
        seeds = {task: int(n) for task, n in column(rows, reference.seeds).items()}
    else:
        seeds = dict.fromkeys(means, reference.seeds)
    curves: dict[str, Curve] = {}
    notes: tuple[str, ...] = (reference.note,) if reference.note else ()
    if suite.name == "atari100k":
        notes += (_LOOSE,)
    if reference.read is not None:
        runs, curves, more = reference.read()
        scores |= _moved_to(means, runs)
        seeds |= {task: len(values) for task, values in runs.items()}
        notes += more
    return AgentScores(
        reference.name, reference.protocol, reference.source, scores, seeds, curves, notes, True
    )


def _moved_to(means: Mapping[str, float], runs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Seeds that average to the table's means: their curves are shipped with few digits.

    They move by less than a rounding error of theirs.
    """
    return {task: x + (means[task] - np.mean(x)) for task, x in runs.items()}


def _table(suite: str) -> dict[str, dict[str, str]]:
    return read_scores(f"{'dmc' if suite.startswith('dmc') else suite}_scores.csv")


def _atari() -> list[_Reference]:
    evaluation = Protocol(200_000_000, "evaluation", 0.25, "all")
    training = dataclasses.replace(evaluation, returns="training")
    # Dopamine makes its games by Gym's default, which offers the actions that a game uses.
    dopamine = dataclasses.replace(training, actions="minimal")
    return [
        *(
            _Reference(name, name.lower(), "Dopamine, sticky actions", dopamine, 5,
                       read=functools.partial(_dopamine, name.lower()))
            for name in ("DQN", "C51", "Rainbow", "IQN")
        ),
        _Reference("DreamerV2", "dreamerv2", _DREAMER_V2, evaluation,
                   read=functools.partial(_dreamer_v2, ("dreamerv2",))),
        _Reference("DreamerV2-schedules", "dreamerv2_schedules",
                   "danijar/dreamerv2, scores/atari-dreamerv2-schedules.json", evaluation, 4,
                   usual=False),
        _Reference("DreamerV2-11seeds", "dreamerv2_11seeds", _DREAMER_V2, evaluation, usual=False,
                   read=functools.partial(_dreamer_v2, ("dreamerv2", "nosched"))),
        _Reference("DreamerV3-2024", "dreamerv3_2024", _DREAMER_V3, training,
                   "dreamerv3_2024_seeds", usual=False),
    ]  # fmt: skip


def _dopamine(agent: str) -> Scores:
    """Curves of the mean over seeds; the scores are the table's, of the last iteration."""
    record = read_json("atari_curves_dopamine.json.gz")
    frames = np.array(record["x"])
    games = record["games_by_agent"][agent]
    return {}, {game: Curve(frames, np.array([x["mean"]])) for game, x in games.items()}, ()


def _dreamer_v2(labels: Sequence[str]) -> Scores:
    """The bin at 199M frames of each run; of a run that ended before, its last bin."""
    record = read_json("atari_curves_dreamerv2.json.gz")
    scores, curves, short = {}, {}, collections.Counter()
    for game, by_label in record["games"].items():
        runs = [run for label in labels for run in by_label[label].values()]
        scores[game] = np.array([run[:_FINAL_BIN][-1] for run in runs], float)
        curves[game] = Curve(*seed_curves(record, runs))
        short.update({game: sum(len(run) < _FINAL_BIN for run in runs)})
    ended = [f"{game} {count}" for game, count in short.items() if count]
    total = sum(map(len, scores.values()))
    note = (
        f"{sum(short.values())} of {total} runs end before {_FINAL_BIN}M frames and count with "
        f"their last score: {', '.join(ended)}"
    )
    return scores, curves, (note,)


def _atari100k() -> list[_Reference]:
    protocol = Protocol(400_000, None, 0.0, "minimal")
    training = dataclasses.replace(protocol, returns="training")
    rliable = "Agarwal et al. 2021"
    means = [
        _Reference("SimPLe", "simple", "Kaiser et al. 2020", protocol, 5),
        _Reference("CURL", "curl", rliable, protocol, 100),
        _Reference("DrQ-eps", "drq_eps", rliable, protocol, 100),
        _Reference("SPR", "spr", rliable, protocol, 100),
        _Reference("MuZero", "muzero", "Ye et al. 2021", protocol),
        _Reference("EfficientZero", "efficientzero", "Ye et al. 2021", protocol),
        _Reference("IRIS", "iris", "eloialonso/iris", protocol, 5),
        _Reference("REM", "rem", "leor-c/REM", protocol, 5),
        _Reference("Delta-IRIS", "delta_iris", "vmicheli/delta-iris", protocol, 5),
        _Reference("STORM", "storm", "weipu-zhang/STORM", protocol, 5,
                   note="Freeway is 0 here, without the demonstration of the paper's 33.5"),
        _Reference("DreamerV3-2023", "dreamerv3_2023_paper", "DreamerV3 paper of 2023",
                   protocol, 5),
    ]  # fmt: skip
    runs = [
        _Reference("TWM", "twm", "jrobine/twm", protocol),
        _Reference("DIAMOND", "diamond", "eloialonso/diamond", protocol),
        _Reference("PPO-2024", "ppo_2024", _DREAMER_V3, protocol),
        _Reference("DreamerV3-2024", "dreamerv3_2024", _DREAMER_V3, training),
    ]
    return means + [
        dataclasses.replace(each, read=functools.partial(_atari100k_seeds, each.column))
        for each in runs
    ]


def _atari100k_seeds(method: str) -> Scores:
    games = read_json("atari100k_seeds.json")[method]
    return {game: np.array(scores, float) for game, scores in games.items()}, {}, ()


def _dmc_pixels() -> list[_Reference]:
    evaluation = Protocol(1_000_000, "evaluation")
    training = dataclasses.replace(evaluation, returns="training")
    unknown = dataclasses.replace(evaluation, returns=None)

    def later(protocol: Protocol, millions: float) -> Protocol:
        return dataclasses.replace(protocol, frames=round(millions * 1e6))

    def runs(method: str, low: float, high: float) -> Callable[[], Scores]:
        return functools.partial(_dmc_seeds, method, low * 1e6, high * 1e6)

    paper, v1 = "Dreamer paper, table per task", "danijar/dreamer, scores/dreamer.json"
    v2 = "danijar/dreamerv2, scores/dmc-vision-dreamerv2.json"
    return [
        _Reference("DreamerV1-TF2", "dreamerv1_tf2_1m", v1, evaluation,
                   read=runs("dreamerv1_tf2", 0.9, 1.01)),
        _Reference("DreamerV2", "dreamerv2_1m", v2, training, read=runs("dreamerv2", 0.95, 1)),
        _Reference("DreamerV3-2023", "dreamerv3_2023_1m_paper", "DreamerV3 paper of 2023",
                   unknown, 5),
        _Reference("DreamerV3-2024", "dreamerv3_2024_1m", _DREAMER_V3, training,
                   read=runs("dreamerv3_2024", 0.95, 1)),
        _Reference("DrQ-v2", "drqv2_1m", _DREAMER_V3, evaluation, read=runs("drqv2", 0.95, 1)),
        _Reference("CURL", "curl_1m", _DREAMER_V3, unknown, 10),
        _Reference("SAC", "sac_pixels_1m", _DREAMER_V3, unknown),  # 9 or 10 seeds.
        _Reference("PPO", "ppo_pixels_1m", _DREAMER_V3, unknown, 5),
        _Reference("TD-MPC2", "tdmpc2_pixels_1m", "nicklashansen/tdmpc2", evaluation, 3),
        _Reference("PlaNet-5M", "planet_5m", paper, later(unknown, 5), 5, usual=False),
        _Reference("DreamerV1-5M", "dreamerv1_5m", paper, later(evaluation, 5), 5, usual=False),
        _Reference("D4PG-100M", "d4pg_pixels_100m", paper, later(unknown, 100), usual=False),
        _Reference("DreamerV2-2M", "dreamerv2_2m", v2, later(training, 2), usual=False,
                   read=runs("dreamerv2", 1.94, 1.99)),
    ]  # fmt: skip


def _dmc_state() -> list[_Reference]:
    evaluation = Protocol(1_000_000, "evaluation", inputs="state")
    unknown = dataclasses.replace(evaluation, returns=None)
    half = dataclasses.replace(unknown, frames=500_000)
    tdmpc2 = "nicklashansen/tdmpc2"
    return [
        _Reference("TD-MPC2", "tdmpc2_state_1m", tdmpc2, evaluation, 3),
        _Reference("TD-MPC", "tdmpc_state_1m", tdmpc2, unknown, 3),
        _Reference("SAC", "sac_state_1m", tdmpc2, unknown, 3),
        _Reference("DreamerV3", "dreamerv3_state_1m", tdmpc2, unknown, 3),
        _Reference("DreamerV3-500K", "dreamerv3_state_500k", _DREAMER_V3, half, 5, usual=False),
        _Reference("D4PG-500K", "d4pg_state_500k", _DREAMER_V3, half, 10, usual=False),
        _Reference("DMPO-500K", "dmpo_state_500k", _DREAMER_V3, half, 10, usual=False),
        _Reference("PPO-500K", "ppo_state_500k", _DREAMER_V3, half, 5, usual=False),
        _Reference("A3C-100M", "a3c_proprio_100m", "Tassa et al. 2018",
                   dataclasses.replace(unknown, frames=100_000_000), usual=False),
    ]  # fmt: skip


def _dmc_seeds(method: str, low: float, high: float) -> Scores:
    """The mean of each run over what it logged after ``low`` frames until ``high``."""
    record = read_json("dmc_curves.json.gz")["methods"][method]
    scores, curves = {}, {}
    for task, runs in record["tasks"].items():
        curves[task] = Curve(*seed_curves(record, runs))
        inside = (curves[task].frames > low) & (curves[task].frames <= high)
        scores[task] = np.mean(curves[task].returns[:, inside], -1)
    return scores, curves, ()


_REFERENCES = {
    "atari": _atari,
    "atari100k": _atari100k,
    "dmc": _dmc_pixels,
    "dmc_proprio": _dmc_state,
}
