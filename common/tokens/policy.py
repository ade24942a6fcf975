"""A transformer over tokens as a policy of many bodies, cloned from what they did.

The counterpart of the dynamics ``common.tokens.tdm`` on the same tokens and the same
network, in the line of Gato (arXiv:2205.06175). Tokens see those before them, whatever the
``order`` of the configuration, and the logits of an action's entry are those at the token
before it: of its first entry at the reward, of the others at the entry before:

    p(a_t+1 | o_<=t, r_<=t, a_<=t) = prod_i p(a_t+1,i | a_t+1,<i, o_<=t, r_<=t, a_<=t)

Actions have as many bins as observations, equally wide over [-1, 1]. The loss is the mean
cross-entropy of action tokens alone. The action of an episode's first row is no choice, and
the last row has no next action: both are left out, and so are entries that a body lacks.
Tokens see their own episode only, as in the dynamics.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.tokens.config import TDMConfig
from common.tokens.steps import Steps, predicted, present_tokens
from common.tokens.tokeniser import Uniform
from common.tokens.transformer import (
    Cache,
    Context,
    Futures,
    TokenTransformer,
    branch,
    choose,
    cross_entropy,
    mean_where,
)
from common.types import Array, Key, Params


class PolicyFunctions(NamedTuple):
    """The policy as pure functions.

    Attributes:
        init: ``(key) -> params``.
        predict: ``(params, steps [B, T]) -> logits [B, T - 1, A, bins]`` of the actions that
            led to the rows behind the first, each entry given all before it.
        act: ``(params, key, steps [N, T], greedy) -> action [N, A]`` after the last row,
            within [-1, 1]: the likeliest bin's, entry after entry, or a sample. Entries that a
            body lacks are 0.
        start: ``(params, steps [N, T]) -> Context``; for imagined futures, see ``branch``.
        choose: ``(params, key, futures, greedy) -> action [N, J, A]``, the next of each future.
        loss: ``(params, steps [B, T]) -> (loss, metrics)``.
    """

    init: Callable[[Key], Params]
    predict: Callable[[Params, Steps], Array]
    act: Callable[[Params, Key, Steps, bool], Array]
    start: Callable[[Params, Steps], Context]
    choose: Callable[[Params, Key, Futures, bool], Array]
    loss: Callable[[Params, Steps], tuple[Array, dict[str, Array]]]


def functions(config: TDMConfig, observation_size: int, action_size: int) -> PolicyFunctions:
    """Returns the policy as pure functions; the arguments are those of ``TokenPolicy``."""
    config.check_ranges(observation_size)

    def methods() -> tuple[Callable, tuple[Callable, ...]]:
        policy = TokenPolicy(config, observation_size, action_size)
        return lambda: None, (policy.predict, policy.start, policy.choose)

    transformed = hk.without_apply_rng(hk.multi_transform(methods))
    predict, start, choose_next = transformed.apply

    def act(params: Params, key: Key, steps: Steps, greedy: bool) -> Array:
        futures = branch(start(params, steps), candidates=1, steps=1)
        return choose_next(params, key, futures, greedy)[:, 0]

    def loss(params: Params, steps: Steps) -> tuple[Array, dict[str, Array]]:
        return _loss(Uniform(config.bins), predict(params, steps), steps)

    return PolicyFunctions(transformed.init, predict, act, start, choose_next, loss)


class TokenPolicy(hk.Module):
    """The behaviour-cloned policy; see ``PolicyFunctions``."""

    def __init__(self, config: TDMConfig, observation_size: int, action_size: int):
        """Creates all weights.

        Args:
            config: Tokens and sizes; ``order`` and ``decode`` are those of the dynamics only.
            observation_size: Observation entries of the largest body, D.
            action_size: Action entries of the largest body, A.
        """
        super().__init__(name="token_policy")
        self._tokens, self._actions = config.tokens(), Uniform(config.bins)
        self._net = TokenTransformer(config, observation_size, action_size, blocks=False)
        self._row, self._size = observation_size + 1, action_size

    def predict(self, steps: Steps) -> Array:
        """Returns the logits of all actions but the first; see ``PolicyFunctions``."""
        batch, time = steps.reward.shape
        # One row alone has no prediction, but its shapes must be right.
        hidden = self._observe(steps, max(time - 1, 1) * self._net.block)[0]
        hidden = hidden.reshape(batch, -1, self._net.block, hidden.shape[-1])
        return self._net.logits(hidden[:, : time - 1, self._row - 1 : -1])

    def start(self, steps: Steps) -> Context:
        """Returns the memory of observed rows; see ``PolicyFunctions``."""
        length = steps.reward.shape[1] * self._net.block - self._size
        hidden, (keys, values), seen = self._observe(steps, length)
        return Context(keys, values, seen, hidden[:, -1], present_tokens(steps))

    def choose(self, key: Key, futures: Futures, greedy: bool) -> Array:
        """Decides what to do next in every future; see ``PolicyFunctions``."""
        count, candidates, width = futures.last.shape
        decode = "argmax" if greedy else "sample"
        units, _ = self._net.draw(
            futures.context,
            (futures.keys, futures.values),
            futures.count * self._net.block,
            futures.last.reshape(-1, width),
            jax.random.split(key, self._size),
            functools.partial(choose, self._actions, decode),
        )
        has = futures.context.present[:, None, self._row :]
        return units.reshape(count, candidates, -1) * has

    def _observe(self, steps: Steps, length: int) -> tuple[Array, Cache, Array]:
        """Runs over the first tokens at once; returns as ``TokenTransformer.observe``."""
        row = self._tokens.to_unit(predicted(steps))
        # None led to a first row, and the last row's next one is not known.
        action = steps.action[:, 1:] * ~steps.is_first[:, 1:, None]
        action = jnp.pad(action, ((0, 0), (0, 1), (0, 0)))
        units = jnp.concatenate([row, action], -1).reshape(row.shape[0], -1)
        episode = jnp.repeat(jnp.cumsum(steps.is_first, 1), self._net.block, 1)
        return self._net.observe(units[:, :length], episode[:, :length], present_tokens(steps))


def _loss(tokens: Uniform, logits: Array, steps: Steps) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of the action entries that a body has, first rows left out."""
    action = steps.action[:, 1:]
    nll = cross_entropy(logits, tokens.encode(action))
    counts = steps.has_action[:, None] & ~steps.is_first[:, 1:, None]
    error = jnp.abs(tokens.center(logits.argmax(-1)) - action)
    loss = mean_where(nll, counts)
    return loss, {"loss": loss, "action_error": mean_where(error, counts)}
