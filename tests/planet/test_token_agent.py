"""The agent that plans in the token-level dynamics: acting, learning, and a whole run."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import common
import planet
from common.envs import EnvConfig, make_one
from common.errors import UserError
from common.learning.optimizers import OptimizerConfig
from common.logging.jsonl import read_jsonl
from common.planner import PlannerConfig
from common.spaces import ObservationSpec
from common.tokens import tdm
from common.tokens.config import TDMConfig
from common.tokens.steps import pad, predicted
from planet.agent import PlanningAgent, make_agent
from planet.config import Config
from planet.program import main
from planet.token_model import disturb, vector_model
from tests.tiny import ACTIONS, VECTOR, choice, random_batch, random_params

CONFIG = Config(
    model="tdm",
    tdm=TDMConfig(bins=16, context=3, layers=1, heads=2, width=8, units=8, decode="mean"),
    planner=PlannerConfig(horizon=2, iterations=2, candidates=12, top=4),
    model_opt=OptimizerConfig(lr=1e-2, eps=1e-8),
)
SPECS = {"speed": ObservationSpec((1,), "vector"), "place": ObservationSpec((2,), "vector")}
SIZES = 3, 2
ENVS = 2


def agent(specs=SPECS, actions=ACTIONS, **options):
    config = dataclasses.replace(CONFIG, **options)
    return PlanningAgent("tdm", vector_model(config, specs, actions), config, actions)


def stream(length, seed=0):
    """Rows of both environments ``[T, N, ...]``; the second resets at row 2."""
    batch = random_batch(SPECS, ACTIONS, seed, batch=length, time=ENVS)
    batch["is_first"][:] = np.arange(length)[:, None] == 0
    batch["is_first"][2:3, 1] = True
    return batch


def row(rows, time, *without):
    return {key: x[time] for key, x in rows.items() if key not in ("action", *without)}


@pytest.mark.parametrize(
    "config", [TDMConfig(), TDMConfig("uniform", low=(-3.0,) * 4, high=(3.0, 4.0, 5.0, 6.0))]
)
def test_jitter_moves_units_by_its_deviation_and_nothing_else(config):
    rows = {key: jnp.asarray(x) for key, x in random_batch(SPECS, ACTIONS, 0, 200, 20).items()}
    steps, tokens = pad(rows, *SIZES), config.tokens()
    moved = disturb(jax.random.key(0), steps, tokens, 0.05)
    for name in ("action", "is_first", "has_observation", "has_action"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(steps, name))
    change = tokens.to_unit(predicted(moved)) - tokens.to_unit(predicted(steps))
    np.testing.assert_allclose(change.std((0, 1)), 0.05, rtol=0.1)
    np.testing.assert_allclose(change.mean((0, 1)), 0.0, atol=0.005)
    assert disturb(jax.random.key(0), steps, tokens, 0.0) is steps


def test_jitter_is_what_the_update_learns_under():
    learned = []
    for jitter, key in ((0.0, 0), (0.0, 1), (0.1, 0), (0.1, 1)):
        one = agent(jitter=jitter)
        state = jax.jit(one.init)(jax.random.key(0))
        batch = random_batch(SPECS, ACTIONS)
        state, _ = jax.jit(one.update)(state, jax.random.key(key), batch)
        learned.append(np.concatenate([x.ravel() for x in jax.tree.leaves(state.params)]))
    np.testing.assert_array_equal(learned[0], learned[1])
    assert not np.array_equal(learned[0], learned[2])
    assert not np.array_equal(learned[2], learned[3])


def test_updates_learn():
    one = make_agent(CONFIG, SPECS, ACTIONS)
    state = jax.jit(one.init)(jax.random.key(0))
    batch, update, losses = random_batch(SPECS, ACTIONS), jax.jit(one.update), []
    for i in range(60):
        state, metrics = update(state, jax.random.key(i), batch)
        losses.append(float(metrics["tdm/loss"]))
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 1
    assert set(one.params(state)) == {"tdm"}
    assert one.report(one.params(state), jax.random.key(0), batch) == {}


def test_the_model_reads_the_newest_rows_with_the_actions_that_were_taken():
    """Beyond the context nothing is kept; keys are sorted, the first action of all is zero."""
    one, rows = agent(), stream(5)
    params = {"tdm": random_params(one.model.init)}
    act = jax.jit(one.act, static_argnames="mode")
    carry, taken = one.initial_carry(ENVS), [np.zeros((ENVS, 2), np.float32)]
    for time in range(5):
        action, carry = act(params, jax.random.key(time), carry, row(rows, time), mode="train")
        np.testing.assert_array_equal(carry.action, action)
        taken.append(action)
    newest = {key: x[2:].swapaxes(0, 1) for key, x in rows.items()}
    newest["action"] = np.stack(taken[2:5], 1) * ~newest["is_first"][..., None]
    want = pad(newest, *SIZES)
    np.testing.assert_array_equal(want.observation[..., :2], newest["place"])
    jax.tree.map(np.testing.assert_array_equal, carry.memory, want)


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_reset_forgets_everything(warm_start):
    one = agent(planner=dataclasses.replace(CONFIG.planner, warm_start=warm_start))
    params, rows = {"tdm": random_params(one.model.init)}, stream(4)
    act = jax.jit(one.act, static_argnames="mode")
    used = one.initial_carry(ENVS)
    for time in range(3):
        _, used = act(params, jax.random.key(time), used, row(rows, time), mode="train")
    first = row(rows, 3) | {"is_first": np.ones(ENVS, bool)}
    args = params, jax.random.key(9)
    want, _ = act(*args, one.initial_carry(ENVS), first, mode="eval")
    np.testing.assert_allclose(act(*args, used, first, mode="eval")[0], want, atol=1e-5)
    later = row(rows, 3) | {"is_first": np.zeros(ENVS, bool)}
    assert (act(*args, used, later, mode="eval")[0] != want).any()


@pytest.mark.parametrize("order", ["autoregressive", "parallel"])
def test_a_reward_that_nobody_tells_is_expected(order):
    """Its place takes the mean by the probabilities that the model gives; 0 in first rows."""
    config = dataclasses.replace(CONFIG.tdm, order=order)
    one = agent(tdm=config)
    params, rows = {"tdm": random_params(one.model.init)}, stream(3)
    act = jax.jit(one.act, static_argnames="mode")
    carry = one.initial_carry(ENVS)
    for time in range(3):
        _, carry = act(params, jax.random.key(time), carry, row(rows, time, "reward"), mode="eval")
    probs = jax.nn.softmax(tdm.functions(config, *SIZES).predict(params["tdm"], carry.memory))
    probs = probs[:, -1, -1]
    tokens = CONFIG.tdm.tokens()
    want = np.asarray(probs) @ np.asarray(tokens.decode(jnp.arange(tokens.bins)))
    np.testing.assert_allclose(carry.memory.reward[0, -1], want[0], rtol=1e-4, atol=1e-5)
    assert carry.memory.reward[0, 0] == carry.memory.reward[1, -1] == 0
    assert carry.memory.reward[0, -1] != 0


def test_discrete_actions():
    one = agent(actions=choice(3))
    params = {"tdm": random_params(one.model.init)}
    act = jax.jit(one.act, static_argnames="mode")
    action, _ = act(params, jax.random.key(0), one.initial_carry(2), row(stream(1), 0), mode="eval")
    np.testing.assert_array_equal(np.sort(action, -1), [[0, 0, 1]] * 2)


def test_images_are_refused():
    with pytest.raises(UserError, match="'image' is an image; .* --env.pixels false --env.state"):
        make_agent(CONFIG, {"image": ObservationSpec((32, 32, 3), "image"), **VECTOR}, ACTIONS)


TASKS = "dmc_cartpole_swingup,dmc_reacher_easy"
WORDS = (
    f"train --configs tdm debug --task {TASKS} --env.time_limit 64 "
    "--run.eval_episodes 1 --run.log_every 200 --run.video false"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on two tasks that was stopped and went on."""
    folder = tmp_path_factory.mktemp("planet") / "run"
    for frames in (600, 900):
        assert main(f"{WORDS} --logdir {folder} --run.frames {frames}".split()) == 0
    return folder


