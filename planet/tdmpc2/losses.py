"""Losses of TD-MPC2 (arXiv:2310.16828, Eq. 3 and 4, and the public code).

Time is the leading axis here: a window has H + 1 rows, and step t leads from row t to row t + 1.
Where an episode begins inside of a window, at row f >= 1, the steps from f - 1 on have weight 0: a
model cannot know how an episode will begin, and what follows is not what its rollout is of. Means
still divide by all steps, so that every step that is learned from counts the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common.distributions import Bernoulli, SymlogTwoHot
from common.errors import UserError
from common.rows import ROW_KEYS, without_latents
from common.types import Array, Params, Rows
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.networks import Networks
from planet.tdmpc2.policy import Draw

LOW, HIGH = 5.0, 95.0
"""Percentiles between which the scale of the policy's loss looks."""


class Noise(NamedTuple):
    """All random numbers of one update.

    Attributes:
        first_shift: Shifts of the first images ``[B, 2]``; None without images.
        next_shift: Of all others, ``[H, B, 2]``.
        target: Standard normals of the actions in the targets, ``[H, B, A]``.
        target_pair: The two members that the targets ask, ``[2]``.
        keep: Units that dropout leaves to the values, ``[Q, H, B, units]``; None without it.
        policy: Standard normals of the actions of the policy's loss, ``[H + 1, B, A]``.
        policy_pair: The two members that it asks, ``[2]``.
        policy_keep: Units that dropout leaves to these two, ``[2, H + 1, B, units]``.
    """

    first_shift: Array | None
    next_shift: Array | None
    target: Array
    target_pair: Array
    keep: Array | None
    policy: Array
    policy_pair: Array
    policy_keep: Array | None


class Window(NamedTuple):
    """Replayed rows, time first.

    Attributes:
        observation: By key, ``[H + 1, B, ...]``.
        action: ``[H, B, A]``, from each row to the next.
        reward: ``[H, B]``, arrived with the next row.
        terminal: 1 where the environment ended with the next row, ``[H, B]``.
        weight: 1 for steps of the episode of the first row, else 0, ``[H, B]``.
    """

    observation: Rows
    action: Array
    reward: Array
    terminal: Array
    weight: Array


class ModelLosses(NamedTuple):
    """What a pass over a window computes.

    Attributes:
        terms: Each loss, unweighted, by name: "consistency", "reward", "value", "termination".
        states: Rolled-out states ``[H + 1, B, L]``.
        reward: Predictions at states 0 to H - 1, ``[H, B]``.
        value: Those of all members ``[Q, H, B]``.
        termination: Logits at states 1 to H, ``[H, B]``; None where they are not learned.
    """

    terms: dict[str, Array]
    states: Array
    reward: SymlogTwoHot
    value: SymlogTwoHot
    termination: Array | None


class PolicyLosses(NamedTuple):
    """What the policy's loss computes.

    Attributes:
        draw: Actions at all states of the rollout ``[H + 1, B]``.
        value: Their mean by two members, ``[H + 1, B]``.
        scale: The running scale that the value was divided by.
    """

    draw: Draw
    value: Array
    scale: Array


def make_window(batch: Rows, horizon: int) -> Window:
    """Turns rows ``[B, H + 1, ...]`` into a window.

    Raises:
        UserError: The rows are of another length.
    """
    length = batch["reward"].shape[1]
    if length != horizon + 1:
        raise UserError(
            f"TD-MPC2 learns from windows of horizon + 1 = {horizon + 1} rows; these have {length}"
        )
    rows = {key: jnp.swapaxes(x, 0, 1) for key, x in without_latents(batch).items()}
    first = rows["is_first"][1:].astype(jnp.float32)
    return Window(
        {key: x for key, x in rows.items() if key not in ROW_KEYS},
        rows["action"][1:],
        rows["reward"][1:],
        rows["is_terminal"][1:].astype(jnp.float32),
        jnp.cumprod(1 - first, 0),
    )


def update_scale(scale: Array, values: Array, tau: float) -> Array:
    """Moves the running scale: ``s <- s + tau (max(1, p95 - p5) - s)``.

    Args:
        scale: A scalar; 1 at first.
        values: Of any shape; their percentiles are interpolated linearly.
        tau: How far.
    """
    low, high = jnp.percentile(values, jnp.array([LOW, HIGH]))
    return scale + tau * (jnp.maximum(high - low, 1.0) - scale)


