"""An explorer in a whole Dreamer: who learns what, who acts, what is exported, what fits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.agent import EXPLORER, NORMALISERS
from common.checks import OptionError
from common.config import update
from common.export import export, read_export
from common.learning.normalize import StreamNormConfig
from common.model.imagine import Trajectory
from common.rows import EXPLORES
from common.run.config import RunConfig
from common.run.loading import LoadedAgent
from common.run.program import find_program
from common.spaces import ObservationSpec
from dreamer.agent import JOINT, make_agent
from dreamer.config import ACTING_PLANNER
from dreamer.exploration.config import CuriosityConfig, EnsembleConfig, ExplorationConfig
from dreamer.exploration.intrinsic import find_sizes
from dreamer.exploration.memory import BONUS
from dreamer.program import load_program
from tests.configs.reading import load
from tests.dreamer.test_agent import CONFIG, V1, build, fresh_state
from tests.dreamer.test_joint import V3
from tests.dreamer.updates import LEARNER, check_same, check_update, moved
from tests.tiny import BATCH, TIME, VECTOR, box, choice, random_batch

EXPLORATION = ExplorationConfig(
    ensemble=EnsembleConfig(members=2, layers=1, units=8),
    curiosity=CuriosityConfig(steps=1, gap=1, slots=3, layers=1, units=8),
    head=dataclasses.replace(CONFIG.critic, likelihood="symlog"),
    intrinsic_norm=StreamNormConfig(momentum=0.5),
)
CASES = {
    "plan2explore": (CONFIG, choice(3)),
    "curiosity": (V1, box(2)),
    "surprise": (V3, choice(3)),
}


def exploring(config, method, **options):
    exploration = dataclasses.replace(EXPLORATION, method=method, **options)
    replay = dataclasses.replace(config.replay, length=TIME)
    return dataclasses.replace(config, exploration=exploration, replay=replay)


def make_batch(actions):
    batch = random_batch(VECTOR, actions)
    notes = np.random.default_rng(3).normal(size=(BATCH, TIME, 2)).astype(np.float32)
    notes[..., 1] = [[0, 1, 1, 0], [0, 1, 1, 1]]
    return batch | {BONUS: notes}


def start(dreamer, config=None):
    state = fresh_state(dreamer)
    # Random weights are drawn one after another: those of the task first.
    plain = build(CONFIG if config is None else exploring(config, "none"), dreamer.model.actions)
    task = fresh_state(plain).params
    own = dreamer.behavior.initial_normalisers()
    normalisers = state.normalisers | own
    if dreamer.explorer:
        normalisers[EXPLORER] = dreamer.explorer.behavior.initial_normalisers()
    return state._replace(params=state.params | task, normalisers=normalisers)


@pytest.fixture(scope="module")
def steps():
    """One update of every case: the parts, the states before and after, metrics."""
    made = {}

    def step(case, method):
        if (case, method) not in made:
            base, actions = CASES[case]
            dreamer = build(exploring(base, method), actions)
            state, batch = start(dreamer, base), make_batch(actions)
            after = jax.jit(dreamer.update)(state, jax.random.key(1), batch)
            made[case, method] = dreamer, state, *after
        return made[case, method]

    return step


@pytest.mark.parametrize("method", CASES)
def test_everything_of_the_explorer_learns(steps, method):
    dreamer, state, after, metrics = steps(method, method)
    check_update(state, after, metrics)
    # The report draws what the explorer adds; nothing has the name of a metric of the task.
    assert "explorer" in {name.partition("/")[0] for name in metrics}
    for name, params in after.params[EXPLORER].items():
        assert np.mean(moved(state.params[EXPLORER][name], params)) > 0.9, name
    norms = {name for name in metrics if name.startswith("explorer/") and "grad_norm" in name}
    assert len(norms) == 3 and all(metrics[name] > 0 for name in norms)
    magnitude = after.normalisers[EXPLORER]["reward"]
    raw = metrics["explorer/imagination/reward_mean"]
    assert magnitude != 1 and np.isfinite(raw)
    # The task's networks, and what optimizes them, have their own names still.
    assert set(state.params) == {*LEARNER, EXPLORER}
    assert set(state.optimizers) == {*dreamer.optimizers, EXPLORER}


def test_rewards_of_start_states_do_not_count_in_the_magnitude():
    """No imagined action led there; a reward is then a zero that stands for nothing."""
    dreamer = build(exploring(CONFIG, "plan2explore"), choice(3))
    explorer, model = dreamer.explorer, dreamer.model

    def reward(params, trajectory):
        return jnp.full(trajectory.features.shape[:2], 0.02).at[0].set(0.0)

    explorer.intrinsic = explorer.intrinsic._replace(reward=reward)

    @jax.jit
    def imagine(key):
        state, amount = dreamer.init(key), BATCH * TIME
        params = {"world_model": state.params["world_model"], **state.params[EXPLORER]}
        noise = dreamer.draw_noise(key, (BATCH, TIME)).explorer.imagination
        imagined = explorer.behavior.actor_loss(
            params["actor"], params, state.normalisers[EXPLORER], 0, noise,
            model.initial(amount), jnp.zeros(amount, bool),
        )[1]  # fmt: skip
        return imagined.normalisers["reward"], imagined.metrics

    magnitude, metrics = imagine(jax.random.key(0))
    np.testing.assert_allclose(magnitude, 0.5 + 0.5 * 0.02, rtol=1e-6)
    np.testing.assert_allclose(metrics["imagination/reward_mean"], 0.02, rtol=1e-6)
    np.testing.assert_allclose(metrics["imagination/reward_std"], 0, atol=1e-6)


@pytest.mark.parametrize(
    "method", ["plan2explore", pytest.param("surprise", marks=pytest.mark.slow)]
)
def test_the_task_learns_as_if_nobody_explored(steps, method):
    """The same numbers are drawn, and no gradient of the explorer reaches what is not its own."""
    _, _, after, metrics = steps(method, method)
    check_same((after, metrics), steps(method, "none")[2:], EXPLORER)


@pytest.mark.parametrize(
    "names, method",
    [
        (["atari_v3", "size_1m", "plan2explore"], "curiosity"),
        pytest.param(["dmc_vision", "plan2explore"], "plan2explore", marks=pytest.mark.slow),
        pytest.param(["dreamer_v1", "plan2explore"], "surprise", marks=pytest.mark.slow),
    ],
)
def test_presets_of_every_version_explore(names, method):
    """By their shapes: an update gives back what it took, and acting what it remembers."""
    config = update(load(*names, "debug"), {"exploration.method": method, "replay.length": 10})
    specs, actions = {"image": ObservationSpec((64, 64, 3), "image")}, choice(3)
    agent = make_agent(config, specs, actions)
    batch = random_batch(specs, actions, time=10)
    if agent.latents:
        kept = agent.latents.specs
        batch |= {name: np.zeros((BATCH, *([10] if name == BONUS else []), *shape), dtype)
                  for name, (shape, dtype) in kept.items()}  # fmt: skip
    step = agent.latents.update if agent.latents else agent.update
    state = jax.eval_shape(agent.init, jax.random.key(0))
    after, metrics, *_ = jax.eval_shape(step, state, jax.random.key(0), batch)
    assert after == state and "explorer/actor/loss" in metrics
    rows = {name: x[:, 0] for name, x in batch.items() if name in (*specs, "is_first", "is_last")}
    carry = jax.eval_shape(lambda: agent.initial_carry(BATCH))
    act = lambda *args: agent.act(*args, rows, "train")  # noqa: E731
    action, then = jax.eval_shape(act, agent.params(state), jax.random.key(0), carry)
    assert then == carry and action.shape == (BATCH, 3)


def test_without_a_method_there_is_nothing_more():
    dreamer = build(CONFIG, choice(3))
    shapes = jax.eval_shape(dreamer.init, jax.random.key(0))
    assert all(EXPLORER not in part for part in shapes[:3])
    assert set(dreamer.acting_params(shapes)) == {"world_model", "actor", "critic", NORMALISERS}
    assert (
        dreamer.latents() is None and dreamer.draw_noise(jax.random.key(0), (2, 4)).explorer is None
    )


def test_rewards_are_weighed():
    """scale x the intrinsic reward + task_scale x the model's reward of the same states."""
    found = {}
    for scale, task_scale in ((1.0, 0.0), (2.0, 0.0), (1.0, 3.0)):
        config = exploring(CONFIG, "plan2explore", scale=scale, task_scale=task_scale)
        dreamer = build(config, choice(3))
        size = find_sizes(dreamer.model).feature
        rng = np.random.default_rng(0)
        trajectory = Trajectory(
            jnp.asarray(rng.normal(size=(4, 5, size))),
            jnp.asarray(rng.normal(size=(4, 5, 3))),
            None,
        )
        params = fresh_state(dreamer).params
        own = params[EXPLORER] | {"world_model": params["world_model"]}
        found[scale, task_scale] = dreamer.explorer.reward(own, trajectory)
        task = dreamer.model.reward(params["world_model"], trajectory.features).mean()
    np.testing.assert_allclose(found[2.0, 0.0], 2 * found[1.0, 0.0], rtol=1e-5)
    np.testing.assert_allclose(found[1.0, 3.0], found[1.0, 0.0] + 3 * task, rtol=1e-4)
    assert np.abs(task).min() > 0


