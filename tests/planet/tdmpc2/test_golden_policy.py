"""The policy's distribution, its scale, targets and windows against the public code's numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planet.tdmpc2 import policy
from planet.tdmpc2.losses import Losses, make_window, update_scale
from planet.tdmpc2.policy import draw_action
from tests import golden_tdmpc2_agent as agents
from tests.golden_data import (
    FOLDER_TDMPC2,
    assert_exact,
    assert_gradients,
    assert_values,
    every_array,
    load,
)

POLICY, SCALE, TARGET = (load(name, FOLDER_TDMPC2) for name in ("policy", "scale", "td_target"))


def cases(arrays, marker):
    return sorted({name.split(".")[0] for name in arrays if name.endswith(f".{marker}")})


def assert_close(got, want, relative, absolute):
    difference = np.abs(np.asarray(got) - want).max()
    assert difference <= relative * np.abs(want).max() + absolute


@pytest.mark.parametrize("name", cases(POLICY, "in.raw"))
def test_draw(name):
    """Near 1, float32 knows an action's log-density badly: the case "saturated" is of such."""
    with every_array(POLICY.case(name)) as case:
        low, high = float(case["cfg.log_std_min"]), float(case["cfg.log_std_max"])
        assert case["in.eps"].shape[-1] == case["cfg.action_dim"]

        def outputs(raw):
            draw = draw_action(raw, case["in.eps"], low, high)
            got = {name: getattr(draw, name) for name in ("action", "mean", "log_std")}
            got |= {"log_prob": draw.log_prob[..., None], "entropy": -draw.log_prob[..., None]}
            return got | {"scaled_entropy": draw.scaled_entropy[..., None]}

        raw = jnp.asarray(case["in.raw"])
        loose = {"log_prob", "entropy"} if name == "saturated" else set()
        got, pull = jax.vjp(outputs, raw)
        for one, value in got.items():
            if one in loose:
                assert_close(value, case[one], 2e-3, 0.1)
            else:
                assert_values(value, case[one], one)
            if f"in.cotangent_{one}" not in case:
                continue
            weights = {other: jnp.zeros_like(x) for other, x in got.items()}
            (gradient,) = pull(weights | {one: jnp.asarray(case[f"in.cotangent_{one}"])})
            if one in loose:
                assert_close(gradient, case[f"grad.{one}"], 0.3, 0)
            else:
                assert_gradients(gradient, case[f"grad.{one}"], one)


def test_parts_of_a_draw():
    with every_array(POLICY.case("gauss")) as case:
        density = policy.gaussian_log_prob(case["in.eps"], case["in.log_std"])[:, None]
        assert_values(density, case["log_prob"])
    with every_array(POLICY.case("squash")) as case:
        assert_values(jnp.tanh(case["in.mu"]), case["mu"])
        assert_values(jnp.tanh(case["in.pi"]), case["pi"])
        slope = policy.log_slope(case["in.pi"])[:, None]
        assert_values(density - slope, case["log_prob"])
    with every_array(POLICY.case("log_std_map")) as case:
        low = float(case["cfg.low"])
        high = low + float(case["cfg.dif"])
        assert_values(policy.bounded_log_std(case["in.x"], low, high), case["out"])


def test_every_case_is_looked_at():
    parts = {*cases(POLICY, "in.raw"), "gauss", "squash", "log_std_map"}
    tested = {*parts, *cases(SCALE, "start"), *cases(TARGET, "in.next_z")}
    assert {name.split(".")[0] for name in (*POLICY, *SCALE, *TARGET)} == tested


@pytest.mark.parametrize("name", cases(SCALE, "start"))
def test_running_scale(name):
    with every_array(SCALE.case(name)) as case:
        scale, tau = jnp.asarray(case["start"][0]), float(case["cfg.tau"])
        steps = sorted({key.split(".")[0] for key in case if ".in.x" in key})
        for step in steps:
            x = case[f"{step}.in.x"]
            assert_values(np.percentile(x, [5, 95], axis=0), case[f"{step}.percentiles"])
            scale = update_scale(scale, x, tau)
            assert_values(scale[None], case[f"{step}.value"])
            out = case[f"{step}.out"]
            assert_values(x[: len(out)] / scale, out)


@pytest.mark.parametrize("name", cases(TARGET, "in.next_z"))
def test_target(name):
    with every_array(TARGET.case(name)) as case:
        units, entries = case["w.pi.dense0.kernel"].shape[::-1]
        noise = case["in.eps"]
        given = {"latent": entries, "units": units, "num_q": len(case["w.target_q.dense0.bias"])}
        config = agents.config(case, **given, encoder_units=1)
        golden = agents.Golden(case, config, (1,), noise.shape[-1])
        params, target_q = golden.load("w", ["policy"])
        batch = {
            "obs": np.zeros((len(noise) + 1, noise.shape[1], 1)),
            "action": noise, "reward": case["in.reward"], "terminated": case["in.terminated"],
        }  # fmt: skip
        window = make_window(agents.rows(batch, ""), len(noise))
        losses = Losses(golden.networks, config, float(case["cfg.discount"]))
        draws = agents.no_noise(target=noise, target_pair=case["in.perm"])
        got = losses.target(params, target_q, case["in.next_z"], window, draws)
        assert_values(got[..., None], case["out"])


def test_windows_of_a_replay():
    """A first row is no step: the public code has NaN there, and never looks at it."""
    with every_array(load("replay", FOLDER_TDMPC2)) as g:
        first = np.zeros(len(g["in.obs"]), bool)
        first[np.cumsum(g["in.lengths"]) - g["in.lengths"]] = True
        assert_exact(np.isnan(g["in.reward"]), first)
        stored = {key: np.nan_to_num(g[f"in.{key}"]) for key in ("obs", "action", "reward")}
        stored |= {"is_first": first, "is_terminal": np.nan_to_num(g["in.terminated"]) > 0}
        steps = int(g["cfg.horizon"])
        places = g["in.start"][:, None] + np.arange(steps + 1)
        window = make_window({key: jnp.asarray(x[places]) for key, x in stored.items()}, steps)
        assert_exact(window.observation["obs"], g["obs"])
        assert_exact(window.action, g["action"])
        assert_exact(window.reward[..., None], g["reward"])
        assert_exact(window.terminal[..., None], g["terminated"])
        assert window.weight.all()