def test_a_run_resumes_and_reports(trained, capsys):
    metrics = list(read_jsonl(trained / "metrics.jsonl"))
    losses = [x["tdm/loss"] for x in metrics if "tdm/loss" in x]
    assert len(losses) >= 2 and np.isfinite(losses).all()
    assert sorted({x["frames"] for x in metrics if "eval/return_mean" in x})[-1] >= 900
    assert "Token-level dynamics" in (trained / "report.html").read_text()
    other = f"{WORDS} --logdir {trained} --run.frames 900 --model world_model"
    assert main(other.split()) == 2
    assert "model ('tdm', now 'world_model')" in capsys.readouterr().err


def test_another_planner_evaluates(trained, capsys):
    words = f"eval --logdir {trained} --episodes 1 --planner.method shooting"
    assert main(words.split()) == 0
    assert "over 2 episodes (dmc_cartpole_swingup" in capsys.readouterr().out


def test_loaded_agents_act_with_and_without_the_reward(trained):
    env = make_one(TASKS, EnvConfig(pixels=False, state=True), 0, only="dmc_reacher_easy")
    one, first = planet.load(str(trained)), env.reset()
    observation = {key: first[key] for key in env.observation_specs}
    _, carry = one.act(observation)
    _, told = one.act(observation, carry, reward=0.75)
    assert told.memory.reward[0, -1] == 0.75
    action, told = one.act(observation, carry)
    assert action.shape == (2,) and told.memory.reward[0, -1] != 0.75


def test_there_is_no_world_model_to_load(trained):
    with pytest.raises(UserError, match="holds no world model, but tdm"):
        common.load_world_model(str(trained))