def rows_of(amount, **flags):
    x = np.random.default_rng(amount).normal(size=(amount, 5)).astype(np.float32)
    flags = {name: np.full(amount, value) for name, value in flags.items()}
    return {"x": x, "is_first": np.zeros(amount, bool), "is_last": np.zeros(amount, bool)} | flags


@pytest.fixture(scope="module")
def curious():
    """An agent with an episodic memory, its parameters, and its compiled acting."""
    agent = make_agent(exploring(CONFIG, "curiosity", until=10), VECTOR, choice(3))
    dreamer = build(exploring(CONFIG, "curiosity"), choice(3))
    return agent, dreamer.acting_params(start(dreamer)), jax.jit(agent.act, static_argnames="mode")


def test_the_explorer_collects_and_the_task_is_evaluated(curious):
    """By whose actor it is that the action is drawn, with the same random numbers."""
    agent, params, act = curious
    carry, key = agent.initial_carry(64), jax.random.key(0)
    own = params[EXPLORER]["actor"]
    act_of = lambda params, rows, mode="train": np.asarray(  # noqa: E731
        act(params, key, carry, rows, mode=mode)[0]
    )
    rows = rows_of(64)
    collected = act_of(params, rows)
    task = {name: x for name, x in params.items() if name != EXPLORER}
    np.testing.assert_array_equal(collected, act_of(task | {"actor": own}, rows))
    assert (collected != act_of(task, rows)).any()
    np.testing.assert_array_equal(act_of(params, rows, "eval"), act_of(task, rows, "eval"))
    # A run says when exploring is over, for every environment.
    half = np.arange(64) < 32
    told = act_of(params, rows | {EXPLORES: half})
    np.testing.assert_array_equal(told[:32], collected[:32])
    np.testing.assert_array_equal(told[32:], act_of(task, rows)[32:])
    assert agent.explores_until == 10


