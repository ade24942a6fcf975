"""TD-MPC2 as an agent: built from options, acting, learning, trained by the command."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planet
from common.command import presets
from common.errors import UserError
from common.logging import read_jsonl
from common.planner import PlannerConfig
from common.replay.config import ReplayConfig
from common.report.page import GROUPS
from common.spaces import ObservationSpec
from planet.agent import make_agent
from planet.config import Config
from planet.program import load_program, main
from planet.tdmpc2.config import TDMPC2Config
from tests.planet.tdmpc2.small import SMALL
from tests.tiny import ACTIONS, MIXED, VECTOR, choice, random_batch, random_params

TINY = TDMPC2Config(
    encoder_units=8, units=16, latent=16, num_q=2, bins=21, terminations=True, discount=0.9
)
PLANNER = PlannerConfig(
    method="mppi", horizon=3, iterations=2, candidates=12, policy_candidates=4, elites=6,
    value=True, std=2.0, refit_std=True, min_std=0.05, draw=True, explore=True, warm_start=True,
)  # fmt: skip
CONFIG = Config(
    model="tdmpc2", tdmpc2=TINY, planner=PLANNER, replay=ReplayConfig(batch=4, length=4)
)


@pytest.fixture(scope="module")
def agent():
    return make_agent(CONFIG, VECTOR, ACTIONS)


@pytest.fixture(scope="module")
def state(agent):
    state = jax.jit(agent.init)(jax.random.key(0))
    # Freshly drawn, all values are zero.
    return state._replace(params=random_params(lambda key: agent.init(key).params))


def rows(amount, first=True, seed=0):
    x = np.random.default_rng(seed).normal(size=(amount, 5)).astype(np.float32)
    return {"x": x, "is_first": np.full(amount, first)}


def test_it_acts_and_learns(agent, state):
    act = jax.jit(agent.act, static_argnames="mode")
    carry = agent.initial_carry(3)
    for mode in ("train", "eval"):
        action, carry = act(state.params, jax.random.key(0), carry, rows(3), mode=mode)
        assert action.shape == (3, 2) and np.abs(action).max() <= 1
    new, metrics = jax.jit(agent.update)(
        state, jax.random.key(1), random_batch(VECTOR, ACTIONS, batch=4, time=4)
    )
    assert {"model/loss", "model/termination_f1", "policy/scale"} <= metrics.keys()
    assert {name.partition("/")[0] for name in metrics} <= GROUPS.keys()
    assert all(np.isfinite(value) for value in metrics.values())
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), new.params, state.params)
    assert all(jax.tree.leaves({name: x for name, x in moved.items() if name != "policy"}))


def test_collecting_adds_noise_of_the_plans_own_deviation(agent, state):
    """At least that of the narrowest plan; evaluation adds none."""
    act = jax.jit(agent.act, static_argnames="mode")
    args = state.params, jax.random.key(0), agent.initial_carry(400), rows(400)
    noisy, carry = act(*args, mode="train")
    plain, _ = act(*args, mode="eval")
    inside = np.abs(noisy) < 1
    deviation = ((noisy - plain) / carry.belief.std[:, 0])[inside]
    assert 0.6 < deviation.std() < 1.1  # Large ones are cut off at the border.
    np.testing.assert_array_equal(act(*args, mode="eval")[0], plain)


def test_what_it_sees_now_is_all_that_it_remembers_but_for_its_plan(agent, state):
    act = jax.jit(agent.act, static_argnames="mode")
    args = state.params, jax.random.key(1)
    _, used = act(*args, agent.initial_carry(2), rows(2, seed=1), mode="eval")
    want, _ = act(*args, agent.initial_carry(2), rows(2), mode="eval")
    again, _ = act(*args, used, rows(2), mode="eval")
    np.testing.assert_allclose(again, want, atol=1e-5)
    later, _ = act(*args, used, rows(2, first=False), mode="eval")
    assert (later != want).any()


def test_values_and_the_policy_are_asked_for_latent_states(agent, state):
    act = jax.jit(agent.act, static_argnames="mode")
    args = state.params, jax.random.key(1), agent.initial_carry(2), rows(2)
    _, carry = act(*args, mode="eval")
    value = agent.value(state.params, carry)
    assert value.shape == (2,)
    np.testing.assert_allclose(agent.value(state.params, carry.memory), value, rtol=1e-6)
    assert agent.value(state.params, jnp.stack([carry.memory] * 3)).shape == (3, 2)
    drawn = agent.policy(state.params, jax.random.key(0), carry.memory)
    assert drawn.shape == (2, 2) and np.abs(drawn).max() <= 1


@pytest.mark.parametrize(
    "actions",
    [
        pytest.param(choice(3), marks=pytest.mark.slow, id="choices"),
        pytest.param(MIXED, id="mixed"),
    ],
)
def test_choices_are_made_too(actions):
    """By the same planner; a random one in as many cases as exploration_noise says."""
    config = dataclasses.replace(CONFIG, exploration_noise=0.3)
    agent = make_agent(config, VECTOR, actions)
    state = jax.jit(agent.init)(jax.random.key(0))
    state = state._replace(params=random_params(lambda key: agent.init(key).params))
    act = jax.jit(agent.act, static_argnames="mode")
    args = state.params, jax.random.key(0), agent.initial_carry(600), rows(600)
    plain, noisy = (np.asarray(act(*args, mode=mode)[0])[:, -3:] for mode in ("eval", "train"))
    for chosen in (plain, noisy):
        np.testing.assert_array_equal(np.sort(chosen, -1), [[0, 0, 1]] * 600)
    assert (plain != noisy).any(-1).mean() == pytest.approx(0.2, abs=0.05)
    batch = random_batch(VECTOR, actions, batch=4, time=4)
    new, metrics = jax.jit(agent.update)(state, jax.random.key(1), batch)
    assert all(np.isfinite(value) for value in metrics.values())
    before, after = (jax.tree.leaves(x.params["policy"]) for x in (state, new))
    assert all((x != y).any() for x, y in zip(before, after, strict=True))


def test_caution_asks_all_members(state):
    """Two drawn members agree with themselves; all five of them differ."""
    options = dataclasses.replace(TINY, num_q=5)
    plans = []
    for caution in (0.0, 5.0):
        planner = dataclasses.replace(PLANNER, caution=caution)
        config = dataclasses.replace(CONFIG, tdmpc2=options, planner=planner)
        agent = make_agent(config, VECTOR, ACTIONS)
        params = random_params(lambda key, agent=agent: agent.init(key).params)
        args = params, jax.random.key(0), agent.initial_carry(8), rows(8)
        plans.append(jax.jit(agent.act, static_argnames="mode")(*args, mode="eval")[0])
    assert not np.allclose(*plans)


@pytest.mark.parametrize(
    "task, options, discount",
    [
        ("dmc_finger_spin", {}, 0.99),
        ("dmc_finger_spin", {"env.action_repeat": "4"}, 0.98),
        ("dmc_finger_spin", {"env.time_limit": "100"}, 0.95),
        ("gym_Pendulum-v1", {}, 0.975),
        ("atari_pong", {}, 0.995),
        ("gym_Hopper-v5", {}, 0.99),
        ("dmc_finger_spin", {"tdmpc2.discount": "0.5"}, 0.5),
    ],
)
def test_the_discount_follows_the_length_of_episodes(task, options, discount):
    config = presets.resolve(load_program(), ["tdmpc2"], {"task": task, **options})
    assert config.tdmpc2.discount == pytest.approx(discount)


def test_the_published_values():
    """What TDMPC2Config and the preset say together, beside the public code's config.yaml."""
    config = presets.resolve(load_program(), ["tdmpc2"], {"task": "dmc_walker_walk"})
    assert (config.replay.batch, config.replay.length, config.replay.capacity) == (256, 4, 1e6)
    assert (config.run.prefill_episodes, config.run.pretrain, config.run.train_every) == (
        5,
        2500,
        1,
    )
    planner = config.planner
    assert planner.candidates + planner.policy_candidates == 512
    assert (planner.horizon, planner.iterations, planner.elites) == (3, 6, 64)
    assert (planner.min_std, planner.std, 1 / planner.temperature) == (0.05, 2.0, 0.5)
    assert config.tdmpc2 == TDMPC2Config(discount=0.99)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"replay": ReplayConfig(batch=4, length=5)}, "windows of tdmpc2.horizon . 1 = 4 rows"),
        ({"replay": ReplayConfig(length=4, latents=True)}, "set replay.latents false"),
        ({"tdmpc2": dataclasses.replace(TINY, discount=0.0)}, "tdmpc2.discount is 0, for that of"),
    ],
)
def test_options_that_it_cannot_have(changes, words):
    with pytest.raises(UserError, match=words):
        make_agent(dataclasses.replace(CONFIG, **changes), VECTOR, ACTIONS)


