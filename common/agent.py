"""What the run loop, the evaluation and the benchmarks know of an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from common.types import Array, Key, Mode, Params, Rows

NORMALISERS = "normalisers"
"""Where the parameters for acting hold what is counted and not learned."""


class OpenLoop(NamedTuple):
    """A prediction beside the truth.

    Attributes:
        truth: Images as recorded, uint8 ``[B, T, height, width, channels]``.
        model: Reconstructions of the context, then predictions from actions alone.
    """

    truth: Array
    model: Array


class Agent(NamedTuple):
    """An agent as pure functions: it can be jitted, vmapped over seeds and sharded.

    Attributes:
        init: ``(key) -> state``, everything that training changes.
        params: ``(state) -> params``, the part of the state that acting and reporting need: a
            mapping of nested parameters by name, and under ``NORMALISERS`` what is no
            parameter.
        initial_carry: ``(num_envs) -> carry``, what acting remembers between steps.
        act: ``(params, key, carry, observation, mode) -> (action [N, A], carry)``. The
            observation holds the environments' rows ``[N, ...]`` including ``is_first``,
            which resets that row of the carry. Mode "train" samples and explores,
            "eval" takes the mode of the policy.
        update: ``(state, key, batch) -> (state, metrics)``; batch of rows ``[B, T, ...]``,
            metrics scalars named ``group/name``.
        report: ``(params, key, batch) -> {name: OpenLoop}``, predictions of
            images from actions alone beside the truth.
        value: ``(params, state) -> [...]``, the return that the agent expects from a state on:
            a latent state with any leading axes, or what acting remembers, ``[N]``; None for
            agents that learn no value.
    """

    init: Callable[[Key], Any]
    params: Callable[[Any], Params]
    initial_carry: Callable[[int], Any]
    act: Callable[[Params, Key, Any, Rows, Mode], tuple[Array, Any]]
    update: Callable[[Any, Key, Rows], tuple[Any, dict[str, Array]]]
    report: Callable[[Params, Key, Rows], dict[str, OpenLoop]]
    value: Callable[[Params, Any], Array] | None = None
