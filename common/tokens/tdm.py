"""A transformer over tokens as dynamics of state vectors, in the line of TDM (arXiv:2305.10912).

Every number is a token; see ``common.tokens.tokeniser`` for the bins, and
``common.tokens.transformer`` for the order of tokens and the network. The logits at
a token belong to a later one, in either of two orders:

- autoregressive: each token sees those before it and predicts the next one, D + 1 passes
  for each imagined step: p(row | past) = prod_i p(o_i | o_<i, past) p(r | o, past);
- parallel: each token sees its whole block, and that of o_t,i predicts o_t+1,i, that of
  r_t predicts r_t+1, one pass for each step: the entries are independent given the past.

The loss is the mean cross-entropy of observation and reward tokens. First rows of episodes
are given, never predicted, actions are inputs only, and ends of episodes are not modelled.
Entries that a body lacks are left out.

Tokens never attend beyond the start of their episode. ``start`` computes the keys and values
of a context once; ``branch`` lets imagined futures share them.
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
from common.tokens.tokeniser import Tokeniser
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

__all__ = ["TDM", "Context", "Futures", "TDMFunctions", "branch", "functions"]


class TDMFunctions(NamedTuple):
    """The model as pure functions.

    Attributes:
        init: ``(key) -> params``.
        predict: ``(params, steps [B, T]) -> logits [B, T - 1, D + 1, bins]`` of the rows behind
            the first, each given all before it (and before it in its row).
        start: ``(params, steps [N, T]) -> Context``; the last row is the present one. A short
            past may be filled up in front: rows before the newest ``is_first`` are hidden.
        imagine_step: ``(params, key, futures, action [N, J, A]) -> (observation [N, J, D],
            reward [N, J], futures)``; ``branch`` makes the first futures.
        loss: ``(params, steps [B, T]) -> (loss, metrics)``.
    """

    init: Callable[[Key], Params]
    predict: Callable[[Params, Steps], Array]
    start: Callable[[Params, Steps], Context]
    imagine_step: Callable[[Params, Key, Futures, Array], tuple[Array, Array, Futures]]
    loss: Callable[[Params, Steps], tuple[Array, dict[str, Array]]]


def functions(config: TDMConfig, observation_size: int, action_size: int) -> TDMFunctions:
    """Returns the model as pure functions; the arguments are those of ``TDM``."""
    config.check_ranges(observation_size)

    def methods() -> tuple[Callable, tuple[Callable, ...]]:
        model = TDM(config, observation_size, action_size)
        return lambda: None, (model.predict, model.start, model.imagine_step)

    transformed = hk.without_apply_rng(hk.multi_transform(methods))
    predict, start, imagine_step = transformed.apply

    def loss(params: Params, steps: Steps) -> tuple[Array, dict[str, Array]]:
        return _loss(config.tokens(), predict(params, steps), steps)

    return TDMFunctions(transformed.init, predict, start, imagine_step, loss)


class TDM(hk.Module):
    """The token-level transformer dynamics; see ``TDMFunctions``."""

    def __init__(self, config: TDMConfig, observation_size: int, action_size: int):
        """Creates all weights.

        Args:
            config: Tokens and sizes.
            observation_size: Observation entries of the largest body, D.
            action_size: Action entries of the largest body, A.
        """
        super().__init__(name="tdm")
        self._parallel, self._tokens = config.order == "parallel", config.tokens()
        self._choose = functools.partial(choose, self._tokens, config.decode)
        self._net = TokenTransformer(config, observation_size, action_size, blocks=self._parallel)
        self._row, self._block = observation_size + 1, observation_size + 1 + action_size

    def predict(self, steps: Steps) -> Array:
        """Returns the logits of all rows but the first; see ``TDMFunctions``."""
        hidden = self._observe(steps)[0]
        if self._parallel:
            hidden = hidden[:, : -self._block]
        else:
            hidden = hidden[:, self._block - 1 : -1]
        batch, _, width = hidden.shape
        return self._net.logits(hidden.reshape(batch, -1, self._block, width)[:, :, : self._row])

    def start(self, steps: Steps) -> Context:
        """Returns the memory of observed rows; see ``TDMFunctions``."""
        _, (keys, values), seen = self._observe(steps)
        # What the first pass of imagination begins with is not remembered yet.
        more = 0 if self._parallel else self._row - 1
        length = (steps.reward.shape[1] - 1) * self._block + more
        keys, values = jax.tree.map(lambda x: x[:, :, :length], (keys, values))
        last = self._tokens.to_unit(predicted(steps)[:, -1])
        return Context(keys, values, seen[:, :length], last, present_tokens(steps))

    def imagine_step(
        self, key: Key, futures: Futures, action: Array
    ) -> tuple[Array, Array, Futures]:
        """Predicts one step of every future; see ``TDMFunctions``."""
        count, candidates = futures.last.shape[:2]
        keys = jax.random.split(key, self._row)
        last = futures.last.reshape(count * candidates, -1)
        action = action.reshape(count * candidates, -1)
        context, cache = futures.context, (futures.keys, futures.values)
        begin = futures.count * self._block
        if self._parallel:
            units = jnp.concatenate([last, action], 1)
            hidden, cache = self._net.extend(context, cache, begin, units)
            row = self._choose(keys[0], self._net.logits(hidden[:, : self._row]))
        else:
            units = jnp.concatenate([last[:, -1:], action], 1)
            hidden, cache = self._net.extend(context, cache, begin, units)
            begin += units.shape[1]
            row, cache = self._net.draw(context, cache, begin, hidden[:, -1], keys, self._choose)
        row = row.reshape(count, candidates, -1)
        values = self._tokens.from_unit(row)
        observation = values[..., :-1] * context.present[:, None, : self._row - 1]
        futures = Futures(context, *cache, row, futures.count + 1)
        return observation, values[..., -1], futures

    def _observe(self, steps: Steps) -> tuple[Array, Cache, Array]:
        """Runs over all rows at once; returns as ``TokenTransformer.observe``."""
        row = self._tokens.to_unit(predicted(steps))
        # The last row's next action is not known; no token that is used sees it.
        action = jnp.pad(steps.action[:, 1:], ((0, 0), (0, 1), (0, 0)))
        units = jnp.concatenate([row, action], -1).reshape(row.shape[0], -1)
        episode = jnp.repeat(jnp.cumsum(steps.is_first, 1), self._block, 1)
        return self._net.observe(units, episode, present_tokens(steps))


def _loss(tokens: Tokeniser, logits: Array, steps: Steps) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of the tokens that a body has, first rows of episodes left out."""
    nll = cross_entropy(logits, tokens.encode(predicted(steps))[:, 1:])
    counts = present_tokens(steps)[:, None, : nll.shape[-1]] & ~steps.is_first[:, 1:, None]
    entries = {
        "loss": slice(None),
        "observation_loss": slice(None, -1),
        "reward_loss": slice(-1, None),
    }
    means = {name: mean_where(nll[..., i], counts[..., i]) for name, i in entries.items()}
    return means["loss"], means
