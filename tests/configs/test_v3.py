"""The presets of DreamerV3 against the public code's values, and its parameters one by one."""

from __future__ import annotations

import csv
import pathlib

import jax
import pytest

from common.config import difference
from common.replay.memory import row_bytes
from common.rows import row_specs
from common.spaces import ObservationSpec
from dreamer.agent import make_agent
from tests.configs.reading import load, values
from tests.tiny import box, choice

V3 = {
    "rssm.latent": "categorical",
    "rssm.stoch": 32,
    "rssm.cell": "block_gru",
    "rssm.blocks": 8,
    "rssm.cell_layers": 1,
    "rssm.prior_layers": 2,
    "rssm.posterior_layers": 1,
    "rssm.activation": "silu",
    "rssm.norm": "rms",
    "rssm.init": "trunc_normal",
    "rssm.unimix": 0.01,
    "rssm.absolute": False,
    "encoder.activation": "silu",
    "encoder.norm": "rms",
    "encoder.init": "trunc_normal",
    "encoder.outer": False,
    "decoder.activation": "silu",
    "decoder.norm": "rms",
    "decoder.init": "trunc_normal",
    "decoder.layers": 3,
    "reward.norm": "rms",
    "discount.norm": "rms",
    "actor.norm": "rms",
    "actor.init": "trunc_normal",
    "critic.norm": "rms",
    "critic.activation": "silu",
    "critic.init": "trunc_normal",
    "critic.bins": 255,
    "world_model.decoder_scale": 1.0,
    "world_model.reward_scale": 1.0,
    "world_model.discount_scale": 1.0,
    "reward_transform": "identity",
    "reward_gradients": True,
    "start_gradients": False,
    "include_start": True,
    "reward_norm.momentum": 1.0,
    "return_norm.low": 5.0,
    "return_norm.high": 95.0,
    "actor_scale": 1.0,
    "critic_scale": 1.0,
    "behavior.exploration_noise": 0.0,
    "encoder.layers": 3,
    "encoder.convolutions": "pool",
    "encoder.multipliers": (2, 3, 4, 4),
    "encoder.kernel": 5,
    "decoder.convolutions": "nearest",
    "decoder.blocks": 8,
    "decoder.score": "squared",
    "reward.layers": 1,
    "reward.likelihood": "two_hot",
    "reward.bins": 255,
    "discount.layers": 1,
    "discount.likelihood": "bernoulli",
    "kl.dyn_scale": 1.0,
    "kl.rep_scale": 0.1,
    "kl.free": 1.0,
    "predict_discount": True,
    "discount_factor": pytest.approx(1 - 1 / 333, abs=1e-12),
    "soft_discount": True,
    "vector_transform": "symlog",
    "actor.layers": 3,
    "actor.continuous": "bounded_normal",
    "actor.out_scale": 0.01,
    "actor.init_std": 2.0,
    "actor.min_std": 0.1,
    "actor.max_std": 1.0,
    "actor.evaluate": "sample",
    "critic.layers": 3,
    "critic.likelihood": "two_hot",
    "joint": True,
    "horizon": 15,
    "starts": 0,
    "lambda_": 0.95,
    "actor_grad": "reinforce",
    "actor_entropy": "3e-4",
    "include_reward": False,
    "slow_target": False,
    "slow_target_update": 1,
    "slow_target_fraction": 0.02,
    "slow_initial_copy": True,
    "behavior.slow_regularizer": 1.0,
    "return_norm.method": "percentiles",
    "return_norm.rate": 0.01,
    "return_norm.limit": 1.0,
    "return_norm.debias": False,
    "value_norm.method": "none",
    "advantage_norm.method": "none",
    "replay_value.scale": 0.3,
    "replay_value.gradients": True,
    "replay_value.slow_regularizer": 1.0,
    "model_opt.lr": 4e-5,
    "model_opt.lr_schedule": "warmup(1000,1)",
    "model_opt.adam": "laprop",
    "model_opt.eps": 1e-20,
    "model_opt.beta1": 0.9,
    "model_opt.beta2": 0.999,
    "model_opt.agc": 0.3,
    "model_opt.clip": 0.0,
    "model_opt.weight_decay": 0.0,
    "replay.batch": 16,
    "replay.length": 64,
    "replay.capacity": 5_000_000,
    "replay.sampling": "steps",
    "precision": "auto",
    "replay.minimum": 1024,
    "replay.latents": True,
    "replay.burn_in": 0,
    "replay.online": True,
    "run.prefill": 0,
    "run.pretrain": 1,
    "run.train_every": 0.0,
}
LARGE_V3 = {"rssm.deter": 8192, "rssm.hidden": 1024, "rssm.classes": 64, "critic.units": 1024}
"""Further values of ``size_200m``."""
REPLAYED_V3 = {
    "dmc_proprio_v3": 1024, "dmc_vision_v3": 256, "atari_v3": 32, "atari100k_v3": 256,
    "crafter_v3": 512,
}  # fmt: skip
"""Replayed rows for every agent step."""
ENV_V3 = {
    "dmc_proprio_v3": {"pixels": False, "state": True, "action_repeat": 1},
    "dmc_vision_v3": {"pixels": True, "state": False, "action_repeat": 1, "image_size": 64},
    "atari_v3": {
        "action_repeat": 4, "image_size": 96, "grayscale": True, "sticky": 0.25,
        "all_actions": True, "noops": 30, "time_limit": 108_000,
    },
    "atari100k_v3": {
        "action_repeat": 4, "image_size": 64, "grayscale": False, "sticky": 0.0,
        "all_actions": False, "noops": 30, "time_limit": 108_000,
    },
    "crafter_v3": {"action_repeat": 1, "image_size": 64},
}  # fmt: skip
"""How the public code builds its environments."""
STEPS_V3 = {
    "dmc_proprio_v3": 1.1e6, "dmc_vision_v3": 1.1e6, "atari_v3": 5.1e7, "atari100k_v3": 1.1e5,
    "crafter_v3": 1.1e6,
}  # fmt: skip
"""Agent steps of a run."""