@pytest.mark.parametrize(
    "task, words",
    [
        ("tests.envs.toys:Counter", "tdmpc2.discount is 0, for that of the length of episodes"),
        ("gym_Nope-v0", "unknown task 'gym_Nope-v0'"),
        ("gym_no_such_module:Maze-v0", "no_such_module"),
        ("walker_walk", "unknown task 'walker_walk'; did you mean 'dmc_walker_walk'"),
    ],
)
def test_a_task_of_unknown_length_or_name_is_one_line(task, words, tmp_path, capsys):
    logdir = str(tmp_path / "run")
    assert main(["train", "--configs", "tdmpc2", "--task", task, "--logdir", logdir]) == 2
    assert words in capsys.readouterr().err


def test_spaces_that_it_cannot_serve():
    both = VECTOR | {"image": ObservationSpec((64, 64, 9), "image")}
    with pytest.raises(UserError, match="images or vectors, not both"):
        make_agent(CONFIG, both, ACTIONS)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "run"
    assert train(logdir, "120") == 0
    return logdir


def train(logdir, frames):
    words = ["--configs", "tdmpc2", "--task", "gym_Pendulum-v1", "--logdir", str(logdir)]
    return main(["train", *words, "--run.frames", frames, *SMALL])


def test_a_run_goes_on_and_is_evaluated_and_loaded(learned, capsys):
    before = len(list(read_jsonl(learned / "metrics.jsonl")))
    assert train(learned, "160") == 0
    assert len(list(read_jsonl(learned / "metrics.jsonl"))) > before
    words = ["eval", "--logdir", str(learned), "--episodes", "1", "--planner.iterations", "1"]
    assert main(words) == 0
    assert "returns:" in capsys.readouterr().out
    loaded = planet.load(str(learned))
    observation = np.float32([0.5, -0.5, 1.0])
    action, carry = loaded.act(observation)
    assert np.shape(action) == (1,)
    assert np.isfinite(loaded.value(observation)) and np.isfinite(loaded.value(carry))
    actions, _ = loaded.batched(3).predict(np.stack([observation] * 3))
    assert np.shape(actions) == (3, 1)


