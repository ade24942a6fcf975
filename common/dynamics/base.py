"""What every latent dynamics offers to the world model.

A dynamics module predicts a latent state from the previous state and the action
(the prior) and corrects it by what was observed (the posterior). It never sees
rewards, heads or agents. The laws that the contract tests hold for each of them:

- ``observe`` equals the fold of ``observe_step`` over time, also with a reset in
  mid-sequence: where ``is_first`` is set, the previous state and the action are zero.
- A row of a batch never depends on another row.
- ``imagine_step`` depends on the state and the action only.

Noise is explicit. Every sampling function takes the standard noise that
``draw_noise`` made, so that a scan draws no random numbers and tests can replay
recorded samples; ``None`` in its place takes the distribution's mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import haiku as hk

from common.types import Array, Key, Params

State = Any
"""The latent state of one dynamics, a NamedTuple of arrays with the same leading axes; its entry
``stoch`` is the sample of the prior or of the posterior."""
Noise = Array | None
"""Standard noise as ``draw_noise`` returns it, or None for the mode."""


class Observed(NamedTuple):
    """What ``observe`` returns; every array has leading axes ``[B, T]``.

    Attributes:
        states: Posterior states.
        posterior: Distribution of the stochastic latent given the past and the present.
        prior: Distribution of the stochastic latent given the past alone.
    """

    states: State
    posterior: Any
    prior: Any


class Dynamics(Protocol):
    """A latent dynamics model (a Haiku module).

    Beside it stand two functions of its configuration alone: ``initial(config,
    batch_size)``, the state before the first observation, and ``draw_noise(config,
    key, shape)``, the noise of one latent sample for each entry of ``shape``.
    """

    def observe(
        self, start: State, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> Observed:
        """Filters a sequence: embed ``[B, T, D]``, action ``[B, T, A]``, is_first ``[B, T]``."""

    def observe_step(
        self, state: State, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> State:
        """Filters one step: embed ``[N, D]``, action ``[N, A]``, is_first ``[N]``."""

    def imagine_step(self, state: State, action: Array, noise: Noise) -> State:
        """Predicts one step without an observation: action ``[N, A]``."""

    def prior(self, state: State) -> Any:
        """Returns the distribution from which ``imagine_step`` drew the state's latent."""

    def feature(self, state: State) -> Array:
        """Returns what heads and policies see, ``[..., D]``."""


class DynamicsFunctions(NamedTuple):
    """A dynamics module without Haiku: pure functions, all but ``init`` of ``(params, ...)``.

    Attributes:
        init: ``(key) -> params``.
        observe: As ``Dynamics.observe``, and so on.
    """

    init: Callable[[Key], Params]
    observe: Callable[..., Observed]
    observe_step: Callable[..., State]
    imagine_step: Callable[..., State]
    prior: Callable[..., Any]
    feature: Callable[..., Array]


def dynamics_functions(build: Callable[[], Dynamics]) -> DynamicsFunctions:
    """Turns a Haiku module into pure functions.

    Args:
        build: Builds the module inside a Haiku transform, and creates all weights at once.
    """

    def methods() -> tuple[Callable, tuple[Callable, ...]]:
        module = build()
        names = DynamicsFunctions._fields[1:]
        # Building the module creates all weights: initialising needs to call nothing.
        return lambda: None, tuple(getattr(module, name) for name in names)

    transformed = hk.without_apply_rng(hk.multi_transform(methods))
    return DynamicsFunctions(transformed.init, *transformed.apply)
