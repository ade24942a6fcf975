"""A causal transformer that predicts actions from all that happened before, across episodes.

One token a step: where the agent is, what it did before and what that was rewarded with, and
whether an episode begins. With x the token, h the output of the blocks of ``common.nets.attention``
and n a layer norm,

    x_t = W [row(s_t), column(s_t), a_{t-1}, r_{t-1}, first_t] + b,   logits_t = W_out n(h_t)

Algorithm Distillation (Laskin et al., 2023) has a token each for state, action and reward; what a
prediction depends on is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.incontext.source import Histories
from benchmarks.incontext.world import ACTIONS, SIDE, play
from common.checks import Count, Options, Positive, check_multiple
from common.nets.attention import make_block
from common.nets.layers import Dense, LayerNorm
from common.types import Array, Key, Params

INPUTS = 2 * SIDE + ACTIONS + 2
"""Entries of what a token is made of."""


@dataclasses.dataclass(frozen=True)
class PolicyConfig(Options):
    """Sizes of the transformer, and how it learns.

    Attributes:
        width: Entries of a token.
        layers: Blocks.
        heads: Heads of each block.
        units: Units of their feed-forward parts.
        episodes: Episodes of a context; nothing before them is seen.
        batch: Contexts of an update.
        updates: Length of training.
        lr: Learning rate, after a warm-up of a tenth of training falling to zero as a cosine.
        clip: Largest norm of a gradient.
    """

    width: Count = 64
    layers: Count = 1
    heads: Count = 2
    units: Count = 128
    episodes: Count = 10
    batch: Count = 16
    updates: Count = 800
    lr: Positive = 2e-3
    clip: Positive = 1.0

    def __post_init__(self) -> None:
        """Raises an OptionError where the heads do not share the width evenly."""
        super().__post_init__()
        check_multiple(self, "width", "heads")


class Memory(NamedTuple):
    """What was seen so far, of N agents; M = steps of a context - 1.

    Attributes:
        keys: Of the newest M steps, the newest last ``[layers, N, heads, M, width / heads]``.
        values: In the shape of the keys.
        valid: Whether there was such a step ``[N, M]``.
    """

    keys: Array
    values: Array
    valid: Array


class Policy(NamedTuple):
    """The transformer as pure functions.

    Attributes:
        init: ``(key) -> params``.
        logits: ``(params, tokens [N, T, INPUTS]) -> logits [N, T, ACTIONS]`` of whole contexts.
        step: ``(params, memory, token [N, INPUTS]) -> (logits [N, ACTIONS], memory)``.
        initial: ``(N) -> memory`` in which nothing was seen.
    """

    init: Callable[[Key], Params]
    logits: Callable[[Params, Array], Array]
    step: Callable[[Params, Memory, Array], tuple[Array, Memory]]
    initial: Callable[[int], Memory]


def make_policy(config: PolicyConfig, steps: int) -> Policy:
    """Builds the transformer.

    Args:
        config: Sizes.
        steps: Steps of an episode.
    """
    context, size = config.episodes * steps, config.width // config.heads

    def initial(amount: int) -> Memory:
        shape = config.layers, amount, config.heads, context - 1, size
        return Memory(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros((amount, context - 1), bool))

    def run(tokens: Array, memory: Memory) -> tuple[Array, Memory]:
        """Goes on from a memory of any length with the tokens ``[N, T, INPUTS]``."""
        amount, length = tokens.shape[:2]
        before = memory.valid.shape[1]
        distance = jnp.arange(before, before + length)[:, None] - jnp.arange(before + length)
        valid = jnp.concatenate([memory.valid, jnp.ones((amount, length), bool)], 1)
        mask = (distance >= 0) & (distance < context) & valid[:, None]
        x, keys, values = Dense(config.width, name="token")(tokens), [], []
        for layer in range(config.layers):
            block = make_block(
                f"block{layer}", width=config.width, heads=config.heads, kv_heads=config.heads,
                units=config.units, window=context,
            )  # fmt: skip
            x, key, value = block(x, memory.keys[layer], memory.values[layer], mask)
            keys.append(key)
            values.append(value)
        logits = Dense(ACTIONS, name="action")(LayerNorm(name="norm")(x))
        return logits, Memory(jnp.stack(keys), jnp.stack(values), valid)

    transformed = hk.without_apply_rng(hk.transform(run))

    def nothing(amount: int) -> Memory:
        return jax.tree.map(lambda x: x[..., :0, :] if x.ndim > 2 else x[:, :0], initial(amount))

    def step(params: Params, memory: Memory, token: Array) -> tuple[Array, Memory]:
        logits, after = transformed.apply(params, token[:, None], memory)
        newest = Memory(after.keys[..., 1:, :], after.values[..., 1:, :], after.valid[:, 1:])
        return logits[:, 0], newest

    return Policy(
        init=lambda key: transformed.init(key, jnp.zeros((1, 1, INPUTS)), nothing(1)),
        logits=lambda params, tokens: transformed.apply(params, tokens, nothing(len(tokens)))[0],
        step=step,
        initial=initial,
    )


def make_tokens(
    cells: np.ndarray, before: np.ndarray, rewards: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """Returns what tokens are made of ``[..., INPUTS]``.

    Args:
        cells: Where agents are ``[...]``.
        before: Their last actions, -1 where there was none.
        rewards: What those were rewarded with.
        first: Whether an episode begins.
    """
    parts = [np.eye(SIDE)[cells // SIDE], np.eye(SIDE)[cells % SIDE]]
    parts += [np.eye(ACTIONS)[before] * (before >= 0)[..., None]]
    parts += [np.asarray(rewards)[..., None], np.asarray(first)[..., None]]
    return np.concatenate(parts, -1).astype(np.float32)


def history_tokens(histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens ``[N, T, INPUTS]`` of whole histories, and the actions that follow ``[N, T]``.

    What the last action of an episode was rewarded with is seen in the first step of the next.
    """
    amount, episodes, steps = histories.cells.shape
    cells, actions, rewards = (x.reshape(amount, -1) for x in histories[:3])
    before = np.concatenate([np.full((amount, 1), -1), actions[:, :-1]], 1)
    earlier = np.concatenate([np.zeros((amount, 1)), rewards[:, :-1]], 1)
    first = np.broadcast_to(np.tile(np.arange(steps) == 0, episodes), cells.shape)
    return make_tokens(cells, before, earlier, first), actions