def test_choices_of_a_gymnasium_environment(tmp_path):
    words = ["--configs", "tdmpc2", "--task", "gym_CartPole-v1", "--logdir", str(tmp_path / "run")]
    several = ["--env.amount", "2", "--tdmpc2.terminations", "true", "--run.frames", "120"]
    assert main(["train", *words, *several, *SMALL]) == 0


def test_it_learns_from_episodes_that_are_given(learned, tmp_path):
    words = ["--configs", "tdmpc2", "--task", "gym_Pendulum-v1", "--logdir", str(tmp_path / "run")]
    data = ["--data", str(learned), "--run.updates", "20", *SMALL]
    assert main(["train", *words, *data]) == 0


@pytest.mark.slow
def test_from_pixels(tmp_path):
    """From the newest three images, that are shifted at random."""
    words = ["--configs", "tdmpc2_vision", "--task", "dmc_cartpole_swingup", "--logdir"]
    more = ["--render", "fast", "--tdmpc2.channels", "2", "--tdmpc2.latent", "32"]
    frames = ["--run.frames", "120", *SMALL, "--tdmpc2.latent", "32"]
    assert main(["train", *words, str(tmp_path / "run"), *frames, *more]) == 0


def test_the_least_deviation_falls_with_the_updates():
    options = dataclasses.replace(TINY, min_std="linear(0.5,0.1,4)")
    # A single elite deviates from itself by nothing, so that what is left is the least.
    planner = dataclasses.replace(PLANNER, elites=1)
    agent = make_agent(
        dataclasses.replace(CONFIG, tdmpc2=options, planner=planner), VECTOR, ACTIONS
    )
    state = jax.jit(agent.init)(jax.random.key(0))
    act, update = jax.jit(agent.act, static_argnames="mode"), jax.jit(agent.update)
    batch = random_batch(VECTOR, ACTIONS, batch=4, time=4)
    for updates in range(6):
        _, carry = act(
            agent.params(state), jax.random.key(0), agent.initial_carry(1), rows(1), mode="eval"
        )
        expected = max(0.5 - 0.1 * updates, 0.1)
        np.testing.assert_allclose(carry.belief.std, expected, rtol=1e-6)
        state, _ = update(state, jax.random.key(1), batch)


def test_a_schedule_never_goes_beyond_the_planners_own_limits():
    for schedule, expected in (("0.01", 0.05), ("9", 2.0)):
        config = dataclasses.replace(
            CONFIG,
            tdmpc2=dataclasses.replace(TINY, min_std=schedule),
            planner=dataclasses.replace(PLANNER, elites=1),
        )
        agent = make_agent(config, VECTOR, ACTIONS)
        params = agent.params(agent.init(jax.random.key(0)))
        _, carry = agent.act(params, jax.random.key(0), agent.initial_carry(1), rows(1), "eval")
        np.testing.assert_allclose(carry.belief.std, expected)
