"""The agents solve small environments whose best return is known, by the run loop itself."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

import dreamer.program
import planet.program
from common.command.presets import load_presets
from common.config import update
from common.logging import read_jsonl
from common.nets.precision import Precision
from common.run import train as training
from tests.envs import known

SIZES = {
    "replay": {"batch": 16, "length": 16, "prefetch": 0},
    "world_model": {
        "rssm": {"stoch": 8, "classes": 8, "deter": 32, "hidden": 32},
        "encoder": {"units": 32},
        "decoder": {"units": 32},
        "reward": {"layers": 2, "units": 32},
        "discount": {"layers": 2, "units": 32},
        "kl": {"free": 0.1},
        "reward_scale": 10,
    },
}
SPEEDS = {
    "run": {
        "frames": 1500,
        "prefill": 400,
        "pretrain": 50,
        "train_every": 2,
        "eval_every": 0,
        "eval_episodes": 20,
        "random_episodes": 50,
        "report_every": 0,
        "log_every": 500,
        "video": False,
    },
    "model_opt": {"lr": 3e-3},
}
DREAMER = {
    "actor": {"layers": 2, "units": 32},
    "critic": {"layers": 2, "units": 32},
    "behavior": {"horizon": 8, "slow_target_update": 20},
    "actor_opt": {"lr": 5e-4},
    "critic_opt": {"lr": 1e-3},
}
PLANET = {
    "planner": {"horizon": 6, "iterations": 4, "candidates": 60, "top": 8},
    "world_model": {"predict_discount": True, "kl": {"free": 0.1}},
}
DREAMER_V3 = {
    "env": {"amount": 1},
    "actor": {"units": 32},
    "critic": {"units": 32},
    "behavior": {"horizon": 8},
    "model_opt": {"lr": 2e-3, "lr_schedule": "warmup(50,1)"},
}
SHORT = {"replay": {"length": 8}, "behavior": {"horizon": 5}}
"""Half as much work, where that will do."""
AGENTS = {
    "dreamer": (dreamer.program, "gym", DREAMER),
    "dreamer_v3": (dreamer.program, "dreamer_v3", DREAMER_V3),
    "planet": (planet.program, "gym", PLANET),
}
"""Program, preset and what is set over it."""


def solve(
    agent: str,
    environment: type,
    logdir: pathlib.Path,
    seed: int = 0,
    precision: Precision = "float32",
    options: dict[str, Any] | None = None,
) -> tuple[float, float, int]:
    """Trains; returns the random policy's return, the agent's, and the updates' traces."""
    package, preset, own = AGENTS[agent]
    program = package.load_program()
    traces = []

    def make_agent(*arguments):
        made = program.make_agent(*arguments)

        def counted(update):
            def counted_update(state, key, batch):
                traces.append(1)
                return update(state, key, batch)

            return counted_update

        kept = made.latents
        kept = kept and kept._replace(update=counted(kept.update))
        return made._replace(update=counted(made.update), latents=kept)

    config = program.default_config
    task = {"task": f"tests.envs.known:{environment.__name__}", "seed": seed}
    for values in (
        load_presets([preset, "debug"], program.name),
        SIZES,
        SPEEDS,
        own,
        task,
        {"world_model": {"precision": precision}},
        options or {},
    ):
        config = update(config, values)
    training.train(program._replace(make_agent=make_agent), config, logdir)
    metrics = {}
    for record in read_jsonl(logdir / "metrics.jsonl"):
        metrics |= record
    return metrics["random/return_mean"], metrics["eval/return_mean"], len(traces)


def check_solved(random: float, learned: float, traces: int, environment: type) -> None:
    share = (learned - random) / (environment.OPTIMUM - random)
    print(f"random {random:.2f}, learned {learned:.2f}, optimum {environment.OPTIMUM}")
    assert share > 0.9
    assert learned <= environment.OPTIMUM + 1e-6
    assert traces == 1


@pytest.mark.parametrize(
    ("agent", "environment", "options"),
    [
        ("dreamer", known.Corridor, SHORT),
        ("planet", known.Wind, {}),
        pytest.param("dreamer_v3", known.Corridor, {}, marks=pytest.mark.slow),
        ("dreamer_v3", known.Wind, SHORT),
        pytest.param("dreamer", known.Wind, {}, marks=pytest.mark.slow),
        pytest.param("planet", known.Corridor, {}, marks=pytest.mark.slow),
    ],
)
def test_known_optimum_is_reached(agent, environment, options, tmp_path):
    """Discrete and continuous actions; both kinds of end."""
    check_solved(*solve(agent, environment, tmp_path, options=options), environment)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["dreamer", "dreamer_v3", "planet"])
@pytest.mark.parametrize("method", ["fixed", "lagrangian"])
def test_a_constraint_moves_the_optimum_to_where_it_is_kept(agent, method, tmp_path):
    constraint = {"method": method, "limit": 0.25, "weight": 1.0, "lr": 0.01}
    options = {"env": {"cost": True}, "constraint": constraint, "run": {"frames": 3000},
               "world_model": {"predict_cost": True}}  # fmt: skip
    _, learned, _ = solve(agent, known.Toll, tmp_path, options=options)
    costs = [row["eval/cost_mean"] for row in read_jsonl(tmp_path / "metrics.jsonl")
             if "eval/cost_mean" in row]  # fmt: skip
    print(f"return {learned:.2f} of {known.Toll.BEST}, cost {costs[-1]:.2f} of {known.Toll.COST}")
    assert learned == pytest.approx(known.Toll.BEST, abs=0.6)
    assert costs[-1] == pytest.approx(known.Toll.COST, abs=0.6)


@pytest.mark.slow
def test_known_optimum_is_reached_with_rounded_products(tmp_path, capsys):
    solved = solve("dreamer", known.Corridor, tmp_path, precision="bfloat16_products")
    check_solved(*solved, known.Corridor)
    assert "bfloat16" not in capsys.readouterr().err
