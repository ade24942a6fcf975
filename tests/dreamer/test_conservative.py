"""Rewards less disagreement: by how much, what that does to returns and losses, who learns."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.conservative import ENSEMBLE
from dreamer.exploration.config import EnsembleConfig, ExplorationConfig
from dreamer.exploration.intrinsic import look
from tests.dreamer.test_agent import CONFIG, build, fresh_state
from tests.dreamer.test_joint import V3
from tests.dreamer.updates import LEARNER, check_same, check_update, moved
from tests.reference import dreamer as returns
from tests.reference import exploration as reference
from tests.tiny import BATCH, TIME, VECTOR, box, random_batch

PENALTY = 1.5
OPTIONS = ExplorationConfig(ensemble=EnsembleConfig(members=3, layers=1, units=8))
CASES = {"v2": CONFIG, "v3": V3}


def careful(config, penalty=PENALTY):
    """The same agent, which keeps to what it knows."""
    behavior = dataclasses.replace(config.behavior, penalty=penalty)
    return dataclasses.replace(config, behavior=behavior, exploration=OPTIONS)


@pytest.fixture(scope="module")
def parts():
    """With and without a penalty: the agent, its first state, and what it imagines there."""
    made = {}

    def make(name, penalty=PENALTY):
        if (name, penalty) not in made:
            dreamer = build(careful(CASES[name], penalty), box(2))
            state = fresh_state(dreamer)
            # Weights are drawn one after the other: the ensemble's last.
            task = fresh_state(build(CASES[name], box(2))).params
            state = state._replace(params=state.params | task)
            noise = dreamer.draw_noise(jax.random.key(1), (BATCH, TIME))
            found = jax.jit(dreamer.update_with_noise)(state, noise, random_batch(VECTOR, box(2)))
            made[name, penalty] = dreamer, state, *found
        return made[name, penalty]

    return make


def slow_disagreement(params, trajectory):
    """Of every imagined step ``[H + 1, N]``; none led to the first state."""
    members = [jax.tree.map(lambda x, k=k: np.asarray(x[k]), params) for k in range(3)]
    features, actions = np.asarray(trajectory.features), np.asarray(trajectory.actions)
    found = np.zeros(features.shape[:2])
    for t in range(1, len(found)):
        for n in range(found.shape[1]):
            x = np.concatenate([features[t - 1, n], actions[t, n]])
            found[t, n] = reference.disagreement([reference.mlp(one, x, 1) for one in members])
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_objective_is_lower_by_the_disagreement_times_the_penalty(name, parts):
    dreamer, state, _, metrics, (_, imagined) = parts(name)
    _, _, _, plain_metrics, (_, plain) = parts(name, 0)
    away = slow_disagreement(state.params[ENSEMBLE], imagined.trajectory)
    assert away[1:].min() > 0.01
    same = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)  # noqa: E731
    same(imagined.trajectory.features, plain.trajectory.features)
    same(plain.reward - imagined.reward, PENALTY * away)
    # Returns are linear in rewards, and values the same: returns of the penalty alone differ.
    begin = 0 if name == "v2" else 1
    discount, nothing = np.asarray(plain.discount), np.zeros(away.shape)
    lower = np.stack([
        returns.lambda_returns(*shifted(PENALTY * away, discount, nothing, begin, n), 0.95)
        for n in range(away.shape[1])
    ], 1)  # fmt: skip
    same(plain.target - imagined.target, lower)
    # By the model the loss is - mean w G, by chance - mean w ln p(a) A.
    weight, policies = np.asarray(plain.weight), imagined.trajectory.policies
    if name == "v2":
        change = (weight[:-1] * lower[1:]).mean()
    else:
        log_prob = np.asarray(policies.log_prob(imagined.trajectory.actions[1:]))
        change = (weight * log_prob * lower).mean()
    same(metrics["actor/loss"] - plain_metrics["actor/loss"], change)


def shifted(reward, discount, value, begin, n):
    """Rows as the slow loop has them, which counts a state's own reward and discount."""
    if not begin:
        return reward[:, n], discount[:, n], value[:, n]
    late = lambda x: np.append(x[1:, n], 0)  # noqa: E731
    return late(reward), late(discount), value[:, n]


@pytest.mark.parametrize("name", CASES)
def test_models_learn_beside_the_agent(name, parts):
    dreamer, state, after, metrics, (losses, _) = parts(name)
    check_update(state, after, metrics)
    assert np.mean(moved(state.params[ENSEMBLE], after.params[ENSEMBLE])) > 0.9
    assert set(state.optimizers) == {*dreamer.optimizers, ENSEMBLE}
    world = (state if name == "v3" else after).params["world_model"]
    seen = look(dreamer.model, world, random_batch(VECTOR, box(2)), losses)
    expected, more = dreamer.conservative.ensemble.loss(state.params[ENSEMBLE], None, seen)
    np.testing.assert_allclose(metrics["ensemble/loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["ensemble/disagreement"], more["disagreement"], rtol=1e-4)
    # What acts and is exported does not need them.
    assert ENSEMBLE not in dreamer.acting_params(after)


def test_a_penalty_changes_actor_and_critic_alone(parts):
    """But where the critic shapes the latent states, as it does in V3."""
    _, _, after, _, _ = parts("v2")
    _, _, plain, _, _ = parts("v2", 0)
    for part in ("actor", "critic"):
        assert any(moved(after.params[part], plain.params[part])), part
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, after.params["world_model"], plain.params["world_model"])


def test_where_models_agree_nothing_changes(parts):
    dreamer, state, _, _, _ = parts("v2")
    alike = jax.tree.map(jnp.zeros_like, state.params[ENSEMBLE])
    state = state._replace(params=state.params | {ENSEMBLE: alike})
    noise = dreamer.draw_noise(jax.random.key(1), (BATCH, TIME))
    after, metrics, _ = jax.jit(dreamer.update_with_noise)(
        state, noise, random_batch(VECTOR, box(2))
    )
    _, _, plain, expected, _ = parts("v2", 0)
    check_same((after, metrics), (plain, expected), ENSEMBLE)


def test_without_a_penalty_there_is_no_ensemble(parts):
    """The same program as before there was such an option, on the same numbers."""
    dreamer, state, _, metrics, _ = parts("v2", 0)
    assert dreamer.conservative is None and set(state.params) == set(LEARNER)
    assert not any(name.startswith("ensemble") for name in metrics)
    plain, batch = build(CONFIG, box(2)), random_batch(VECTOR, box(2))
    lowered = [
        jax.jit(one.update).lower(state, jax.random.key(0), batch).as_text()
        for one in (dreamer, plain)
    ]
    assert lowered[0] == lowered[1]
