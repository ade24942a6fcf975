"""TD-MPC2's losses against loops in NumPy, in a world of matrices."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.distributions import SymlogTwoHot
from common.errors import UserError
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.losses import Losses, make_window, termination_metrics, update_scale
from planet.tdmpc2.networks import Networks
from planet.tdmpc2.policy import draw_action, draw_choice
from tests.golden_tdmpc2_agent import no_noise
from tests.reference import tdmpc2 as reference

OBS, LATENT, ACTIONS, BINS, MEMBERS = 3, 4, 2, 6, 3
CONFIG = TDMPC2Config(
    latent=LATENT, simnorm=2, num_q=MEMBERS, bins=BINS, low=reference.LOW, high=reference.HIGH,
    min_log_std=-2.0, max_log_std=1.0, terminations=True, rho=0.7, entropy=0.3, tau=0.2,
    consistency=2.0, reward=0.3, value=0.5, termination=0.7,
)  # fmt: skip
LOG_STDS = CONFIG.min_log_std, CONFIG.max_log_std
DISCOUNT = 0.9


def matrices():
    """Networks that are products with their weights."""
    join = lambda z, action: jnp.concatenate([z, action], -1)  # noqa: E731
    decoded = lambda logits: SymlogTwoHot(logits, CONFIG.low, CONFIG.high)  # noqa: E731

    def q(params, z, action, keep=None):
        return decoded(jnp.einsum("...i,qio->q...o", join(z, action), params["q"]))

    return Networks(
        init=None,
        draw_shift=None,
        encode=lambda params, rows, shift: rows["obs"] @ params["encoder"],
        dynamics=lambda params, z, action: jnp.tanh(join(z, action) @ params["dynamics"]),
        reward=lambda params, z, action: decoded(join(z, action) @ params["reward"]),
        termination=lambda params, z: (z @ params["termination"])[..., 0],
        policy=lambda params, z, noise: draw_action(z @ params["policy"], noise, *LOG_STDS),
        q=q,
        q_two=lambda p, z, a, pair, keep=None: q({"q": p["q"][pair]}, z, a).mean(),
        task=None,
        mask=None,
        limit=None,
    )


LOSSES = Losses(matrices(), CONFIG, DISCOUNT)


def example(horizon, batch, seed, cuts):
    """Weights, rows and noise."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    seen = LATENT + ACTIONS
    weights = {
        "encoder": normal(OBS, LATENT), "dynamics": normal(seen, LATENT),
        "reward": normal(seen, BINS), "termination": normal(LATENT, 1),
        "policy": normal(LATENT, 2 * ACTIONS), "q": normal(MEMBERS, seen, BINS),
    }  # fmt: skip
    shape = batch, horizon + 1
    rows = {
        "obs": normal(*shape, OBS), "action": np.tanh(normal(*shape, ACTIONS)),
        "reward": 20 * normal(*shape), "is_terminal": rng.random(shape) < 0.3,
        "is_first": (rng.random(shape) < 0.3) & cuts,
    }  # fmt: skip
    pairs = [np.array(rng.permutation(MEMBERS)[:2]) for _ in range(2)]
    target, policy = normal(horizon, batch, ACTIONS), normal(horizon + 1, batch, ACTIONS)
    noise = no_noise(target=target, target_pair=pairs[0], policy=policy, policy_pair=pairs[1])
    return weights, normal(MEMBERS, seen, BINS), rows, noise


@functools.cache
def computed(horizon):
    """Everything on the way of an update, compiled once for each horizon."""

    def compute(weights, target_q, scale, rows, noise):
        window = make_window(rows, horizon)
        later = {"obs": window.observation["obs"][1:]}
        next_z = LOSSES.networks.encode(weights, later, None)
        target = LOSSES.target(weights, target_q, next_z, window, noise)
        total, found = LOSSES.model(weights, window, next_z, target, noise)
        loss, policy = LOSSES.policy(
            {"policy": weights["policy"]}, weights, scale, found.states, window.weight, noise
        )
        return target, total, found.terms, loss, policy.scale

    return jax.jit(compute)


@settings(max_examples=25)
@given(st.sampled_from([1, 3]), st.sampled_from([1, 4]), st.integers(0, 2**31), st.booleans())
def test_losses_are_those_of_loops(horizon, batch, seed, cuts):
    weights, target_q, rows, noise = example(horizon, batch, seed, cuts)
    scale = 1 + seed % 7 / 3
    got = computed(horizon)(weights, target_q, scale, rows, noise)
    exact = jax.tree.map(np.float64, (weights, target_q))
    target = reference.target(*exact, rows, noise.target, noise.target_pair, DISCOUNT, LOG_STDS)
    terms = reference.model_terms(exact[0], rows, target, CONFIG.rho)
    loss, after = reference.policy_loss(
        exact[0], rows, noise.policy, noise.policy_pair, scale, CONFIG.rho, CONFIG.entropy,
        CONFIG.tau, LOG_STDS,
    )  # fmt: skip
    total = sum(getattr(CONFIG, name) * term for name, term in terms.items())
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4)
    jax.tree.map(close, got, (target, total, terms, loss, after))


