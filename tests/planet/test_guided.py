"""Planning with the critic and the actor of a Dreamer: loaded, and while it learns."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dreamer
import planet
from common.errors import UserError
from common.export import EXPORT, export
from common.model.world_model import world_model
from common.nets.heads import HeadConfig
from common.run.loading import LoadedAgent
from common.spaces import ObservationSpec
from dreamer.agent import make_agent
from dreamer.config import ActingPlannerConfig, ActorConfig, BehaviorConfig, Config
from dreamer.program import main as dreamer_main
from planet.guided import planned_model
from planet.program import load_program
from planet.program import main as planet_main
from planet.value import with_value
from tests.tiny import ACTIONS, MIXED, TINY, VECTOR, random_params

IMAGE = {"image": ObservationSpec((32, 32, 1), "image")}
V2 = Config(
    task="dmc_reacher_easy",
    world_model=dataclasses.replace(TINY, predict_discount=True, discount_factor=0.9),
    actor=ActorConfig(layers=1, units=8),
    critic=HeadConfig(layers=1, units=8),
)
V3 = dataclasses.replace(V2, behavior=BehaviorConfig(include_reward=False))
GUIDED = {
    "planner.method": "mppi", "planner.value": "true", "planner.policy_candidates": "4",
    "planner.candidates": "12", "planner.horizon": "3", "planner.iterations": "2",
}  # fmt: skip
CART_POLE = "gym_CartPole-v1"
SMALL = ["--planner.candidates", "12", "--planner.elites", "4", "--planner.iterations", "2"]


def exported(folder, config, specs, actions=ACTIONS):
    agent = make_agent(config, specs, actions)
    params = random_params(lambda key: agent.params(agent.init(key)))
    export(folder / EXPORT, "dreamer", config, specs, actions, params)
    return agent, params


@pytest.mark.parametrize("config", [V2, V3], ids=["V2", "V3"])
def test_returns_end_with_what_the_critic_expects(config):
    """One candidate step by step: a V2 critic's value has its reward within, a V3 critic's not."""
    agent = make_agent(config, VECTOR, ACTIONS)
    params = random_params(lambda key: agent.params(agent.init(key)))
    model = world_model(config.world_model, VECTOR, ACTIONS)
    planned = planned_model(agent, model)
    guide, world, key = planned.guide, params["world_model"], jax.random.key(1)
    value = lambda params, key, states: guide.value(params, key, states)[0]  # noqa: E731
    rollout = jax.jit(with_value(planned.rollout, value, guide.includes_reward))
    actions = jax.random.uniform(key, (1, 1, 3, 2), minval=-1)
    got = rollout(params, key, model.initial(1), actions).returns(guide.discount)
    state, total, weight = model.initial(1), 0.0, 1.0
    noise = model.draw_noise(jax.random.split(key)[0], (3, 1))
    for t in range(3):
        state = model.imagine_step(world, noise[t], state, actions[:, 0, t])
        feature = model.feature(world, state)
        reward = float(model.reward(world, feature).mean()[0])
        worth = float(agent.value(params, state)[0])
        last = t == 2
        total += weight * (worth if last and config is V2 else reward)
        weight *= float(model.discount(world, feature).mean()[0])
        total += weight * worth if last and config is V3 else 0.0
    assert float(got[0, 0]) == pytest.approx(total, rel=1e-4)
    assert guide.discount == 0.9


@pytest.mark.parametrize("actions", [ACTIONS, MIXED], ids=["continuous", "mixed"])
@pytest.mark.parametrize("specs", [VECTOR, IMAGE], ids=["state", "pixels"])
def test_any_dreamer_plans(tmp_path, specs, actions):
    agent, params = exported(tmp_path, V3, specs, actions)
    loaded = LoadedAgent(load_program(), tmp_path, changes=GUIDED)
    (name, spec), rng = next(iter(specs.items())), np.random.default_rng(0)
    observation = {name: (50 * rng.random(spec.shape)).astype(spec.dtype)}
    action, carry = loaded.act(observation)
    loaded.act(observation, carry)
    assert np.isfinite(np.concatenate([np.ravel(x) for x in jax.tree.leaves(action)])).all()
    want = float(agent.value(params, carry.memory)[0])
    assert loaded.value(carry) == pytest.approx(want, rel=1e-5)


def test_value_and_policy_change_the_plan(tmp_path):
    exported(tmp_path, V3, VECTOR)
    observation = {"x": np.linspace(-1, 1, 5).astype(np.float32)}
    variants = [
        {**GUIDED, "planner.value": value, "planner.policy_candidates": amount}
        for value, amount in (("false", "0"), ("true", "0"), ("true", "4"))
    ]
    acts = [
        LoadedAgent(load_program(), tmp_path, changes=changes).act(observation)[0]
        for changes in variants
    ]
    assert not np.allclose(acts[0], acts[1]) and not np.allclose(acts[1], acts[2])


def test_the_policy_is_the_actors(tmp_path):
    agent, params = exported(tmp_path, V3, VECTOR)
    model = world_model(V3.world_model, VECTOR, ACTIONS)
    states = jax.tree.map(lambda x: jnp.repeat(x, 4000, 0), model.initial(1))
    drawn = agent.policy(params, jax.random.key(0), states)
    rows = {"x": jnp.zeros((4000, 5)), "is_first": jnp.zeros(4000, bool)}
    carry = agent.initial_carry(4000)
    action, carry = agent.act(params, jax.random.key(1), carry, rows, "train")
    again = agent.policy(params, jax.random.key(2), carry.state)
    np.testing.assert_allclose(action.mean(0), again.mean(0), atol=0.05)
    assert drawn.shape == (4000, 2) and drawn.std() > 0.05


@pytest.mark.parametrize("evaluated", [True, False])
def test_who_is_evaluated_where_a_planner_collects(evaluated):
    """The planner, or the actor with the memory that the planner would have."""
    small = ActingPlannerConfig(
        acts=True, method="mppi", horizon=2, iterations=1, candidates=6, value=True,
        policy_candidates=2, evaluated=evaluated,
    )  # fmt: skip
    alone = make_agent(V3, VECTOR, ACTIONS)
    both = make_agent(dataclasses.replace(V3, planner=small), VECTOR, ACTIONS)
    planner = make_agent(
        dataclasses.replace(V3, planner=dataclasses.replace(small, evaluated=True)), VECTOR, ACTIONS
    )
    params = random_params(lambda key: alone.params(alone.init(key)))
    first, other = (planner, alone) if evaluated else (alone, planner)
    rows = {"x": jnp.ones((2, 5))}
    carries = [agent.initial_carry(2) for agent in (both, first, planner)]
    for step in range(3):
        key, seen = jax.random.key(step), rows | {"is_first": jnp.array([step == 0, step == 2])}
        got, carries[0] = jax.jit(both.act, static_argnums=4)(params, key, carries[0], seen, "eval")
        want, carries[1] = first.act(params, key, carries[1], seen, "eval")
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        differs, _ = other.act(params, key, other.initial_carry(2), seen, "eval")
        assert not np.allclose(got, differs, atol=1e-3)
    key = jax.random.key(4)
    got, _ = both.act(params, key, carries[2], seen, "train")
    np.testing.assert_allclose(got, planner.act(params, key, carries[2], seen, "train")[0])


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A V3 whose planner collects, with latent states kept in the replay."""
    logdir = tmp_path_factory.mktemp("runs") / "run"
    words = f"train --configs gym dreamer_v3 debug --task {CART_POLE} --planner.acts true --logdir"
    more = ["--run.frames", "260", "--run.eval_episodes", "1", "--planner.policy_candidates", "4"]
    assert dreamer_main([*words.split(), str(logdir), *more, *SMALL]) == 0
    return logdir