class Losses:
    """The losses bound to networks and options."""

    def __init__(self, networks: Networks, config: TDMPC2Config, discount: float | Sequence[float]):
        """Keeps them.

        Args:
            networks: Of ``make_networks`` with the same options.
            config: Weights and sizes.
            discount: Of the next value; of several tasks, for each.
        """
        self.networks, self.config, self.discount = networks, config, discount

    def target(
        self, params: Params, target_q: Params, next_z: Array, window: Window, noise: Noise
    ) -> Array:
        """Returns targets ``[H, B]`` of the values.

        ``y[t] = r[t] + discount (1 - terminal[t]) min(Q_i, Q_j)(z', a')`` with the target
        ensemble, z' the encoded row t + 1, a' the policy's action there, and one pair i, j for
        all. The entropy of the policy takes no part.

        Args:
            params: By component.
            target_q: The target ensemble.
            next_z: ``[H, B, L]``.
            window: For rewards and ends.
            noise: For actions and pair.
        """
        action = self.networks.policy(params, next_z, noise.target).action
        frozen = {**params, "q": target_q}
        value = self.networks.q_two(frozen, next_z, action, noise.target_pair).min(0)
        task, discount = self.networks.task, jnp.asarray(self.discount)
        factor = (task(next_z) @ discount if task else discount) * (1 - window.terminal)
        return jax.lax.stop_gradient(window.reward + factor * value)

    def rollout(self, params: Params, z: Array, actions: Array) -> Array:
        """Returns states ``[H + 1, ..., L]``: ``z[0] = z``, ``z[t+1] = d(z[t], a[t])``.

        Args:
            params: By component.
            z: ``[..., L]``.
            actions: ``[H, ..., A]``.
        """

        def step(z: Array, action: Array) -> tuple[Array, Array]:
            z = self.networks.dynamics(params, z, action)
            return z, z

        return jnp.concatenate([z[None], jax.lax.scan(step, z, actions, unroll=True)[1]])

    def model(
        self, params: Params, window: Window, next_z: Array, target: Array, noise: Noise
    ) -> tuple[Array, ModelLosses]:
        """Returns the loss of encoder, dynamics, heads and values on a rollout z[0..H].

        With ``<.>`` the mean over batch and steps, and CE the cross-entropy of two-hot targets::

            consistency = <rho^t mean((z[t+1] - z'[t])^2)>
            reward      = <rho^t CE(R(z[t], a[t]), r[t])>
            value       = <rho^t CE(Q_i(z[t], a[t]), y[t])>, over all members i too
            termination = <BCE(E(z[t+1]), terminal[t])>

        The gradients of all of them run through the whole rollout into the encoder.

        Args:
            params: By component; the policy takes no part.
            window: Rows.
            next_z: Encodings z' of rows 1 to H, ``[H, B, L]``, without gradient.
            target: Of the values, y, ``[H, B]``.
            noise: For shift and dropout.
        """
        networks, config, weight = self.networks, self.config, window.weight
        first = {key: x[0] for key, x in window.observation.items()}
        z, action = networks.encode(params, first, noise.first_shift), window.action
        if networks.mask:  # Whoever acted at random did so in entries that a task lacks, too.
            action = action * networks.mask(z)
        states = self.rollout(params, z, action)
        reward = networks.reward(params, states[:-1], action)
        value = networks.q(params, states[:-1], action, noise.keep)
        missed = (states[1:] - next_z)[..., : config.latent]
        terms = {
            "consistency": self._decayed(jnp.square(missed).mean(-1), weight),
            "reward": self._decayed(-reward.log_prob(window.reward), weight),
            "value": self._decayed(-value.log_prob(target), weight),
        }
        ends = None
        if networks.termination:
            ends = networks.termination(params, states[1:])
            terms["termination"] = -(weight * Bernoulli(ends).log_prob(window.terminal)).mean()
        total = sum(getattr(config, name) * term for name, term in terms.items())
        return total, ModelLosses(terms, states, reward, value, ends)

    def policy(
        self,
        policy: Params,
        params: Params,
        scale: Array,
        states: Array,
        weight: Array,
        noise: Noise,
    ) -> tuple[Array, PolicyLosses]:
        """Returns the loss of the policy at the states of a rollout, z[0..H].

        ``-<rho^t ((Q_i + Q_j)(z[t], a[t]) / 2 s + entropy A h[t] + choice_entropy c[t])>`` with
        a[t] drawn, h the estimated entropy, before the tanh or of the action, c that of choices
        (``Draw.choice_entropy``), one pair i, j for all, dropout as in the values' own loss, and s
        the running scale after it has seen the values of time 0.

        Args:
            policy: The components that the gradient is asked of: "policy", and "task".
            params: By component; of these the values count.
            scale: The running scale.
            states: ``[H + 1, B, L]``, without gradient.
            weight: Of steps, ``[H, B]``; state t + 1 has that of step t.
            noise: For actions, pair and dropout.
        """
        params = params | policy
        draw = self.networks.policy(params, states, noise.policy)
        pair, keep = noise.policy_pair, noise.policy_keep
        value = self.networks.q_two(params, states, draw.action, pair, keep).mean(0)
        scale = update_scale(scale, jax.lax.stop_gradient(value[0]), self.config.tau)
        bonus = self.config.entropy * draw.scaled_entropy
        gain = value / scale + bonus + self.config.choice_entropy * draw.choice_entropy
        weight = jnp.concatenate([jnp.ones_like(weight[:1]), weight])
        return -self._decayed(gain, weight), PolicyLosses(draw, value, scale)

    def _decayed(self, x: Array, weight: Array) -> Array:
        """Returns the mean of ``rho^t weight[t] x[t]`` for x ``[..., T, B]``."""
        decay = self.config.rho ** jnp.arange(len(weight), dtype=jnp.float32)
        return (decay[:, None] * weight * x).mean()


def termination_metrics(logits: Array, window: Window) -> dict[str, Array]:
    """Returns how many windows end, and the F1 score of their predictions, at the last step.

    Args:
        logits: ``[H, B]``.
        window: For the truth and the weights.
    """
    ended, said, counts = window.terminal[-1], logits[-1] > 0, window.weight[-1]
    hits = (counts * ended * said).sum()
    total = (counts * (ended + said)).sum()
    rate = (counts * ended).sum() / jnp.maximum(counts.sum(), 1)
    return {"termination_rate": rate, "termination_f1": 2 * hits / jnp.maximum(total, 1)}
