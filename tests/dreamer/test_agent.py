"""Dreamer as a whole: who trains what, acting, compilation, several seeds at once."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.config import update
from common.dynamics.rssm import RSSMConfig
from common.errors import UserError
from common.learning.normalize import SpreadConfig, StreamNormConfig, initial_magnitude
from common.model.imagine import CONTEXT
from common.model.memory import LatentMemory
from common.model.world_model import world_model
from common.nets.heads import HeadConfig
from common.report.page import GROUPS
from common.spaces import ActionSpec, ObservationSpec
from dreamer.acting import ActNoise
from dreamer.agent import Dreamer, make_agent
from dreamer.config import ActorConfig, BehaviorConfig, Config
from dreamer.learn import slow_copy
from dreamer.networks import make_networks
from tests.tiny import BATCH, TIME, TINY, VECTOR, box, choice, random_batch, random_params

CONFIG = Config(
    world_model=TINY,
    actor=ActorConfig(layers=1, units=8),
    critic=HeadConfig(layers=1, units=8),
    behavior=BehaviorConfig(horizon=3),
)
V1 = dataclasses.replace(
    CONFIG,
    world_model=dataclasses.replace(
        TINY,
        rssm=RSSMConfig(
            latent="gaussian", stoch=3, deter=8, hidden=8, cell="gru", std="softplus"
        ),
        predict_discount=False,
    ),
    actor=ActorConfig(layers=1, units=8, continuous="tanh_normal", init_std=5.0, min_std=1e-4),
    behavior=BehaviorConfig(
        horizon=3, actor_grad="dynamics", include_start=False, slow_target=False,
        exploration_noise=0.3,
    ),
)  # fmt: skip
MIXED = ActionSpec((*box(2).parts, *choice(3).parts))


def build(config, actions):
    model = world_model(config.world_model, VECTOR, actions)
    return Dreamer(model, make_networks(config.actor, config.critic, actions), config)


def fresh_state(dreamer, seed=0):
    """A first training state with random weights."""
    shapes = jax.eval_shape(dreamer.init, jax.random.key(0))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    params = random_params(lambda key: dreamer.init(key).params, seed=seed)
    params = jax.tree.map(jnp.asarray, params)
    normalisers = state.normalisers | {"reward": initial_magnitude()}
    return state._replace(params=params, normalisers=normalisers)


def _changed(before, after):
    """Names of the entries of two mappings that differ in any leaf."""
    same = lambda x, y: jax.tree.all(jax.tree.map(np.array_equal, x, y))  # noqa: E731
    return {name for name in before if not same(before[name], after[name])}


class Counted:
    """A compiled update that counts how often it is traced."""

    def __init__(self, dreamer):
        self.traces = 0

        def update(*args):
            self.traces += 1
            return dreamer.update(*args)

        self.update = jax.jit(update)


@pytest.fixture(scope="module")
def dreamer():
    return build(CONFIG, choice(3))


@pytest.fixture(scope="module")
def counted(dreamer):
    return Counted(dreamer)


@pytest.fixture(scope="module")
def states(dreamer):
    states = [fresh_state(dreamer, seed) for seed in range(2)]
    return jax.tree.map(lambda *x: jnp.stack(x), *states)


@pytest.fixture(scope="module")
def batch():
    return random_batch(VECTOR, choice(3))


def _take(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def test_update_compiles_once(dreamer, counted, states, batch):
    state = _take(states, 0)
    first = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)
    for step in range(3):
        state, metrics = counted.update(state, jax.random.key(step), batch)
        assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state) == first
        assert all(np.isfinite(value) for value in metrics.values())
        assert all("/" in name and value.shape == () for name, value in metrics.items())
    # The report draws all of them.
    assert {name.partition("/")[0] for name in metrics} <= GROUPS.keys()
    assert counted.traces == 1
    assert state.updates == 3


def test_seeds_can_be_trained_side_by_side(dreamer, counted, states, batch):
    batches = jax.tree.map(lambda *x: np.stack(x), batch, random_batch(VECTOR, choice(3), seed=1))
    keys = jax.random.split(jax.random.key(7), 2)
    together, metrics = jax.jit(jax.vmap(dreamer.update))(states, keys, batches)
    for seed in range(2):
        alone = counted.update(_take(states, seed), keys[seed], _take(batches, seed))
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
            _take((together, metrics), seed), alone,
        )  # fmt: skip


def test_each_optimizer_trains_its_own_parameters(dreamer, counted, states, batch):
    state, key = _take(states, 0), jax.random.key(1)
    noise = dreamer.draw_noise(key, batch["reward"].shape)
    after, _ = counted.update(state, key, batch)
    assert _changed(state.params, after.params) == {
        "world_model", "actor", "critic", "slow_critic",
    }  # fmt: skip
    learned, *_ = jax.jit(dreamer.update_model)(state, noise, batch, None)
    assert _changed(state.params, learned.params) == {"world_model"}
    assert _changed(state.optimizers, learned.optimizers) == {"world_model"}
    # Learning in imagination leaves the model as its own update left it.
    same = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7)  # noqa: E731
    jax.tree.map(same, learned.params["world_model"], after.params["world_model"])
    assert not _changed({"": after.params["critic"]}, {"": after.params["slow_critic"]})


def _observation(amount, is_first):
    x = np.random.default_rng(amount).normal(size=(amount, 5)).astype(np.float32)
    return {"x": x, "is_first": np.asarray(is_first)}


@pytest.fixture(scope="module")
def acting():
    """A Dreamer that explores, with actions of both kinds, compiled to act."""
    behavior = dataclasses.replace(CONFIG.behavior, exploration_noise=0.3)
    dreamer = build(dataclasses.replace(CONFIG, behavior=behavior), MIXED)
    params = fresh_state(dreamer).params
    return dreamer, params, jax.jit(dreamer.acting.act_with_noise, static_argnames="mode")


def _act_noise(dreamer, amount, seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.uniform(0.01, 0.99, shape).astype(np.float32)  # noqa: E731
    return ActNoise(draw(amount, TINY.rssm.stoch), draw(amount, 3), draw(amount, 3))


def test_acting_forgets_where_an_episode_begins(acting):
    dreamer, params, act = acting
    rng = np.random.default_rng(0)
    blank = dreamer.acting.initial_carry(3)
    used = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), blank)
    noise, observation = _act_noise(dreamer, 3, 0), _observation(3, [False, True, False])
    after_used = act(params, noise, used, observation, mode="eval")
    after_blank = act(params, noise, blank, observation, mode="eval")
    jax.tree.map(np.testing.assert_array_equal, *(_take(x, 1) for x in (after_used, after_blank)))
    assert not np.allclose(after_used[1].state.deter[0], after_blank[1].state.deter[0])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_actions_are_valid_and_remembered(acting, mode):
    dreamer, params, act = acting
    observation, blank = _observation(64, np.ones(64, bool)), dreamer.acting.initial_carry(64)
    noise = _act_noise(dreamer, 64, 0)
    action, carry = act(params, noise, blank, observation, mode=mode)
    assert isinstance(carry, LatentMemory)
    np.testing.assert_array_equal(carry.action, action)
    assert np.abs(action).max() <= 1
    assert set(np.unique(action[:, 2:])) <= {0, 1}
    np.testing.assert_array_equal(action[:, 2:].sum(-1), np.ones(64))
    # In evaluation only the latents are random; in training each source of noise counts.
    other = _act_noise(dreamer, 64, 1)
    for part in ("action", "exploration"):
        changed = noise._replace(**{part: getattr(other, part)})
        again, _ = act(params, changed, blank, observation, mode=mode)
        assert np.array_equal(again, action) == (mode == "eval")


def test_act_draws_noise_from_the_key(acting):
    dreamer, params, _ = acting
    observation, blank = _observation(2, [True, True]), dreamer.acting.initial_carry(2)
    act = jax.jit(dreamer.acting.act, static_argnames="mode")
    actions = [
        np.asarray(act(params, jax.random.key(seed), blank, observation, mode="train")[0])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[0][:, :2] != actions[2][:, :2]).all()


def test_dreamer_v1_and_mixed_actions(batch):
    dreamer = build(V1, MIXED)
    batch = random_batch(VECTOR, MIXED)
    state = fresh_state(dreamer)
    after, metrics = jax.jit(dreamer.update)(state, jax.random.key(1), batch)
    assert _changed(state.params, after.params) == set(state.params)
    assert all(np.isfinite(value) for value in metrics.values())


def test_report_predicts_images():
    specs = {"image": ObservationSpec((32, 32, 3), "image")}
    agent = make_agent(CONFIG, specs, choice(3))
    shapes = jax.eval_shape(agent.init, jax.random.key(0))
    batch = random_batch(specs, choice(3), time=CONTEXT + 2)
    report = jax.eval_shape(agent.report, agent.params(shapes), jax.random.key(0), batch)
    truth, model = report["image"]
    assert truth.shape == model.shape == batch["image"].shape
    assert model.dtype == np.uint8


def test_every_source_of_randomness_draws_its_own_numbers():
    kl = dataclasses.replace(TINY.kl, overshooting=1)
    model = dataclasses.replace(TINY, kl=kl)
    dreamer = build(dataclasses.replace(CONFIG, world_model=model), MIXED)
    first, second = (dreamer.draw_noise(jax.random.key(seed), (BATCH, TIME)) for seed in (0, 1))
    parts = jax.tree.leaves(first)
    assert len(parts) == 4
    drawn = np.concatenate([np.ravel(part) for part in (*parts, *jax.tree.leaves(second))])
    assert len(np.unique(drawn)) == len(drawn)


def test_the_magnitude_of_rewards_is_carried_on(batch):
    """By the recursion of ``stream_norm``, from one update to the next."""
    norm = StreamNormConfig(momentum=0.5)
    behavior = dataclasses.replace(CONFIG.behavior, reward_norm=norm)
    dreamer = build(dataclasses.replace(CONFIG, behavior=behavior), choice(3))
    state, update = fresh_state(dreamer), jax.jit(dreamer.update_with_noise)
    magnitude = 1.0
    for seed in range(2):
        noise = dreamer.draw_noise(jax.random.key(seed), (BATCH, TIME))
        state, _, (_, imagined) = update(state, noise, batch)
        # Rewards were divided by the new magnitude.
        raw = np.abs(imagined.reward) * float(state.normalisers["reward"])
        magnitude = 0.5 * magnitude + 0.5 * raw.mean()
        np.testing.assert_allclose(state.normalisers["reward"], magnitude, rtol=1e-4)
        assert magnitude < 0.9 ** (seed + 1)


def test_the_spread_of_returns_is_carried_on_and_divides_the_gain(batch):
    """Percentiles of all targets move at the rate, this update's before they are used."""
    norm = SpreadConfig(method="percentiles", rate=0.5, limit=1e-3)
    behavior = dataclasses.replace(CONFIG.behavior, return_norm=norm)
    dreamer = build(dataclasses.replace(CONFIG, behavior=behavior), choice(3))
    state, update = fresh_state(dreamer), jax.jit(dreamer.update_with_noise)
    low = high = 0.0
    for seed in range(2):
        noise = dreamer.draw_noise(jax.random.key(seed), (BATCH, TIME))
        state, metrics, (_, imagined) = update(state, noise, batch)
        low = 0.5 * low + 0.5 * np.percentile(imagined.target, 5)
        high = 0.5 * high + 0.5 * np.percentile(imagined.target, 95)
        spread = state.normalisers["return"]
        np.testing.assert_allclose((spread.first, spread.second), (low, high), rtol=1e-4)
        np.testing.assert_allclose(metrics["imagination/return_scale"], high - low, rtol=1e-3)


