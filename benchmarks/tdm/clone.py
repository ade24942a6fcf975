"""The behaviour-cloned policy as the experiments see it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.tdm.contenders import Fitted, Learner, scaled
from common.tokens import policy as token_policy
from common.tokens.config import TDMConfig
from common.tokens.steps import Steps
from common.types import Array, Key


class Cloned(NamedTuple):
    """A policy that imitates the data.

    Attributes:
        learner: How it learns.
        act: ``(fitted, key, steps [N, T]) -> action [N, A]``.
    """

    learner: Learner
    act: Callable[[Fitted, Key, Steps], Array]


@functools.lru_cache(maxsize=8)
def make_clone(config: TDMConfig, observation_size: int, action_size: int) -> Cloned:
    """Returns the behaviour-cloned policy on the same tokens; arguments of ``make_tdm``."""
    policy = token_policy.functions(config, observation_size, action_size)

    def loss(fitted: Fitted, key: Key, steps: Steps) -> Array:
        del key
        return policy.loss(fitted.weights, scaled(config, fitted.scale, steps))[0]

    def act(fitted: Fitted, key: Key, steps: Steps) -> Array:
        seen = scaled(config, fitted.scale, steps)
        return policy.act(fitted.weights, key, seen, greedy=True)

    return Cloned(Learner(policy.init, loss), act)
