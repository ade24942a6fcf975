"""What a cloned policy would do in the token-level dynamics, as candidates of planners."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.tokens import policy as token_policy
from common.tokens import tdm
from common.tokens.steps import Steps
from planet import shooting
from planet.token_proposal import Pair, token_policy_proposal, with_policy
from planet.token_rollout import token_rollout
from tests.compiling import compiled
from tests.planet.linear_system import CONFIG, SIZES, draw
from tests.tiny import box, random_params

AMOUNT, HORIZON = 3, 4


class Case:
    """Dynamics and a policy with random weights, and two pasts of a body."""

    def __init__(self, order, body):
        # The context is shorter than past and future together.
        sizes = {"bins": 16, "width": 8, "units": 8, "context": 3}
        config = dataclasses.replace(CONFIG, order=order, decode="sample", **sizes)
        self.model = tdm.functions(config, *SIZES)
        self.policy = token_policy.functions(config, *SIZES)
        inits = self.model.init, self.policy.init
        self.params = Pair(
            *(jax.tree.map(lambda x: jnp.array(5 * x), random_params(x)) for x in inits)
        )
        self.steps = draw(body, jax.random.key(3), batch=2, time=2)
        self.actions = box({"plane": 1, "line": 2}[body])
        starts = zip((self.model.start, self.policy.start), self.params, strict=True)
        self.start = Pair(*(compiled(start)(params, self.steps) for start, params in starts))

    def propose(self, noise, key=0):
        proposal = token_policy_proposal(
            self.model, self.policy, self.actions, AMOUNT, HORIZON, noise
        )
        return compiled(proposal)(self.params, jax.random.key(key), self.start)


@pytest.mark.parametrize(("order", "body"), [("autoregressive", "plane"), ("parallel", "line")])
def test_sequences_are_those_of_a_loop_without_caches(order, body):
    """Every step, dynamics and policy look at the whole past and all that was imagined."""
    case, noise = Case(order, body), 0.3
    got = case.propose(noise)
    assert got.shape == (2, AMOUNT, HORIZON, case.actions.size)
    act = compiled(case.policy.act, static_argnames="greedy")
    model_start, imagine_step = compiled(case.model.start), compiled(case.model.imagine_step)
    steps = jax.tree.map(lambda x: jnp.repeat(x, AMOUNT, 0), case.steps)
    for k, key in enumerate(jax.random.split(jax.random.key(0), HORIZON)):
        keys = jax.random.split(key, 3)
        action = act(case.params.policy, keys[0], steps, greedy=False)
        scatter = jax.random.normal(keys[1], (2, AMOUNT, SIZES[1])).reshape(-1, SIZES[1])
        action = jnp.clip(action + noise * scatter, -1, 1)
        np.testing.assert_allclose(
            got[:, :, k].reshape(2 * AMOUNT, -1), action[:, : case.actions.size], atol=1e-5
        )
        futures = tdm.branch(model_start(case.params.dynamics, steps), 1, 1)
        observation, reward, _ = imagine_step(
            case.params.dynamics, keys[2], futures, action[:, None]
        )
        rows = observation, action[:, None], reward, jnp.zeros(reward.shape, bool)
        joined = (jnp.concatenate(pair, 1) for pair in zip(steps[:4], rows, strict=True))
        steps = Steps(*joined, *steps[4:])


def test_noise_is_added_and_clipped():
    case = Case("parallel", "line")
    exact, noisy = np.asarray(case.propose(0.0)), np.asarray(case.propose(0.05))
    # Without noise every action is the centre of a bin.
    places = (exact + 1) * 8 - 0.5
    np.testing.assert_allclose(places, places.round(), atol=1e-5)
    difference = (noisy - exact)[:, :, 0]
    assert 0.01 < difference.std() < 0.1
    assert np.abs(np.asarray(case.propose(2.0))).max() == 1
    assert (np.asarray(case.propose(0.0, key=1)) != exact).any()


def test_planners_take_the_best_of_what_the_policy_proposes():
    """Their own candidate is worse than some of 50 proposals; the best one's return is chosen."""
    case = Case("parallel", "plane")
    proposal = token_policy_proposal(case.model, case.policy, case.actions, 50, HORIZON)
    seen = []

    def rollout(params, key, start, actions):
        seen.append(actions.shape)
        # Returns that are known: how near the actions are to a constant.
        assert params is case.params.dynamics and start is case.start.dynamics
        return -jnp.square(actions - 0.3).sum((2, 3))

    args = case.params, jax.random.key(0), case.start
    plan = shooting.plan(
        with_policy(rollout), *args, actions=case.actions, horizon=HORIZON, candidates=1,
        proposal=proposal,
    )  # fmt: skip
    assert seen == [(2, 51, HORIZON, 1)]
    without = shooting.plan(
        with_policy(rollout), *args, actions=case.actions, horizon=HORIZON, candidates=1
    )
    assert (plan.value > without.value).all()
    value = compiled(with_policy(token_rollout(case.model)))(*args, plan.belief.mean[:, None])
    assert value.shape == (2, 1) and np.isfinite(value).all()