def test_nothing_is_learned_of_what_follows_a_first_row():
    """Losses and gradients stay where rows behind it change."""
    weights, target_q, rows, noise = example(3, 4, 0, False)
    rows["is_first"][:, 2] = True

    def gradients(rows):
        return jax.grad(lambda w: computed(3)(w, target_q, 1.0, rows, noise)[1])(weights)

    other = {key: x.copy() for key, x in rows.items()}
    for key in ("obs", "action", "reward"):
        other[key][:, 2:] += 1
    other["is_terminal"][:, 2:] ^= True
    jax.tree.map(np.testing.assert_array_equal, gradients(rows), gradients(other))
    before, after = (computed(3)(weights, target_q, 1.0, x, noise) for x in (rows, other))
    jax.tree.map(np.testing.assert_array_equal, before[1:], after[1:])
    other["obs"][:, 1] += 1
    assert computed(3)(weights, target_q, 1.0, other, noise)[1] != before[1]


def test_a_first_row_in_front_changes_nothing():
    weights, target_q, rows, noise = example(3, 4, 1, False)
    begun = rows | {"is_first": rows["is_first"].copy()}
    begun["is_first"][:, 0] = True
    got = [computed(3)(weights, target_q, 1.0, x, noise) for x in (rows, begun)]
    jax.tree.map(np.testing.assert_array_equal, *got)


def test_gradients_stop_at_targets_and_states():
    """The values' targets are numbers, and the policy moves nothing but itself."""
    weights, target_q, rows, noise = example(3, 4, 2, False)
    window = make_window({key: jnp.asarray(x) for key, x in rows.items()}, 3)

    def target(weights):
        z = LOSSES.networks.encode(weights, {"obs": window.observation["obs"][1:]}, None)
        return LOSSES.target(weights, target_q, z, window, noise).sum()

    for gradient in jax.grad(target)(weights).values():
        assert not gradient.any()

    def model(weights):
        zeros = jnp.zeros((3, 4, LATENT)), jnp.zeros((3, 4))
        return LOSSES.model(weights, window, *zeros, noise)[0]

    moved = {name for name, gradient in jax.grad(model)(weights).items() if gradient.any()}
    assert moved == weights.keys() - {"policy"}


def test_choices_have_a_weight_of_their_own():
    weights, _, rows, noise = example(2, 4, 0, False)
    networks = matrices()._replace(
        policy=lambda params, z, noise: draw_choice(z @ params["policy"][:, :ACTIONS], noise)
    )
    states = jnp.asarray(rows["obs"][:, :, :1]).swapaxes(0, 1) * jnp.ones(LATENT)

    def loss(**options):
        losses = Losses(networks, dataclasses.replace(CONFIG, **options), DISCOUNT)
        own = {"policy": weights["policy"]}
        return losses.policy(own, weights, 1.0, states, jnp.ones((2, 4)), noise)

    without, found = loss(choice_entropy=0.0)
    want = np.mean([CONFIG.rho**t * found.draw.choice_entropy[t] for t in range(3)])
    assert want > 0.1
    assert loss(choice_entropy=0.5)[0] == pytest.approx(float(without - 0.5 * want), rel=1e-4)
    assert loss(choice_entropy=0.0, entropy=9.0)[0] == without


def test_windows_of_another_length_are_named():
    rows = {"reward": jnp.zeros((2, 6))}
    with pytest.raises(UserError, match="windows of horizon \\+ 1 = 4 rows; these have 6"):
        make_window(rows, 3)


def test_latents_in_the_replay_are_no_observations():
    _, _, rows, _ = example(2, 1, 0, False)
    rows["latent_state/z"] = rows["obs"]
    assert make_window(rows, 2).observation.keys() == {"obs"}


def test_the_scale_never_falls_below_one():
    scale = jnp.ones(())
    for _ in range(3):
        scale = update_scale(scale, jnp.linspace(0, 0.1, 50), 0.5)
    assert scale == 1
    assert update_scale(scale, jnp.linspace(0, 100, 101), 0.5) == pytest.approx(45.5)


def test_f1_of_terminations_counts_the_last_step():
    _, _, rows, _ = example(1, 5, 0, False)
    rows["is_terminal"] = np.array([[0, 1], [0, 1], [0, 0], [0, 0], [0, 1]], bool)
    window = make_window({key: jnp.asarray(x) for key, x in rows.items()}, 1)
    got = termination_metrics(jnp.array([[1.0, -1.0, 1.0, -1.0, 1.0]]), window)
    assert got["termination_rate"] == pytest.approx(0.6)
    # Two of three that ended, and two of three that were said to.
    assert got["termination_f1"] == pytest.approx(2 / 3)
    cut = window._replace(weight=jnp.array([[1.0, 0, 1, 1, 1]]))
    assert termination_metrics(jnp.array([[1.0, -1.0, 1.0, -1.0, 1.0]]), cut)[
        "termination_f1"
    ] == pytest.approx(0.8)
    nothing = termination_metrics(-jnp.ones((1, 5)), window._replace(terminal=jnp.zeros((1, 5))))
    assert nothing == {"termination_rate": 0, "termination_f1": 0}
