"""Teaching a small actor, beside the learner's updates or after them.

The learner (world model, actor and critic) learns from what the small actor does, by imagination as
ever, so that no importance weights are needed: what it learns from rows is how the world goes,
whoever acted. The small actor learns from the same rows, by ``ratio`` gradient steps for every
update of the learner, each on all of them.

Both run over the same windows and remember of them in their own way. A window begins for the small
actor as it does for the world model (``common.model.context``): with nothing; or with what
``replay.burn_in`` rows before it left, by the present parameters and without gradients; or, with
``replay.latents``, with the hidden state that it had at the row before, when it acted or was
taught last, which the replay keeps. Since the learner does not act, its own state of a row is empty
until the row was replayed.

No gradient of a lesson reaches the learner, and none of the learner's regulariser reaches anything
but the learner's actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from common.agent import SMALL_ACTOR
from common.distributions import Joint
from common.learning.normalize import natural
from common.learning.optimizers import make_optimizer
from common.model.context import from_bits, to_bits
from common.model.vectors import Statistics
from common.model.world_model import WorldModel
from common.rows import LATENT_PREFIX, Specs, without_latents
from common.types import Array, Key, Params, Rows
from dreamer.config import Config
from dreamer.distillation.losses import policy_loss, value_loss
from dreamer.distillation.network import small_functions
from dreamer.learn import TrainState
from dreamer.networks import Networks

HIDDEN = LATENT_PREFIX + "small_actor"
"""What the replay keeps of the small actor's hidden state, in bfloat16."""
Pull = Callable[[Params, Array], Array]
"""``(actor parameters, features [B, T, D]) -> loss`` that holds the actor near the small one."""


class Lesson(NamedTuple):
    """What the learner would do in replayed rows, and expects there.

    Attributes:
        policy: Distributions ``[B, T]``.
        value: Returns ``[B, T]``.
    """

    policy: Joint
    value: Array


class Taught(NamedTuple):
    """What a lesson changed.

    Attributes:
        params: Parameters of the small actor.
        optimizer: Its optimizer's state.
        hidden: What it now remembers at every row ``[B, T, D]``.
        metrics: Scalars.
    """

    params: Params
    optimizer: Any
    hidden: Array
    metrics: dict[str, Array]


