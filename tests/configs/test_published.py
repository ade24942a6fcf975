"""The presets that come with the package, against the published hyperparameters.

The tables are written down here by hand, so that neither a preset nor a changed default
can move a published number unseen.
"""

from __future__ import annotations

import importlib.util

import jax
import numpy as np
import pytest

from common.command import presets
from common.config import Change, difference, update
from common.learning.schedules import parse_schedule
from common.spaces import ObservationSpec
from dreamer.agent import make_agent
from dreamer.config import Config
from planet.agent import make_agent as make_planet
from planet.config import Config as PlanetConfig
from tests.configs.reading import load, values
from tests.tiny import box

V2 = {
    "rssm.latent": "categorical",
    "rssm.stoch": 32,
    "rssm.classes": 32,
    "rssm.cell": "layer_norm_gru",
    "rssm.activation": "elu",
    "encoder.depth": 48,
    "decoder.depth": 48,
    "reward.layers": 4,
    "reward.units": 400,
    "critic.layers": 4,
    "actor.units": 400,
    "kl.balance": 0.8,
    "kl.free_avg": True,
    "horizon": 15,
    "lambda_": 0.95,
    "actor_grad": "auto",
    "include_start": True,
    "slow_target": True,
    "slow_target_update": 100,
    "slow_target_fraction": 1.0,
    "reward_norm.momentum": 1.0,
    "actor.continuous": "trunc_normal",
    "actor.min_std": 0.1,
    "exploration_noise": 0.0,
    "model_opt.eps": 1e-5,
    "actor_opt.clip": 100.0,
    "critic_opt.weight_decay": 1e-6,
    "replay.batch": 16,
    "replay.length": 50,
    "replay.capacity": 2_000_000,
    "replay.sampling": "episodes",
}
PLAIN = {"rssm.norm": "none", "encoder.norm": "none", "actor.norm": "none", "critic.norm": "none"}
DMC = {
    **V2,
    **PLAIN,
    "rssm.deter": 200,
    "rssm.hidden": 200,
    "kl.scale": 1.0,
    "kl.free": 1.0,
    "predict_discount": False,
    "discount_factor": 0.99,
    "reward_transform": "identity",
    "actor_entropy": "1e-4",
    "model_opt.lr": 3e-4,
    "actor_opt.lr": 8e-5,
    "critic_opt.lr": 8e-5,
    "replay.prioritize_ends": False,
    "env.action_repeat": 2,
    "run.prefill": 1000,
    "run.pretrain": 100,
    "run.train_every": 5.0,
    "run.eval_every": 20_000,
}
ATARI = {
    **V2,
    **PLAIN,
    "rssm.deter": 600,
    "rssm.hidden": 600,
    "kl.scale": 0.1,
    "kl.free": 0.0,
    "predict_discount": True,
    "discount_factor": 0.999,
    "discount_scale": 5.0,
    "reward_transform": "tanh",
    "actor_entropy": "1e-3",
    "model_opt.lr": 2e-4,
    "actor_opt.lr": 4e-5,
    "critic_opt.lr": 1e-4,
    "replay.prioritize_ends": True,
    "env.action_repeat": 4,
    "env.image_size": 64,
    "env.grayscale": True,
    "env.sticky": 0.25,
    "env.all_actions": True,
    "env.noops": 30,
    "env.time_limit": 108_000,
    "run.frames": 200_000_000,
    "run.prefill": 50_000,
    "run.pretrain": 1,
    "run.train_every": 16.0,
    "run.eval_every": 1_000_000,
}
V1 = {
    **PLAIN,
    "rssm.latent": "gaussian",
    "rssm.stoch": 30,
    "rssm.deter": 200,
    "rssm.hidden": 200,
    "rssm.cell": "gru",
    "rssm.std": "softplus",
    "rssm.min_std": 0.1,
    "encoder.depth": 32,
    "encoder.activation": "relu",
    "decoder.depth": 32,
    "decoder.activation": "relu",
    "reward.layers": 2,
    "critic.layers": 3,
    "actor.layers": 4,
    "actor.continuous": "tanh_normal",
    "actor.min_std": 1e-4,
    "kl.scale": 1.0,
    "kl.balance": 0.5,
    "kl.free": 3.0,
    "predict_discount": False,
    "discount_factor": 0.99,
    "horizon": 15,
    "lambda_": 0.95,
    "actor_grad": "dynamics",
    "actor_entropy": "0",
    "include_start": False,
    "slow_target": False,
    "exploration_noise": 0.3,
    "model_opt.lr": 6e-4,
    "actor_opt.lr": 8e-5,
    "critic_opt.lr": 8e-5,
    "model_opt.eps": 1e-7,
    "model_opt.clip": 100.0,
    "model_opt.weight_decay": 0.0,
    "replay.batch": 50,
    "replay.length": 50,
    "env.action_repeat": 2,
    "run.prefill": 2500,
    "run.pretrain": 100,
    "run.train_every": 5.0,
    "run.frames": 5_000_000,
}
PUBLISHED = {
    "dmc_vision": DMC | {"env.pixels": True, "env.state": False, "env.image_size": 64},
    "dmc_proprio": DMC | {"env.pixels": False, "env.state": True},
    "atari": ATARI,
    "atari_paper": ATARI
    | {
        "replay.batch": 50,
        "actor_grad": "both",
        "actor_grad_mix": "linear(0.1,0,156250)",
        "actor_entropy": "linear(3e-3,3e-4,156250)",
    },
    "atari100k": ATARI
    | {
        "run.frames": 400_000,
        "run.prefill": 1000,
        "run.pretrain": 100,
        "run.train_every": 3.125,
        "run.eval_every": 100_000,
        "env.sticky": 0.0,
        "env.all_actions": False,
        "env.grayscale": False,
    },
    "dreamer_v1": V1,
    "crafter": V2
    | {
        "rssm.deter": 1024,
        "rssm.hidden": 1024,
        "rssm.norm": "layer",
        "encoder.norm": "layer",
        "critic.norm": "layer",
        "predict_discount": True,
        "discount_scale": 1.0,
        "actor_entropy": "3e-3",
    },
}
PLAN2EXPLORE = {
    "exploration.method": "plan2explore",
    "exploration.scale": 1.0,
    "exploration.task_scale": 0.0,
    "exploration.until": 0,
    "exploration.intrinsic_norm.momentum": 1.0,
    "exploration.intrinsic_norm.scale": 1.0,
    "exploration.intrinsic_norm.eps": 1e-8,
    "exploration.ensemble.members": 10,
    "exploration.ensemble.target": "stoch",
    "exploration.ensemble.layers": 4,
    "exploration.ensemble.units": 400,
    "exploration.ensemble.activation": "elu",
    "exploration.ensemble.norm": "none",
    "exploration.opt.lr": 3e-4,
    "exploration.opt.eps": 1e-5,
    "exploration.opt.clip": 100.0,
    "exploration.opt.weight_decay": 1e-6,
}
"""Of DreamerV2's public code: expl_head, expl_opt, expl_reward_norm, disag_*, expl_*_scale."""
CURIOSITY = {
    "curiosity.steps": 5,
    "curiosity.gap": 5,
    "curiosity.slots": 200,
    "curiosity.replacement": "random",
    "curiosity.threshold": 0.5,
    "curiosity.percentile": 90.0,
    "curiosity.layers": 4,
    "curiosity.units": 512,
    "curiosity.activation": "relu",
}
"""Of the public code of arXiv:1810.02274, which has batch norm where we have layer norm."""


