"""What every part of DreamerV3 does to DreamerV2, one at a time, on two cores.

    python -m benchmarks.ablation --logdir runs/ablation            # all runs, one after another
    taskset -c 0 python -m benchmarks.ablation --logdir runs/one --seeds 1       # a seed a core
    python -m benchmarks.ablation --table                           # what is recorded so far

DreamerV2 from state, with a small model that learns from 256 rows after every action, is trained as
it is, with one part of DreamerV3 in the place of its own, and with all of them. Every run that has
ended is one line of benchmarks/results/learning/ablation.jsonl, and is not made again.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import series
from benchmarks.learning.record import read_run
from benchmarks.options import Parser
from benchmarks.series import Key, Line, Series
from common.errors import exit_code
from common.run import versions

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "learning"
RECORD, PICTURE = "ablation.jsonl", "ablation.png"
TASKS = {"dmc_cartpole_swingup": 60_000, "dmc_reacher_easy": 60_000}
"""Frames of every task."""
BASE = {
    "includes": ["dmc_proprio", "size_xs"],
    "env": {"action_repeat": -1},
    "replay": {"batch": 16, "length": 16, "sampling": "steps"},
    "run": {
        "train_every": 1, "eval_every": 10_000, "log_every": 1000, "report_every": 0,
        "random_episodes": 10, "video": False,
    },
    "world_model": {"rssm": {"deter": 64, "hidden": 64}},
    "model_opt": {"lr": 5e-4},
    "actor_opt": {"lr": 5e-4},
    "critic_opt": {"lr": 5e-4},
}  # fmt: skip
"""DreamerV2, with one learning rate for all, so that a joint optimizer changes no rate."""
_NETS = ("world_model.rssm", "world_model.encoder", "world_model.decoder", "world_model.reward",
         "world_model.discount", "actor", "critic")  # fmt: skip
_V3_NET = {"activation": "silu", "norm": "rms", "init": "trunc_normal"}
_OPTIMIZERS = ("model_opt", "actor_opt", "critic_opt")
_LAPROP = {
    "adam": "laprop", "agc": 0.3, "clip": 0, "eps": 1e-20, "weight_decay": 0,
    "lr_schedule": "warmup(1000,1)",
}  # fmt: skip
PARTS: dict[str, dict[str, Any]] = {
    "DreamerV2": {},
    "KL by two scales, free bits a row": {
        "world_model.kl": {"dyn_scale": 1.0, "rep_scale": 0.1, "free": 1.0}
    },
    "1% uniform in the latent": {"world_model.rssm": {"unimix": 0.01}},
    "RMS norm, SiLU, initialiser": dict.fromkeys(_NETS, _V3_NET),
    "block GRU, two prior layers": {
        "world_model.rssm": {"cell": "block_gru", "blocks": 8, "prior_layers": 2}
    },
    "symlog vectors": {
        "world_model": {"vector_transform": "symlog"}, "world_model.decoder": {"score": "squared"}
    },
    "two-hot reward and critic": {
        "world_model.reward": {"likelihood": "two_hot", "bins": 255},
        "critic": {"likelihood": "two_hot", "bins": 255},
    },
    "bounded normal": {
        "actor": {
            "continuous": "bounded_normal", "out_scale": 0.01, "init_std": 2.0, "min_std": 0.1
        }
    },
    "normalised returns, entropy 3e-4": {
        "behavior": {"actor_entropy": "3e-4"},
        "behavior.return_norm": {"method": "percentiles", "rate": 0.01, "limit": 1.0},
    },
    "REINFORCE": {"behavior": {"actor_grad": "reinforce"}},
    "slow critic regularises": {
        "behavior": {
            "slow_target": False, "slow_target_update": 1, "slow_target_fraction": 0.02,
            "slow_initial_copy": True, "slow_regularizer": 1.0,
        }
    },
    "replayed values, one joint step": {
        "": {"joint": True},
        "behavior": {"include_reward": False},
        "behavior.replay_value": {"scale": 0.3, "gradients": True},
    },
    "LaProp with AGC, warm-up": dict.fromkeys(_OPTIMIZERS, _LAPROP),
    "kept latents, online queue": {"replay": {"latents": True, "online": True, "minimum": 64}},
}  # fmt: skip
"""What every part sets, by section. The last, "all of them", sets everything."""
ALL = "all of them"
PARTS[ALL] = {
    section: {key: value for part in PARTS.values() for key, value in part.get(section, {}).items()}
    for section in dict.fromkeys(section for part in PARTS.values() for section in part)
}


def config(part: str) -> dict[str, Any]:
    """Returns the preset of a part, as a mapping to be written to a file."""
    mapping = json.loads(json.dumps(BASE))
    for section, options in PARTS[part].items():
        place = mapping
        for name in filter(None, section.split(".")):
            place = place.setdefault(name, {})
        place.update(options)
    return mapping


def train(part: str, task: str, seed: int, logdir: pathlib.Path) -> dict[str, Any]:
    """Trains once, or goes on with it; returns the line of the record.

    Raises:
        UserError: The run ended with an error.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as preset:
        json.dump(config(part), preset)  # All JSON is YAML.
        preset.flush()
        words = ["--configs", preset.name, "--task", task, "--seed", str(seed)]
        series.train([*words, "--run.frames", str(TASKS[task])], logdir)
    run = read_run(logdir)
    return {
        "part": part,
        "task": task,
        "seed": seed,
        "options": config(part) | {"frames": TASKS[task]},
        "curve": np.round(run.evaluations[:, :2], 1).tolist(),
        "random": run.random,
        "seconds": round(run.seconds),
        "versions": versions.describe().splitlines(),
    }