def cross_entropy(logits: Array, actions: Array) -> Array:
    """Returns the mean of ``-log softmax(logits)[action]`` over all steps."""
    chances = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(chances, actions[..., None], -1).mean()


def act_in_context(
    policy: Policy, params: Any, goals: np.ndarray, episodes: int, seed: int
) -> np.ndarray:
    """Plays episodes one after another, with a memory of all of them and no update.

    Args:
        policy: The transformer.
        params: Its parameters, which stay as they are.
        goals: Cells ``[N]``, which it is not told.
        episodes: Of each.
        seed: Of the actions, which are drawn from its predictions.

    Returns:
        The return of every episode ``[N, episodes]``.
    """
    amount, key = len(goals), jax.random.key(seed)
    memory, returns = policy.initial(amount), []
    seen = {"before": np.full(amount, -1), "rewards": np.zeros(amount), "first": True}

    @jax.jit
    def choose(params: Any, memory: Memory, token: Array, key: Key) -> tuple[Array, Memory, Key]:
        key, now = jax.random.split(key)
        logits, memory = policy.step(params, memory, token)
        return jax.random.categorical(now, logits), memory, key

    def act(cells: np.ndarray) -> np.ndarray:
        nonlocal memory, key
        first = np.full(amount, seen["first"])
        token = make_tokens(cells, seen["before"], seen["rewards"], first)
        actions, memory, key = choose(params, memory, token, key)
        seen["first"] = False
        return np.asarray(actions)

    def watch(
        cells: np.ndarray, actions: np.ndarray, rewards: np.ndarray, after: np.ndarray
    ) -> None:
        del cells, after
        seen["before"], seen["rewards"] = actions, rewards

    for _ in range(episodes):
        seen["first"] = True
        returns.append(play(goals, act, watch).rewards.sum(1))
    return np.stack(returns, 1)