class Distiller:
    """Everything of distillation bound to one configuration.

    Attributes:
        functions: The small actor.
        specs: Shape and type of what the replay keeps of its hidden state; empty for nothing.
    """

    def __init__(self, model: WorldModel, networks: Networks, config: Config):
        """Builds the small actor.

        Args:
            model: The learner's world model.
            networks: The learner's actor and critic.
            config: Sizes, weights, and how windows begin.

        Raises:
            UserError: An option with an impossible value.
        """
        self._model, self._networks, self._config = model, networks, config.distill
        self._value_norm, self._burn_in = config.behavior.value_norm, config.replay.burn_in
        self.functions = small_functions(config, model.observations, model.actions)
        kept = {HIDDEN: ((config.distill.units,), np.uint16)}
        self.specs: Specs = kept if config.replay.latents else {}
        self._optimizer = make_optimizer(config.distill.opt)

    def init(self, key: Key) -> tuple[Params, Any]:
        """Draws the weights; returns parameters and optimizer state."""
        params = self.functions.init(key)
        return params, self._optimizer.init(params)

    def pack(self, hidden: Array) -> Rows:
        """Returns what the replay keeps of hidden states ``[..., D]``, if anything."""
        return {HIDDEN: to_bits(hidden)} if self.specs else {}

    def begin(self, params: Params, statistics: Statistics, batch: Rows) -> tuple[Rows, Array]:
        """Splits a batch into the rows to learn from and the hidden state before them.

        Args:
            params: Of the small actor, for the burn-in.
            statistics: Of vectors.
            batch: As of ``Context.begin``.

        Returns:
            Rows ``[B, T, ...]`` and hidden states ``[B, D]``.
        """
        if HIDDEN in batch:
            return without_latents(batch), from_bits(batch[HIDDEN])
        empty = self.functions.initial(batch["reward"].shape[0])
        if not self._burn_in:
            return without_latents(batch), empty
        before = {name: rows[:, : self._burn_in] for name, rows in batch.items()}
        hidden = self.functions.observe(params, statistics, empty, before)[:, -1]
        rows = {name: rows[:, self._burn_in :] for name, rows in batch.items()}
        return rows, jax.lax.stop_gradient(hidden)

    def lesson(self, params: Params, normalisers: dict[str, Any], states: Any) -> Lesson:
        """Returns what the learner would do in latent states ``[B, T]``; takes no gradient.

        Args:
            params: Of "world_model", "actor" and "critic".
            normalisers: Of the learner, for values.
            states: As the world model inferred them of the rows.
        """
        feature = self._model.feature(params["world_model"], states)
        value = self._networks.value(params["critic"], feature).mean()
        value = natural(value, normalisers.get("value"), self._value_norm)
        policy = self._networks.policy(params["actor"], feature)
        return jax.lax.stop_gradient(Lesson(policy, value))

    def loss(
        self, params: Params, statistics: Statistics, hidden: Array, rows: Rows, lesson: Lesson
    ) -> tuple[Array, tuple[Array, dict[str, Array]]]:
        """Returns the loss of the small actor on a window, what it remembers, and metrics.

        Args:
            params: Of the small actor.
            statistics: Of vectors.
            hidden: Before the window ``[B, D]``.
            rows: ``[B, T, ...]``.
            lesson: Of the same rows.
        """
        hidden = self.functions.observe(params, statistics, hidden, rows)
        policy = policy_loss(lesson.policy, self.functions.policy(params, hidden))
        value = value_loss(self.functions.value(params, hidden), lesson.value)
        total = self._config.policy_scale * policy + self._config.value_scale * value
        return total, (hidden, {"loss": total, "policy_kl": policy, "value_loss": value})

    def teach(
        self, params: Params, optimizer: Any, statistics: Statistics, batch: Rows, lesson: Lesson
    ) -> Taught:
        """Takes ``ratio`` gradient steps of the small actor.

        Args:
            params: Of the small actor.
            optimizer: Its optimizer's state.
            statistics: Of vectors.
            batch: As of ``Context.begin``.
            lesson: Of its rows.
        """

        def step(now: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], Any]:
            params, optimizer = now
            rows, hidden = self.begin(params, statistics, batch)
            grads, (hidden, metrics) = jax.grad(self.loss, has_aux=True)(
                params, statistics, hidden, rows, lesson
            )
            params, optimizer, stepped = self._optimizer.update(grads, optimizer, params)
            return (params, optimizer), (hidden, metrics | stepped)

        last, found = jax.lax.scan(step, (params, optimizer), None, length=self._config.ratio)
        hidden, metrics = jax.tree.map(lambda x: x[-1], found)
        return Taught(*last, hidden, {f"distill/{name}": x for name, x in metrics.items()})

    def update(
        self, state: TrainState, world: Params, batch: Rows, states: Any
    ) -> tuple[TrainState, dict[str, Array], Rows]:
        """Teaches what the learner now does in the rows of its update.

        Args:
            state: What the update has made.
            world: Parameters of the world model, as the learner's actor looks at the states.
            batch: As of ``Context.begin``.
            states: Latent states ``[B, T]``, as the update inferred them.

        Returns:
            The training state, metrics, and what the replay keeps of hidden states ``[B, T, D]``.
        """
        params = state.params | {"world_model": world}
        own = state.params[SMALL_ACTOR], state.optimizers[SMALL_ACTOR]
        lesson = self.lesson(params, state.normalisers, states)
        taught = self.teach(*own, state.normalisers["vectors"], batch, lesson)
        state = state._replace(
            params=state.params | {SMALL_ACTOR: taught.params},
            optimizers=state.optimizers | {SMALL_ACTOR: taught.optimizer},
        )
        return state, taught.metrics, self.pack(taught.hidden)

    def pull(self, params: Params, statistics: Statistics, batch: Rows) -> Pull | None:
        """Returns the learner's regulariser on a batch; None where its weight is 0.

        Args:
            params: Of the small actor, which takes no gradient.
            statistics: Of vectors.
            batch: As of ``Context.begin``.
        """
        if not self._config.regularizer:
            return None
        rows, hidden = self.begin(params, statistics, batch)
        hidden = self.functions.observe(params, statistics, hidden, rows)
        small = jax.lax.stop_gradient(self.functions.policy(params, hidden))

        def loss(actor: Params, features: Array) -> Array:
            learner = self._networks.policy(actor, jax.lax.stop_gradient(features))
            return self._config.regularizer * policy_loss(learner, small)

        return loss