def read(record: pathlib.Path) -> dict[Key, Line]:
    """Returns the runs that are recorded with the options of today, by part, task and seed."""
    return {
        (one["part"], one["task"], one["seed"]): one
        for one in series.read_lines(record)
        if one["part"] in PARTS and one["task"] in TASKS
        if one["options"] == config(one["part"]) | {"frames": TASKS[one["task"]]}
    }


def mean_return(run: dict[str, Any]) -> float:
    """Returns the mean over a run's evaluations, which is the area under its curve."""
    return float(np.mean([value for _, value in run["curve"]]))


def table(runs: dict[Key, Line]) -> str:
    """Shows every part: the mean over the curve and the last evaluation, of every seed."""
    tasks = [task for task in TASKS if any(task == key[1] for key in runs)]
    lines = ["| part | " + " | ".join(f"`{task}`: mean of the curve; end | min" for task in tasks)]
    lines = [f"{lines[0]} |", "|---" * (1 + 2 * len(tasks)) + "|"]
    for part in PARTS:
        cells = []
        for task in tasks:
            found = [one for key, one in sorted(runs.items()) if key[:2] == (part, task)]
            means = ", ".join(f"{mean_return(one):.0f}" for one in found)
            ends = ", ".join(f"{one['curve'][-1][1]:.0f}" for one in found)
            minutes = np.mean([one["seconds"] for one in found]) / 60 if found else np.nan
            cells.append(f"{means}; {ends} | {minutes:.0f}" if found else "not run | ")
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    for task in tasks:
        scores = [one["random"] for key, one in runs.items() if key[1] == task]
        lines.append(f"random policy in `{task}`: {np.mean(scores):.1f}")
    return "\n".join(lines)


def plot(runs: dict[Key, Line], path: pathlib.Path) -> None:
    """Draws the mean of every run's curve, a row for every part, DreamerV2's as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, all_axes = plt.subplots(
        1, len(TASKS), figsize=(9.6, 4.8), dpi=120, sharey=True, layout="constrained", squeeze=False
    )
    names = list(PARTS)
    for axes, task in zip(all_axes[0], TASKS, strict=True):
        for (part, of, _), one in runs.items():
            if of == task:
                axes.plot(mean_return(one), names.index(part), "o", color="C0", alpha=0.7)
        usual = [mean_return(one) for key, one in runs.items() if key[:2] == (names[0], task)]
        if usual:
            axes.axvline(np.mean(usual), color="gray", linestyle="--", label=f"{names[0]}, mean")
            axes.legend(fontsize=8)
        axes.set_title(f"{task}, {TASKS[task]:,} frames", fontsize=9)
        axes.set_xlabel("evaluation return, mean over the curve; a dot is a seed")
        axes.grid(alpha=0.3)
    all_axes[0, 0].set_yticks(range(len(names)), names)
    all_axes[0, 0].invert_yaxis()
    figure.savefig(path)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.ablation", description=__doc__)
    series.add_options(parser, [1, 2], RESULTS)
    tasks = list(TASKS)
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks, help="tasks (both)")
    return exit_code(lambda: _run(parser.parse(argv)))


def _run(arguments: argparse.Namespace) -> int:
    wanted = [
        (part, task, seed) for seed in arguments.seeds for part in PARTS for task in arguments.tasks
    ]
    runs = Series(
        wanted,
        make=lambda key, logdir: train(*key, logdir),
        name=lambda key: f"{list(PARTS).index(key[0]):02}-{key[1]}-{key[2]}",
        read=read,
        table=table,
        plot=plot,
        picture=PICTURE,
    )
    return series.run(runs, arguments, arguments.results / RECORD)


if __name__ == "__main__":
    sys.exit(main())