PLANET = {
    "latent": "gaussian",
    "rssm.stoch": 30,
    "deter": 200,
    "rssm.hidden": 200,
    "rssm.std": "softplus",
    "min_std": 0.1,
    "rssm.activation": "relu",
    "rssm.cell": "original_gru",
    "encoder.depth": 32,
    "encoder.layers": 3,
    "encoder.units": 300,
    "encoder.activation": "relu",
    "decoder.depth": 32,
    "decoder.layers": 3,
    "decoder.units": 300,
    "decoder.activation": "relu",
    "reward.layers": 3,
    "reward.units": 300,
    "reward.activation": "relu",
    "reward_scale": 10.0,
    "kl.scale": 1.0,
    "kl.free": 3.0,
    "kl.balance": 0.5,
    "predict_discount": False,
    "image_bits": 5,
    "planner.method": "cem",
    "planner.horizon": 12,
    "planner.iterations": 10,
    "planner.candidates": 1000,
    "planner.top": 100,
    "planner.momentum": 0.0,
    "planner.warm_start": False,
    "planner.random_walk": 0,
    "exploration_noise": 0.3,
    "model_opt.lr": 1e-3,
    "model_opt.eps": 1e-4,
    "model_opt.clip": 1000.0,
    "model_opt.weight_decay": 0.0,
    "replay.batch": 50,
    "replay.length": 50,
    "env.action_repeat": -1,
    "env.pixels": True,
    "run.prefill": 0,
    "run.prefill_episodes": 5,
    "run.pretrain": 100,
    "run.updates_per_episode": 100,
    "run.frames": 1_000_000,
}