def test_values_may_begin_with_the_next_reward(batch):
    """V3's rows: every state that decides counts, by what is predicted to follow it."""
    behavior = dataclasses.replace(
        CONFIG.behavior, include_reward=False, slow_target=False, slow_regularizer=1.0, lambda_=1.0
    )
    critic = dataclasses.replace(CONFIG.critic, likelihood="two_hot", bins=21)
    dreamer = build(dataclasses.replace(CONFIG, behavior=behavior, critic=critic), choice(3))
    state = fresh_state(dreamer)
    noise = dreamer.draw_noise(jax.random.key(0), (BATCH, TIME))
    after, metrics, (_, imagined) = jax.jit(dreamer.update_with_noise)(state, noise, batch)
    assert all(np.isfinite(value) for value in metrics.values())
    assert _changed(state.params, after.params) == set(state.params)
    reward, discount, features = imagined.reward, imagined.discount, imagined.trajectory.features
    want = dreamer.networks.value(state.params["critic"], features[-1]).mean()
    for row in reversed(range(behavior.horizon)):
        want = reward[row + 1] + discount[row + 1] * want
        np.testing.assert_allclose(imagined.target[row], want, rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(imagined.weight, np.cumprod(discount, 0)[:-1], rtol=1e-5)
    value = dreamer.networks.value(state.params["critic"], features[:-1]).mean()
    policies = imagined.trajectory.policies
    gain = policies.log_prob(imagined.trajectory.actions[1:]) * (imagined.target - value)
    objective = gain + metrics["actor/entropy_scale"] * policies.entropy()
    want = -(imagined.weight * objective).mean()
    np.testing.assert_allclose(metrics["actor/loss"], want, rtol=1e-3, atol=1e-5)


def test_a_start_that_counts_for_nothing_needs_values_with_its_reward():
    with pytest.raises(UserError, match="include_start false needs .*include_reward true"):
        BehaviorConfig(include_start=False, include_reward=False)


@pytest.mark.parametrize(("updates", "share"), [(0, 1.0), (1, 0.0), (2, 0.25)])
def test_the_slow_critic_begins_as_a_copy(updates, share):
    config = BehaviorConfig(slow_target_update=2, slow_target_fraction=0.25)
    slow = slow_copy({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, jnp.asarray(updates), config)
    np.testing.assert_allclose(slow["w"], share)


@pytest.mark.parametrize("name", ["actor_entropy", "actor_grad_mix"])
def test_an_unknown_schedule_is_refused_by_its_full_path(name):
    with pytest.raises(UserError, match=f"^BehaviorConfig.{name}: schedule 'foo' is neither"):
        BehaviorConfig(**{name: "foo"})
    with pytest.raises(UserError, match=f"^behavior.{name}: schedule 'lin' is neither"):
        update(Config(), {f"behavior.{name}": "lin"})


def test_a_discount_is_a_bernoulli():
    with pytest.raises(UserError, match="discount.likelihood is symlog, whose mean may leave"):
        update(Config(), {"world_model.discount.likelihood": "symlog"})


def test_there_are_two_modes(acting):
    dreamer, params, _ = acting
    observation, blank = _observation(2, np.ones(2, bool)), dreamer.acting.initial_carry(2)
    with pytest.raises(UserError, match="mode cannot be 'evaluate'; did you mean 'eval'?"):
        dreamer.acting.act(params, jax.random.key(0), blank, observation, "evaluate")


def _imagined(include_start, predict_discount):
    """What is imagined from a terminal state and from another one."""
    config = dataclasses.replace(
        CONFIG,
        behavior=dataclasses.replace(CONFIG.behavior, include_start=include_start),
        world_model=dataclasses.replace(CONFIG.world_model, predict_discount=predict_discount),
    )
    dreamer = build(config, box(2))
    state, noise = fresh_state(dreamer), dreamer.draw_noise(jax.random.key(0), (1, 2))
    arguments = state.params["actor"], state.params, state.normalisers, state.updates
    start, terminal = dreamer.model.initial(2), np.array([True, False])
    return jax.jit(dreamer.behavior.actor_loss)(*arguments, noise.imagination, start, terminal)[1]


@pytest.mark.parametrize("include_start", [True, False])
def test_a_terminal_start_weighs_what_is_imagined_behind_it(include_start):
    imagined = _imagined(include_start, predict_discount=True)
    np.testing.assert_array_equal(imagined.weight[:, 0], [1, 0, 0])
    first, second = 0.99 if include_start else 1, imagined.discount[1, 1]
    np.testing.assert_allclose(imagined.weight[:, 1], [1, first, first * second], rtol=1e-6)


@pytest.mark.parametrize("include_start, first", [(True, 0.99), (False, 1)])
def test_without_a_discount_head_no_start_is_terminal(include_start, first):
    """Weights of V1 then begin at the first imagined row, as published."""
    imagined = _imagined(include_start, predict_discount=False)
    weight = np.array([1, first, first * 0.99])
    np.testing.assert_allclose(imagined.weight, weight[:, None].repeat(2, 1), rtol=1e-6)
