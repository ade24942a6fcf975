"""One joint step of model, actor and critic: what it changes, and which options need it."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from common.checks import OptionError
from common.dynamics.rssm import RSSMConfig
from common.errors import UserError
from common.learning.normalize import StreamNormConfig
from common.spaces import ActionSpec
from dreamer.agent import JOINT
from dreamer.config import ActorConfig, BehaviorConfig, Config, ReplayValueConfig
from tests.dreamer.test_agent import CONFIG, VECTOR, build, fresh_state
from tests.tiny import BATCH, TIME, box, choice, random_batch

MIXED = ActionSpec((*box(2).parts, *choice(3).parts))
V3 = dataclasses.replace(
    CONFIG,
    joint=True,
    actor=ActorConfig(layers=1, units=8, continuous="bounded_normal", init_std=2.0),
    behavior=BehaviorConfig(
        horizon=3, starts=2, actor_grad="reinforce", include_reward=False, slow_target=False,
        slow_target_update=1, slow_target_fraction=0.1, slow_initial_copy=True,
        slow_regularizer=1.0, replay_value=ReplayValueConfig(scale=0.3),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def batch():
    return random_batch(VECTOR, MIXED)


def _step(config, batch):
    dreamer = build(config, MIXED)
    state = fresh_state(dreamer)
    noise = dreamer.draw_noise(jax.random.key(0), (BATCH, TIME))
    after, metrics, (_, imagined) = jax.jit(dreamer.update_with_noise)(state, noise, batch)
    return dreamer, state, after, metrics, imagined


def _all_moved(before, after):
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return all((np.asarray(x) != np.asarray(y)).any() for x, y in pairs)


def test_one_step_moves_everything_and_the_slow_critic_by_its_share(batch):
    dreamer, state, after, metrics, imagined = _step(V3, batch)
    assert list(dreamer.optimizers) == [JOINT] == list(after.optimizers)
    for name in ("world_model", "actor", "critic"):
        assert _all_moved(state.params[name], after.params[name]), name
    slow = jax.tree.map(
        lambda old, new: 0.9 * old + 0.1 * new,
        state.params["slow_critic"], after.params["critic"],
    )  # fmt: skip
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), slow, after.params["slow_critic"]
    )
    assert all(np.isfinite(value) for value in metrics.values())
    assert after.updates == 1 and metrics["joint/grad_norm"] > 0
    # Imagination starts from the last two rows of every sequence.
    assert imagined.target.shape == (3, BATCH * 2)


def test_the_losses_of_v2_can_be_joint_too(batch):
    """Through the model as well: the actor's gradient leaves the model alone."""
    behavior = dataclasses.replace(CONFIG.behavior, actor_grad="both")
    _, state, after, metrics, _ = _step(
        dataclasses.replace(CONFIG, joint=True, behavior=behavior), batch
    )
    assert _all_moved(state.params["actor"], after.params["actor"])
    total = metrics["world_model/loss"] + metrics["actor/loss"] + metrics["critic/loss"]
    np.testing.assert_allclose(metrics["joint/loss"], total, rtol=1e-5)


def test_the_slow_critic_begins_as_a_copy_where_it_is_told_to():
    params = build(V3, MIXED).init(jax.random.key(0)).params
    jax.tree.map(np.testing.assert_array_equal, params["critic"], params["slow_critic"])


def _replayed(config):
    """Of an agent, ``(batch) -> loss`` of the critic on replayed rows."""
    dreamer = build(config, MIXED)
    state = fresh_state(dreamer)
    noise = dreamer.draw_noise(jax.random.key(0), (BATCH, TIME))

    def loss(batch):
        posterior = noise.posterior, None
        rest = state.normalisers, state.updates, posterior, noise.imagination, batch, None
        return dreamer.joint_loss(state.params, state.params, *rest)[1].terms["replay_value"]

    return jax.jit(loss)


def test_replayed_rewards_are_squashed_as_imagined_ones_are(batch):
    """Returns of replayed rows end in imagined ones, whose rewards the model learned squashed."""
    model = dataclasses.replace(CONFIG.world_model, reward_transform="tanh")
    large = batch | {"reward": 3 * batch["reward"]}
    plain = _replayed(V3)
    wanted = plain(large | {"reward": np.tanh(large["reward"])})
    found = _replayed(dataclasses.replace(V3, world_model=model))(large)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert abs(plain(large) - wanted) > 1e-3


def test_replayed_rewards_are_divided_as_imagined_ones_are():
    behavior = dataclasses.replace(
        V3.behavior, reward_norm=StreamNormConfig(momentum=0.9, scale=2.0, eps=0.5)
    )
    rng, losses = np.random.default_rng(0), []
    flags = dict.fromkeys(("is_first", "is_last", "is_terminal"), np.zeros((5, 2), bool))
    reward, bootstrap = rng.normal(size=(2, 5, 2)).astype(np.float32)
    for config, factor in ((behavior, 1.0), (V3.behavior, 2.0 / (3.0 + 0.5))):
        dreamer = build(dataclasses.replace(V3, behavior=config), MIXED)
        params = fresh_state(dreamer).params
        feature = dreamer.model.feature(params["world_model"], dreamer.model.initial(2))
        counted = {"reward": np.float32(3.0 if factor == 1 else 1.0)}
        loss, _, _ = dreamer.behavior.replay_loss(
            params["critic"], params["slow_critic"], np.stack([feature] * 5),
            flags | {"reward": factor * reward}, bootstrap, counted,
        )  # fmt: skip
        losses.append(loss)
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: dataclasses.replace(V3, joint=False),
            r"behavior\.replay_value\.scale above 0 needs Config\.joint true",
        ),
        (
            lambda: Config(behavior=BehaviorConfig(start_gradients=True)),
            r"behavior\.start_gradients true needs Config\.joint true",
        ),
        (
            lambda: BehaviorConfig(replay_value=ReplayValueConfig(scale=0.3)),
            r"replay_value\.scale above 0 needs BehaviorConfig\.include_reward false",
        ),
        (
            lambda: ActorConfig(continuous="bounded_normal", min_std=2.0),
            r"min_std is 2; expected less than ActorConfig\.max_std, which is 1",
        ),
        (
            lambda: RSSMConfig(cell="block_gru", deter=20),
            r"deter is 20; expected a multiple of RSSMConfig\.blocks, which is 8",
        ),
    ],
)
def test_options_that_need_each_other(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_gradients_at_the_start_go_with_reinforce():
    behavior = BehaviorConfig(start_gradients=True, actor_grad="dynamics")
    with pytest.raises(UserError, match="start_gradients goes with .*reinforce, which is dynamics"):
        build(dataclasses.replace(CONFIG, joint=True, behavior=behavior), MIXED)