def test_the_memory_fills_while_collecting_alone(curious):
    agent, params, act = curious
    carry, key = agent.initial_carry(4), jax.random.key(0)
    assert not agent.latents.pack(carry)[BONUS].any()
    first = rows_of(4, is_first=True)
    begun = act(params, key, carry, first, mode="train")[1]
    assert begun.episodes.taken.tolist() == [1] * 4
    assert not agent.latents.pack(begun)[BONUS].any()
    then = act(params, key, begun, rows_of(4), mode="train")[1]
    notes = np.asarray(agent.latents.pack(then)[BONUS])
    assert (notes[:, 1] == 1).all() and (np.abs(notes[:, 0]) < 0.5).all() and notes[:, 0].any()
    last = act(params, key, then, rows_of(4, is_last=True), mode="train")[1]
    np.testing.assert_array_equal(agent.latents.pack(last)[BONUS], [[0, 1]] * 4)
    again = act(params, key, last, first, mode="train")[1]
    assert again.episodes.taken.tolist() == [1] * 4
    # What is remembered is what the encoder makes of it.
    embed = build(exploring(CONFIG, "curiosity"), choice(3)).model.embed
    rows = first | {"action": np.zeros((4, 3), np.float32)}
    wanted = embed(params["world_model"], rows, params[NORMALISERS]["vectors"])
    np.testing.assert_allclose(again.episodes.embeddings[:, 0], wanted, rtol=1e-4, atol=1e-5)
    seen = act(params, key, begun, rows_of(4), mode="eval")[1]
    jax.tree.map(np.testing.assert_array_equal, seen.episodes, begun.episodes)
    value = agent.value(params, then)
    assert value.shape == (4,) and np.isfinite(value).all()


