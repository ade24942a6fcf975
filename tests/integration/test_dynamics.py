"""Both agents with other dynamics than the RSSM: train, go on, evaluate, load, and solve."""

from __future__ import annotations

import numpy as np
import pytest

import common
import dreamer.program
import planet.program
from common.envs import EnvConfig, make_one
from common.logging import read_jsonl
from tests.envs import known
from tests.integration import test_known_optimum

AGENTS = {"dreamer": dreamer, "planet": planet}


def train(agent, dynamics, logdir, options):
    """Runs the command; returns the last value of every metric."""
    words = f"train --logdir {logdir} --dynamics {dynamics} --run.eval_episodes 1 {options}"
    assert AGENTS[agent].program.main(words.split()) == 0
    metrics = {}
    for record in read_jsonl(logdir / "metrics.jsonl"):
        metrics |= record
    return metrics


@pytest.mark.slow
@pytest.mark.parametrize("dynamics", ["transformer", "s5"])
@pytest.mark.parametrize("agent", ["dreamer", "planet"])
def test_from_state(agent, dynamics, tmp_path, capsys):
    """Two environments while training, one in evaluation, and a checkpoint to go on from."""
    options = "--configs dmc_proprio debug --task dmc_cartpole_swingup --env.time_limit 64"
    options += " --env.amount 2 --run.log_every 100 --prefetch 0 --run.frames"
    before = train(agent, dynamics, tmp_path, f"{options} 400")
    after = train(agent, dynamics, tmp_path, f"{options} 500")
    for name in ("world_model/loss", "world_model/kl", "eval/return_mean"):
        assert np.isfinite(before[name]) and np.isfinite(after[name])
    assert AGENTS[agent].program.main(["eval", "--logdir", str(tmp_path), "--episodes", "2"]) == 0
    assert "over 2 episodes" in capsys.readouterr().out
    if agent == "dreamer":  # A planner in what a Dreamer learned.
        words = ["eval", "--logdir", str(tmp_path), "--episodes", "1", "--planner.candidates", "8"]
        assert planet.program.main([*words, "--planner.top", "2"]) == 0
        assert "over 1 episode" in capsys.readouterr().out
    _, params = common.load_world_model(tmp_path)
    assert dynamics in params and "rssm" not in params
    loaded, carry = AGENTS[agent].load(str(tmp_path)), None
    row = make_one("dmc_cartpole_swingup", EnvConfig(pixels=False, state=True), 0).reset()
    for _ in range(3):
        action, carry = loaded.act({key: row[key] for key in ("position", "velocity")}, carry)
        assert action.shape == (1,)


@pytest.mark.slow
@pytest.mark.parametrize("dynamics", ["transformer", "s5"])
@pytest.mark.parametrize("agent", ["dreamer", "planet"])
def test_from_pixels(agent, dynamics, tmp_path):
    """Images, vectors and discrete actions; the report predicts images with closed eyes."""
    options = "--configs gym debug --task tests.envs.toys:Counter --run.frames 300"
    metrics = train(
        agent, dynamics, tmp_path, f"{options} --run.log_every 50 --run.report_every 200"
    )
    assert np.isfinite(metrics["world_model/image_loss"])
    assert list((tmp_path / "videos").glob("open_loop_image*"))


@pytest.mark.slow
@pytest.mark.parametrize("dynamics", ["transformer", "s5"])
@pytest.mark.parametrize(
    ("agent", "environment"),
    [
        ("dreamer", known.Corridor),
        ("planet", known.Wind),
    ],
    ids=["dreamer", "planet"],
)
def test_known_optimum_is_reached(agent, environment, dynamics, tmp_path, monkeypatch):
    """Discrete actions learned in imagination, continuous ones planned; one compilation."""
    model = test_known_optimum.SIZES["world_model"]
    monkeypatch.setitem(model, "dynamics", dynamics)
    sizes = {"stoch": 8, "classes": 8, "layers": 1, "width": 32, "units": 32}
    sizes |= {"context": 8} if dynamics == "transformer" else {"modes": 8}
    monkeypatch.setitem(model, dynamics, sizes)
    random, learned, traces = test_known_optimum.solve(agent, environment, tmp_path)
    assert (learned - random) / (environment.OPTIMUM - random) > 0.9
    assert traces == 1
