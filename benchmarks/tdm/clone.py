"""The behaviour-cloned policy as the experiments see it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.tdm.contenders import Fitted, scaled
from common.tokens import policy as token_policy
from common.tokens.config import TDMConfig
from common.tokens.steps import Steps
from common.types import Array, Key, Params
from planet.model import Memory
from planet.window import window


class Cloned(NamedTuple):
    """A policy that imitates the data; all but ``act`` as of ``planet.model.PlannedModel``.

    Attributes:
        init: ``(key) -> weights``.
        loss: ``(fitted, key, steps [B, T]) -> (loss, metrics)``.
        memory: The newest rows.
        start: ``(fitted, keys, steps [N, T]) -> steps [N, T]``, what ``act`` looks at.
        act: ``(fitted, key, start) -> action [N, A]``.
    """

    init: Callable[[Key], Params]
    loss: Callable[[Fitted, Key, Steps], tuple[Array, dict[str, Array]]]
    memory: Memory
    start: Callable[[Fitted, Array, Steps], Steps]
    act: Callable[[Fitted, Key, Steps], Array]


@functools.lru_cache(maxsize=8)
def make_clone(config: TDMConfig, context: int, observation_size: int, action_size: int) -> Cloned:
    """Returns the behaviour-cloned policy on the same tokens; arguments of ``make_tdm``."""
    policy = token_policy.functions(config, observation_size, action_size)

    def loss(fitted: Fitted, key: Key, steps: Steps) -> tuple[Array, dict[str, Array]]:
        del key
        return policy.loss(fitted.weights, scaled(config, fitted.scale, steps))

    def start(fitted: Fitted, keys: Array, steps: Steps) -> Steps:
        del keys
        return scaled(config, fitted.scale, steps)

    def act(fitted: Fitted, key: Key, start: Steps) -> Array:
        return policy.act(fitted.weights, key, start, greedy=True)

    memory = window(context, observation_size, action_size)
    return Cloned(policy.init, loss, memory, start, act)