def test_an_export_holds_the_task_alone_and_acts(curious, tmp_path):
    agent, params, _ = curious
    config = exploring(CONFIG, "curiosity", until=10)
    export(tmp_path / "export.npz", "dreamer", config, VECTOR, choice(3), params)
    assert set(read_export(tmp_path).params) == {"world_model", "actor", "critic", NORMALISERS} - (
        set() if params[NORMALISERS]["vectors"] else {NORMALISERS}
    )
    loaded, observation = LoadedAgent(load_program(), tmp_path), np.zeros(5)
    for mode in ("eval", "train"):
        action, carry = loaded.act(observation, mode=mode)
        action, _ = loaded.act(observation, carry, mode=mode)
        assert action in (0, 1, 2)
    # What --planner.acts is told to do instead.
    few = {"planner.horizon": 2, "planner.candidates": 4, "planner.top": 2}
    planner = LoadedAgent(find_program("planet"), tmp_path, changes=few)
    assert planner.act(observation)[0] in (0, 1, 2)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"exploration": ExplorationConfig(until=5)}, "until is 5 and nothing explores"),
        ({"exploration": ExplorationConfig(task_scale=0.5)}, "task_scale is 0.5 and nothing"),
        (
            {"planner": dataclasses.replace(ACTING_PLANNER, acts=True)},
            "planner.acts plans for the task, not for surprise; .*of a finished run 'planet eval'",
        ),
        (
            {"exploration": ExplorationConfig(method="surprise", scale=0)},
            "scale is 0; set it above",
        ),
        (
            {"exploration": ExplorationConfig(method="curiosity"), "run": RunConfig(data="x")},
            "curiosity learns while acting",
        ),
        (
            {
                "exploration": ExplorationConfig(method="surprise", until=9),
                "run": RunConfig(data="x"),
            },
            "nothing acts where Config.run.data is learned from; leave Config.exploration.until 0",
        ),
        (
            {
                "exploration": ExplorationConfig(method="curiosity"),
                "replay": dataclasses.replace(CONFIG.replay, length=26),
            },
            "replay.length is 26, which holds no two rows .*; raise it to 27",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(changes, words):
    base = dataclasses.replace(CONFIG, exploration=ExplorationConfig(method="surprise"))
    with pytest.raises(OptionError, match=words):
        dataclasses.replace(base, **changes)


def test_joint_updates_imagine_with_the_old_weights(steps):
    """As the task's actor does there: its own update alone, from the state before, is the same."""
    dreamer, state, after, _ = steps("surprise", "surprise")
    assert JOINT in dreamer.optimizers
    key, batch = jax.random.key(1), make_batch(choice(3))
    noise = dreamer.draw_noise(key, (BATCH, TIME))

    @jax.jit
    def alone(state):
        _, _, (losses, _) = dreamer.update_jointly(state, noise, batch)
        return dreamer.explore(state, state, noise, batch, losses)[0]

    found = alone(state)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, found.params[EXPLORER], after.params[EXPLORER])
    jax.tree.map(np.testing.assert_array_equal, found.params["actor"], state.params["actor"])