@pytest.mark.parametrize("name", REPLAYED_V3)
def test_v3_values(name):
    """Each of them, whatever came before, with as many rows for every step as published."""
    large = {} if name == "dmc_proprio_v3" else LARGE_V3
    wanted = V3 | large | {"env.action_repeat": 4 if name.startswith("atari") else 1}
    wanted |= {"env.amount": 1 if name in ("atari100k_v3", "crafter_v3") else 16}
    for before in ([], ["atari"], ["dreamer_v1"]):
        config = load(*before, name)
        assert values(config, wanted) == wanted
        assert config.run.train_ratio == REPLAYED_V3[name]


@pytest.mark.parametrize("name", ENV_V3)
def test_v3_environments(name):
    config = load(name)
    wanted = {f"env.{option}": value for option, value in ENV_V3[name].items()}
    assert values(config, wanted) == wanted
    assert config.run.frames == STEPS_V3[name] * config.env.action_repeat


with (
    pathlib.Path(__file__).parents[1] / "recorded" / "dreamerv3_param_counts.csv"
).open() as _file:
    COUNTS = list(csv.DictReader(_file))
CASES = {
    "dmc_proprio walker_walk (14+1+9, A=6)": (
        "dmc_proprio_v3", {"orientations": 14, "height": 1, "velocity": 9}, box(6)
    ),
    "dmc_vision A=6": ("dmc_vision_v3", {"image": (64, 64, 3)}, box(6)),
    "atari 96x96x1, 18 actions": ("atari_v3", {"image": (96, 96, 1)}, choice(18)),
    "atari100k 64x64x3, 6 actions": ("atari100k_v3", {"image": (64, 64, 3)}, choice(6)),
}  # fmt: skip
MODULES = {
    "enc": "encoder", "dyn": "rssm", "dec": "decoder", "rew": "reward", "con": "discount",
    "pol": "actor", "val": "critic",
}  # fmt: skip


def _row(row: dict[str, str]) -> object:
    """A line of the table; those of sizes between others take long for what they add."""
    marks = [] if row["preset"] in ("size1m", "size12m", "size400m") else [pytest.mark.slow]
    return pytest.param(row, id=f"{row['preset']} {row['case'][:11]}", marks=marks)


@pytest.mark.parametrize("row", list(map(_row, COUNTS)))
def test_v3_parameters_are_as_many_as_the_reference_has(row):
    """By module, of every size; nothing is computed."""
    name, shapes, actions = CASES[row["case"]]
    specs = {
        key: ObservationSpec((shape,), "vector")
        if isinstance(shape, int)
        else ObservationSpec(shape, "image")
        for key, shape in shapes.items()
    }
    config = load(name, row["preset"].replace("size", "size_"))
    params = jax.eval_shape(make_agent(config, specs, actions).init, jax.random.key(0)).params
    parts = {**params["world_model"], **params}
    found = {
        theirs: sum(leaf.size for leaf in jax.tree.leaves(parts[ours]))
        for theirs, ours in MODULES.items()
    }
    assert found == {name: int(row[name]) for name in MODULES}
    assert sum(found.values()) == int(row["total"])


@pytest.mark.parametrize(
    ("names", "case", "all_of_them"),
    [
        (["dmc_vision_v3"], "dmc_vision A=6", (32, 1_100_000)),
        (["dmc_vision_v3", "size_12m"], "dmc_vision A=6", (19, 1_100_000)),
        (["atari_v3"], "atari 96x96x1, 18 actions", (129, 5_000_000)),
    ],
)
def test_the_page_says_how_many_rows_are_kept(names, case, all_of_them):
    """The memory, not the capacity, is the limit from pixels. A row of size 12m has 16.1 KiB."""
    config, (_, shapes, actions) = load(*names), CASES[case]
    specs = {key: ObservationSpec(shape, "image") for key, shape in shapes.items()}
    latents = make_agent(config, specs, actions).latents.specs
    size = row_bytes(row_specs(specs, actions, False) | latents)
    kept = int(config.replay.memory * 1e9) // size
    page = pathlib.Path(__file__).parents[2] / "docs" / "agents" / "dreamer.md"
    assert kept < config.replay.capacity and f"{kept:,}" in page.read_text(encoding="utf-8")
    memory, rows = all_of_them
    assert (memory - 1) * 1e9 < rows * 1.001 * size < memory * 1e9  # Rows of resets too.
    assert "size_12m" not in names or size <= 16.1 * 1024


def test_v2_after_v3_is_v2():
    """But for the environments, of which V3 runs several."""
    changes = difference(load("dmc_proprio"), load("dmc_proprio_v3", "dmc_proprio"))
    unused = ("blocks", "multipliers", "kernel", "outer", "bins", "max_std", "cell_layers")
    left = {change.path for change in changes if not change.path.endswith(unused)}
    assert left == {"env.amount"}
