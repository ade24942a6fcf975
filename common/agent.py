"""What the run loop, the evaluation and the benchmarks know of an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from common.rows import Specs
from common.types import Array, Key, Mode, Params, Rows

NORMALISERS = "normalisers"
"""Where the parameters for acting hold what is counted and not learned."""
EXPLORER = "explorer"
"""Where they hold what only collects experience; no export has it, and agents act without it."""

SMALL_ACTOR = "small_actor"
"""Where they hold an actor that acts by itself; an export may hold it without all else."""


class OpenLoop(NamedTuple):
    """A prediction beside the truth.

    Attributes:
        truth: Images as recorded, uint8 ``[B, T, height, width, channels]``.
        model: Reconstructions of the context, then predictions from actions alone.
    """

    truth: Array
    model: Array


class Latents(NamedTuple):
    """How what an agent finds out while it acts is kept with the rows of its experience.

    Attributes:
        specs: Shape and type of what is kept of one row, by names that begin with
            ``rows.LATENT_PREFIX``, the latent state that was inferred, of which zeros stand for
            the one before the first row; or with ``rows.NOTE_PREFIX``, what batches hold of all
            rows ``[B, T, ...]``, zeros where nothing was noted.
        pack: ``(carry) -> arrays [N, ...]``, of the rows that were acted on last.
        update: ``(state, key, batch) -> (state, metrics, arrays [B, T, ...])``, an update that
            returns the latent states that it inferred of the batch. In the batch are, beside the
            rows ``[B, T, ...]``, those ``[B, ...]`` of the row before each sequence; without them,
            as ``Agent.update`` may be called too, it begins in the empty state.
    """

    specs: Specs
    pack: Callable[[Any], Rows]
    update: Callable[[Any, Key, Rows], tuple[Any, dict[str, Array], Rows]]


class NoiseSpec(NamedTuple):
    """Random numbers that one step takes of each environment.

    Attributes:
        kind: "uniform" between 0 and 1, or standard "normal".
        shape: Of one environment's.
    """

    kind: Literal["uniform", "normal"]
    shape: tuple[int, ...]


class Reactive(NamedTuple):
    """How an agent acts when it is evaluated, as a pure function that searches nothing.

    Attributes:
        noise: The random numbers of a step, by name; empty where nothing is drawn.
        initial_carry: ``(num_envs) -> carry``, what it remembers between steps.
        act: ``(params, noise, carry, observation) -> (action [N, A], carry)``, as ``Agent.act``
            with given numbers ``[N, ...]``. Without "latent" among them, the latent state is the
            likeliest one.
    """

    noise: Mapping[str, NoiseSpec]
    initial_carry: Callable[[int], Any]
    act: Callable[[Params, Mapping[str, Array], Any, Rows], tuple[Array, Any]]


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
        policy: ``(params, key, states [M, ...]) -> actions [M, A]``, drawn by what the agent
            learned to do in latent states; None for agents that learn no policy of them.
        value_includes_reward: Whether the value of a state counts the reward that came with it.
        latents: How latent states and notes are kept in the replay; None where they are not.
        reactive: How it acts without a search; None for agents that only plan.
        explores_until: Frames after which ``act`` is told, by the rows' ``rows.EXPLORES``, that
            exploring is over; 0 for never, and then it is told nothing.
    """

    init: Callable[[Key], Any]
    params: Callable[[Any], Params]
    initial_carry: Callable[[int], Any]
    act: Callable[[Params, Key, Any, Rows, Mode], tuple[Array, Any]]
    update: Callable[[Any, Key, Rows], tuple[Any, dict[str, Array]]]
    report: Callable[[Params, Key, Rows], dict[str, OpenLoop]]
    value: Callable[[Params, Any], Array] | None = None
    policy: Callable[[Params, Key, Any], Array] | None = None
    value_includes_reward: bool = False
    latents: Latents | None = None
    reactive: Reactive | None = None
    explores_until: int = 0