def test_a_dreamer_learns_and_the_planner_collects(learned, capsys):
    """By one flag; each of both acts in its run afterwards, and so does planet's planner."""
    loaded = dreamer.load(str(learned))
    assert loaded.config.planner.acts and loaded.config.replay.latents
    assert type(loaded.act_function.agent.initial_carry(1)).__name__ == "Carry"
    for flag in ("acts true", "acts false", "evaluated false"):
        words = ["eval", "--logdir", str(learned), "--episodes", "1", *f"--planner.{flag}".split()]
        assert dreamer_main(words) == 0
    words = ["eval", "--logdir", str(learned), "--episodes", "1", *SMALL]
    assert planet_main([*words, "--planner.method", "mppi", "--planner.value", "true"]) == 0
    assert capsys.readouterr().out.count("returns:") == 4


@pytest.mark.slow
def test_it_goes_on_where_it_ended(learned):
    words = f"train --configs gym dreamer_v3 debug --task {CART_POLE} --planner.acts true --logdir"
    more = ["--run.frames", "300", "--run.eval_episodes", "1", "--planner.policy_candidates", "4"]
    assert dreamer_main([*words.split(), str(learned), *more, *SMALL]) == 0


def test_a_planner_that_asks_for_nothing_does_not_act():
    planner = ActingPlannerConfig(acts=True)
    config = dataclasses.replace(V3, planner=planner)
    with pytest.raises(UserError, match="planner.acts is true, and the planner uses neither"):
        make_agent(config, VECTOR, ACTIONS)


@pytest.mark.parametrize("name", ["numpy", "planets"])
def test_no_other_module_is_imported_for_a_file(tmp_path, name):
    agent = make_agent(V3, VECTOR, ACTIONS)
    params = random_params(lambda key: agent.params(agent.init(key)))
    export(tmp_path / EXPORT, name, V3, VECTOR, ACTIONS, params)
    with pytest.raises(UserError, match=f"there is no agent '{name}'; there are dreamer and"):
        planet.load(str(tmp_path))
