"""What acting by planning needs of a model: the one interface of all models that are planned in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from common.types import Array, Key, Params, Rows
from planet.search import Rollout
from planet.value import Guide


class Memory(NamedTuple):
    """What a model remembers of each environment: a latent state, or its newest rows.

    Attributes:
        initial: ``(num_envs) -> memory [N, ...]`` before the first row.
        remember: ``(params, keys, memory, rows) -> memory`` with the newest rows ``[N, ...]`` in
            it. ``action`` led to them and is zero in first rows; ``reward`` may be missing.
        draws: Keys ``[draws]`` that a step takes: those of ``remember`` and, the same ones, of
            the model's ``start``. No two draws may be made with one of them.
    """

    initial: Callable[[int], Any]
    remember: Callable[[Params, Array, Any, Rows], Any]
    draws: int = 0


class PlannedModel(NamedTuple):
    """A model that can be planned in.

    Attributes:
        init: ``(key) -> params``; None for a model that learns elsewhere.
        loss: ``(params, key, batch [B, T]) -> (loss, metrics)``; None likewise.
        memory: What it remembers of environments.
        start: ``(params, keys, memory) -> start [N, ...]`` of imagination.
        imagine: ``(params, key, start, actions [N, H, A]) -> (observation [N, H, ...], reward
            [N, H])``: rows to come, drawn or expected. The observation is what the model
            predicts: a mapping by key, or all vectors side by side.
        rollout: ``(params, key, start, actions [N, J, H, A]) -> Future`` for planners.
        guide: What it has learned of values and policies; None for nothing.
    """

    init: Callable[[Key], Params] | None
    loss: Callable[[Params, Key, Any], tuple[Array, dict[str, Array]]] | None
    memory: Memory
    start: Callable[[Params, Array, Any], Any]
    imagine: Callable[[Params, Key, Any, Array], tuple[Any, Array]]
    rollout: Rollout
    guide: Guide | None = None
