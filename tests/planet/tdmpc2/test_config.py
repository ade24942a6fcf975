"""Options of TD-MPC2: sizes, discounts, and values that cannot be."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from common.command.presets import load_presets, resolve
from common.config import update
from common.errors import UserError
from common.spaces import ObservationSpec
from planet.config import Config
from planet.program import load_program
from planet.tdmpc2.config import TDMPC2Config, episode_discount
from planet.tdmpc2.networks import make_networks
from tests.golden_data import FOLDER_TDMPC2, assert_values, every_array, load
from tests.tiny import box

MISC = load("misc", FOLDER_TDMPC2)
OBSERVATION, ACTIONS = 24, 6
"""What the published numbers of weights are of."""
TABLE = {
    "1m": (40_064, 250_752, 240_101, 203_532, 480_202, 1_214_651, 199_297),
    "5m": (139_520, 794_112, 582_245, 533_516, 2_911_225, 4_960_618, 527_873),
    "19m": (1_868_032, 2_636_032, 1_950_821, 1_853_452, 9_754_105, 18_062_442, None),
    "48m": (7_860_224, 5_987_584, 4_790_117, 4_619_788, 23_950_585, 47_208_298, None),
    "317m": (56_119_328, 28_102_688, 22_876_261, 22_487_052, 183_010_088, 312_595_417, None),
}
"""Weights of encoder, dynamics, reward, policy, values, all of these, and termination."""


def amounts(config, observations):
    networks = make_networks(config, observations, box(ACTIONS))
    shapes = jax.eval_shape(networks.init, jax.random.key(0))
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    return {name: count(tree) for name, tree in shapes.items()}


@pytest.mark.parametrize("size", TABLE)
def test_weights_of_every_size(size):
    vector = {"x": ObservationSpec((OBSERVATION,), "vector")}
    names = ["tdmpc2"] if size == "5m" else ["tdmpc2", f"tdmpc2_{size}"]
    config = update(Config(), load_presets(names, "planet")).tdmpc2
    got = amounts(config, vector)
    ends = got.pop("termination")
    assert amounts(dataclasses.replace(config, terminations=False), vector) == got
    ordered = [got[name] for name in ("encoder", "dynamics", "reward", "policy", "q")]
    *parts, total, termination = TABLE[size]
    assert ordered == parts and sum(ordered) == total
    assert termination in (None, ends)
    with every_array(MISC.case(f"params.size{size.removesuffix('m')}")) as want:
        golden = [want[name] for name in ("encoder", "dynamics", "reward", "pi", "q")]
        assert (golden, want["total_without_termination"]) == (ordered, total)
        assert want["termination"] == ends


def test_weights_from_pixels():
    got = amounts(TDMPC2Config(), {"image": ObservationSpec((64, 64, 9), "image")})
    assert (got["encoder"], sum(got.values())) == (58_272, 4_879_370)


def test_discount_follows_from_the_length_of_episodes():
    with every_array(MISC.case("discount")) as case:
        got = [episode_discount(int(length)) for length in case["in.episode_length"]]
        assert_values(np.float32(got), case["out"])


@pytest.mark.parametrize(
    ("task", "limit", "steps"),
    [
        ("dmc_walker_walk", 0, 500),
        ("dmc_walker_walk", 100, 50),
        ("dmc_walker_walk", 2000, 500),  # The suite's own limit still ends it.
        ("gym_CartPole-v1", 0, 500),
        ("gym_CartPole-v1", 5000, 500),
        ("atari_pong", 0, 27_000),
        ("atari_pong", 400_000, 100_000),  # Whose own one is another then.
    ],
)
def test_discount_is_that_of_the_shorter_limit(task, limit, steps):
    config = resolve(load_program(), ["tdmpc2"], {"task": task, "env.time_limit": limit})
    assert config.tdmpc2.discount == episode_discount(steps)


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("dmc_walker_walk", (6, 0.5, 0.99, False)),
        ("dmc_humanoid_run", (8, 0.5, 0.99, False)),
        ("dmc_dog_run", (8, 0.5, 0.99, False)),
        ("gym_Hopper-v5", (6, 0.7, 0.99, True)),
        ("gym_LunarLander-v3", (6, 0.7, 0.99, True)),
        ("gym_HalfCheetah-v5", (6, 0.7, 0.99, False)),
        ("rwrl_walker_walk", (6, 0.5, 0.995, False)),
        ("metaworld_reach-v3", (6, 0.5, 0.0, False)),
        ("gym_Pendulum-v1", (6, 0.5, 0.975, True)),
        ("my.module:make", (6, 0.5, 0, True)),
    ],
)
def test_tasks_have_the_public_code_s_values(task, found):
    config = resolve(load_program(), ["tdmpc2"], {"task": task})
    learned = config.tdmpc2
    assert (config.planner.iterations, learned.rho, learned.discount, learned.terminations) == found


def test_every_number_of_the_file_is_looked_at():
    tested = {f"params.size{size.removesuffix('m')}" for size in TABLE}
    assert {name.rsplit(".", 1)[0] for name in MISC if "discount" not in name} == tested


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_q": 1}, "TDMPC2Config.num_q is 1; expected at least 2"),
        ({"dropout": 1.0}, "dropout is 1.0; expected at least 0 and below 1"),
        ({"bins": 1}, "bins is 1; expected at least 2"),
        ({"latent": 20}, "latent is 20; expected a multiple of TDMPC2Config.simnorm, which is 8"),
        ({"low": 10.0}, "low is 10; expected less than TDMPC2Config.high, 10"),
        ({"min_log_std": 3.0}, "min_log_std is 3; expected less than .*max_log_std, 2"),
        ({"horizon": 0}, "horizon is 0; expected at least 1"),
        ({"tau": 0.0}, "tau is 0.0; expected"),
        ({"rho": 1.5}, "rho is 1.5; expected 0 to 1"),
    ],
)
def test_impossible_options(options, words):
    with pytest.raises(UserError, match=words) as error:
        TDMPC2Config(**options)
    assert "\n" not in str(error.value)