@pytest.mark.parametrize("names", [["planet"], ["dmc_vision"], ["planet", "dmc_proprio"]])
def test_planet_keeps_its_values_in_every_suite(names):
    config = update(PlanetConfig(), presets.load_presets(names, "planet"))
    wanted = PLANET | {"env.pixels": names[-1] != "dmc_proprio"}
    assert values(config, wanted) == wanted


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_values(name):
    assert values(load(name), PUBLISHED[name]) == PUBLISHED[name]


@pytest.mark.parametrize("name", presets.preset_names())
def test_every_preset_loads_strictly_and_goes_after_any_other(name):
    changed = load(name)
    assert isinstance(changed, Config)
    for other in ("dmc_vision", "atari"):
        assert isinstance(load(other, name), Config)
    for schedule in (changed.behavior.actor_grad_mix, changed.behavior.actor_entropy):
        assert np.isfinite(parse_schedule(schedule)(0))


@pytest.mark.parametrize("before", [[], ["dmc_vision"], ["maze"], ["atari_v3"], ["dreamer_v1"]])
def test_plan2explore_is_as_published_after_any_suite(before):
    found = load(*before, "plan2explore")
    assert values(found, PLAN2EXPLORE) == PLAN2EXPLORE
    same = load(*before)
    paths = {change.path.partition(".")[0] for change in difference(same, found)}
    assert paths == {"exploration"}


def test_episodic_curiositys_defaults_are_the_published_ones():
    assert values(Config(), CURIOSITY) == CURIOSITY


FROM_STATE = {
    "dreamer": (Config(), ["dmc_proprio", "quickstart", "gym"]),
    "planet": (PlanetConfig(), ["dmc_proprio", "planet_state", "gym"]),
}


@pytest.mark.parametrize(
    "agent, default, name", [(a, c, x) for a, (c, n) in FROM_STATE.items() for x in n]
)
def test_presets_that_learn_from_state_standardise(agent, default, name):
    for before in ([], ["dmc_vision"], ["atari"]):
        config = update(default, presets.load_presets([*before, name], agent))
        assert config.world_model.vector_transform == "standard"


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - {"dmc_proprio"}))
def test_presets_that_learn_from_pixels_leave_vectors_as_they_are(name):
    assert load("gym", name).world_model.vector_transform == "identity"


@pytest.mark.parametrize("name", presets.preset_names())
def test_only_agents_that_exist_are_named(name):
    content = presets.read_mapping(presets.FOLDER / f"{name}.yaml")
    for agent in content.get("agents", {}):
        assert importlib.util.find_spec(agent) is not None


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("before", ["crafter", "crafter_v3"])
def test_a_later_suite_replaces_an_earlier_one_whole(name, before):
    """What a suite's preset sets does not depend on the one before it."""
    assert values(load(before, name), PUBLISHED[name]) == PUBLISHED[name]


def test_v2_defaults_are_those_of_dmc_vision():
    changes = difference(Config(), load("dmc_vision"))
    allowed = {"env.action_repeat", "replay.sampling", "world_model.predict_discount"}
    assert {change.path for change in changes} == allowed, list(map(Change.__str__, changes))


def test_atari100k_replays_as_often_as_published():
    config = load("atari100k")
    rows = config.replay.batch * config.replay.length
    assert rows / config.run.train_every == 256


def test_v1_actor_starts_with_a_standard_deviation_of_five():
    assert np.log1p(np.exp(load("dreamer_v1").actor.init_std)) == pytest.approx(5, abs=1e-5)


SIZES = {"size_xs": 0.34, "size_s": 1.01, "size_m": 4.8, "size_l": 13.4, "size_xl": 28.8}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_what_their_comments_say(name):
    """With every dynamics, and of the token-level model, which has no images."""
    said = float(presets.preset_descriptions()[name].split("about ")[1].split()[0])
    image = {"image": ObservationSpec((64, 64, 3), "image")}
    found = _parameters(make_agent, load("dmc_vision", name), image)
    assert found == pytest.approx(SIZES[name], rel=0.01)
    assert said == pytest.approx(found, rel=0.15)
    for dynamics in ("transformer", "s5"):
        config = update(load("dmc_vision", name), {"world_model.dynamics": dynamics})
        assert said == pytest.approx(_parameters(make_agent, config, image), rel=0.15)
    config = update(PlanetConfig(), presets.load_presets(["dmc_proprio", name], "planet"))
    walker = {"state": ObservationSpec((24,), "vector")}
    config = update(config, {"model": "tdm"})
    assert said == pytest.approx(_parameters(make_planet, config, walker), rel=0.15)


def _parameters(make_agent, config, observations) -> float:
    """Millions of parameters of an agent with six actions."""
    state = jax.eval_shape(make_agent(config, observations, box(6)).init, jax.random.key(0))
    trees = {name: tree for name, tree in state.params.items() if name != "slow_critic"}
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(trees)) / 1e6
