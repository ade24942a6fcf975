"""Episodic curiosity's memory: what an episode has shown, and the bonus for what is far from it.

Following Savinov et al. (arXiv:1810.02274), for the embedding e of the newest observation, the
memory M and the comparator's probabilities p:

    similarity = the 90th percentile of p(m, e) over m in M,   bonus = 0.5 − similarity

The memory is emptied where an episode begins, whose first embedding it takes in. Later ones are
taken in where the similarity is below a threshold; where it is full, in the place of a random one
or of the oldest. The first and the last row of an episode have a bonus of 0, and that of the first
counts for nothing. The memory is a part of what acting remembers, one for each environment, so a
run that goes on, which begins new episodes, lacks nothing. The embeddings are those of when they
were taken in, while the encoder goes on learning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.rows import NOTE_PREFIX, Specs
from common.types import Array, Rows
from dreamer.exploration.config import CuriosityConfig

BONUS = NOTE_PREFIX + "bonus"
"""Where rows keep their bonus ``[2]``, and 1 where they have one, which those of the random policy
at the beginning of a run do not."""
NOTES: Specs = {BONUS: ((2,), np.float32)}
"""Shape and type of what is noted with a row."""


class EpisodicMemory(NamedTuple):
    """What the running episodes of N environments have shown.

    Attributes:
        embeddings: Those that were taken in ``[N, M, E]``, zeros where there is room.
        taken: How many were taken in since the episode began ``[N]``, int32.
        note: What is noted with the newest row ``[N, 2]``.
    """

    embeddings: Array
    taken: Array
    note: Array


def empty_episodes(config: CuriosityConfig, num_envs: int, embed: int) -> EpisodicMemory:
    """Returns the memory before the first row."""
    return EpisodicMemory(
        jnp.zeros((num_envs, config.slots, embed)),
        jnp.zeros(num_envs, jnp.int32),
        jnp.zeros((num_envs, 2)),
    )


def similarity(scores: Array, amount: Array, percentile: float) -> Array:
    """Returns a percentile of the first scores, interpolated linearly ``[N]``.

    Args:
        scores: ``[N, M]``.
        amount: How many of them there are ``[N]``; with none the result is 0.
        percentile: From 0 to 100.
    """
    there = jnp.arange(scores.shape[1]) < amount[:, None]
    ordered = jnp.sort(jnp.where(there, scores, jnp.inf), 1)
    place = jnp.maximum(amount - 1, 0) * (percentile / 100)
    low = jnp.floor(place).astype(jnp.int32)
    high = jnp.minimum(low + 1, jnp.maximum(amount - 1, 0))
    pick = lambda at: jnp.take_along_axis(ordered, at[:, None], 1)[:, 0]  # noqa: E731
    share = place - low
    return jnp.where(amount > 0, (1 - share) * pick(low) + share * pick(high), 0.0)


def remember(
    config: CuriosityConfig,
    compare: Callable[[Array, Array], Array],
    memory: EpisodicMemory,
    embed: Array,
    rows: Rows,
    noise: Array,
) -> EpisodicMemory:
    """Returns the memory with the newest rows in it, and their bonus.

    Args:
        config: Its rules.
        compare: ``(x [N, M, E], y [N, 1, E]) -> logits [N, M]`` of being near.
        memory: Of the rows before.
        embed: What the encoder makes of the newest observations ``[N, E]``.
        rows: ``is_first`` and ``is_last`` of the newest rows ``[N]``.
        noise: Uniforms ``[N]``, which say what a random replacement replaces.
    """
    first, last = rows["is_first"], rows["is_last"]
    taken, slots = jnp.where(first, 0, memory.taken), config.slots
    held = jnp.minimum(taken, slots)
    scores = jax.nn.sigmoid(compare(memory.embeddings, embed[:, None]))
    near = similarity(scores, held, config.percentile)
    bonus = jnp.where(first | last, 0.0, 0.5 - near)
    takes = first | (near < config.threshold)
    if config.replacement == "fifo":
        place = taken % slots
    else:
        place = jnp.minimum((noise * slots).astype(jnp.int32), slots - 1)
        place = jnp.where(taken < slots, taken, place)
    here = takes[:, None] & (jnp.arange(slots) == place[:, None])
    return EpisodicMemory(
        jnp.where(here[..., None], embed[:, None], memory.embeddings),
        taken + takes,
        jnp.stack([bonus, ~first], -1).astype(jnp.float32),
    )
