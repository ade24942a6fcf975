"""Dreamer: a world model, and an actor and a critic that learn in its imagination.

One update, as in DreamerV2 (arXiv:2010.02193):

1. The world model takes a gradient step on a batch of replayed sequences.
2. From every posterior state of the batch, as the old weights inferred it, the actor
   acts for H steps in the world model with the new weights.
3. Actor and critic take a gradient step on the imagined trajectories.
4. Every ``slow_target_update`` updates, the first included, the slow critic is copied.

Each optimizer sees the gradient with respect to its own parameters only. DreamerV3 makes one
step of everything instead; see ``dreamer.joint``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.agent import EXPLORER, NORMALISERS, SMALL_ACTOR, Agent, Latents, OpenLoop
from common.distributions import action_noise_size, uniform_noise
from common.dynamics.base import State
from common.learning.constraint import MULTIPLIER
from common.learning.optimizers import make_optimizer
from common.model.context import Context
from common.model.imagine import open_loop
from common.model.learn import learn_model
from common.model.losses import Losses
from common.model.world_model import WorldModel, world_model
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Params, Rows
from dreamer import behavior as imagination
from dreamer.acting import Acting
from dreamer.behavior import Behavior, Clone, Imagined
from dreamer.config import Config
from dreamer.conservative import ENSEMBLE, Conservative
from dreamer.distillation.acting import SmallActing
from dreamer.distillation.distiller import Distiller, Pull
from dreamer.exploration.explorer import Explorer, ExplorerNoise
from dreamer.exploration.remembering import make_remembering
from dreamer.joint import joint_loss, last_rows
from dreamer.learn import TrainState, learn_behavior, slow_copy
from dreamer.networks import Networks, make_networks
from dreamer.planned import plan_instead

MODEL = "world_model"
JOINT = "joint"
ACTING = (MODEL, "actor", "critic")
"""Parameters that acting, reporting and valuing need."""
COUNTED = ("vectors", "value", MULTIPLIER)
"""What they need of what is counted, where it is."""


class Noise(NamedTuple):
    """All random numbers of one update.

    Attributes:
        posterior: For the latents of the batch ``[B, T, ...]``.
        imagination: For the imagination from every row, N = B T.
        overshooting: For latent overshooting; None without it.
        explorer: For the explorer; None without one.
    """

    posterior: Array
    imagination: imagination.Noise
    overshooting: Array | None = None
    explorer: ExplorerNoise | None = None


class Dreamer:
    """The parts of Dreamer bound to one configuration; ``make_agent`` shows them as an Agent.

    Attributes:
        model: The world model.
        networks: Actor and critic.
        behavior: Their losses in imagination.
        acting: How they act.
        conservative: What keeps them where the model knows what it says; None for nothing.
        explorer: Who collects in their place; None for nobody.
        distiller: Who teaches a small actor, which acts in their place; None for nobody.
        context: How replayed windows begin.
        joint_loss: Of everything at once; see ``dreamer.joint``.
        optimizers: Of "world_model", "actor" and "critic", or of "joint", which is all of them.
    """

    def __init__(self, model: WorldModel, networks: Networks, config: Config):
        """Keeps the parts and builds the optimizers.

        Args:
            model: The world model.
            networks: Actor and critic.
            config: Behaviour and optimizers.

        Raises:
            UserError: A schedule or an optimizer is unknown.
        """
        self.model, self.networks, self._config = model, networks, config.behavior
        self.conservative = Conservative(model, config) if config.behavior.penalty else None
        reward = self.conservative.reward if self.conservative else None
        self.behavior = Behavior(model, networks, config.behavior, reward, config.constraint)
        self.explorer, remembering = None, None
        if config.exploration.method != "none":
            self.explorer = Explorer(model, networks, config)
            curiosity = config.exploration.curiosity
            remembering = make_remembering(model, self.explorer, curiosity)
        evaluate = config.actor.evaluate
        self.acting = Acting(model, networks, config.behavior, evaluate, remembering)
        self.distiller = None
        if config.distill.kind != "none":
            self.distiller = Distiller(model, networks, config)
            self.acting = SmallActing(self.distiller, model, self.acting, config)
        self.context = Context(model, config.replay.latents, config.replay.burn_in)
        self.joint_loss = joint_loss(model, self.behavior, config.behavior)
        self.optimizers = (
            {JOINT: make_optimizer(config.model_opt)}
            if config.joint
            else {
                MODEL: make_optimizer(config.model_opt),
                "actor": make_optimizer(config.actor_opt),
                "critic": make_optimizer(config.critic_opt),
            }
        )

    def init(self, key: Key) -> TrainState:
        """Draws all weights."""
        keys = jax.random.split(key)
        params = {MODEL: self.model.init(keys[0])}
        feature = self.model.feature(params[MODEL], self.model.initial(1))
        params |= self.networks.init(keys[1], feature)
        if self._config.slow_initial_copy:
            params["slow_critic"] = jax.tree.map(jnp.copy, params["critic"])
        states = {
            name: opt.init(_trained(params) if name == JOINT else params[name])
            for name, opt in self.optimizers.items()
        }
        normalisers = {"vectors": self.model.statistics} | self.behavior.initial_normalisers()
        if self.explorer is not None:
            own = self.explorer.init(jax.random.fold_in(key, 2), feature)
            params[EXPLORER], states[EXPLORER], normalisers[EXPLORER] = own
        if self.distiller is not None:
            own = self.distiller.init(jax.random.fold_in(key, 3))
            params[SMALL_ACTOR], states[SMALL_ACTOR] = own
        if self.conservative is not None:
            own = self.conservative.init(jax.random.fold_in(key, 4))
            params[ENSEMBLE], states[ENSEMBLE] = own
        return TrainState(params, states, normalisers, jnp.zeros((), jnp.int32))

    def acting_params(self, state: TrainState) -> dict[str, Any]:
        """Returns what acting, reporting and valuing need of a state."""
        params = {name: state.params[name] for name in ACTING}
        counted = {x: state.normalisers[x] for x in COUNTED if x in state.normalisers}
        if self.distiller is not None:
            params[SMALL_ACTOR] = state.params[SMALL_ACTOR]
        if self.explorer is not None:
            params[EXPLORER] = self.explorer.acting_params(state.params[EXPLORER])
        return params | {NORMALISERS: counted}

    def draw_noise(self, key: Key, shape: tuple[int, int]) -> Noise:
        """Draws the random numbers of one update on a batch of shape ``(B, T)``."""
        keys = jax.random.split(key, 3)
        rows = min(self._config.starts or shape[1], shape[1])
        steps = self._config.horizon, shape[0] * rows
        return Noise(
            self.model.draw_noise(keys[0], shape),
            imagination.Noise(
                self.model.draw_noise(keys[1], steps),
                uniform_noise(keys[2], (*steps, action_noise_size(self.model.actions))),
            ),
            self.model.draw_overshooting(jax.random.fold_in(key, 3), shape),
            self.explorer.draw_noise(jax.random.fold_in(key, 5), shape, steps[1])
            if self.explorer
            else None,
        )

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Makes one update; see the module's docstring."""
        return self.update_latents(state, key, batch)[:2]

    def update_latents(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array], Rows]:
        """Makes one update; see ``common.agent.Latents``."""
        statistics, burn_in = state.normalisers["vectors"], jax.random.fold_in(key, 4)
        rows, start = self.context.begin(state.params[MODEL], statistics, burn_in, batch)
        noise, pull = self.draw_noise(key, rows["reward"].shape), None
        if self.distiller is not None:
            pull = self.distiller.pull(state.params[SMALL_ACTOR], statistics, batch)
        before = state
        state, metrics, (losses, _) = self.update_with_noise(state, noise, rows, start, pull)
        states, world = losses.observed.states, self._imagined_with(before, state)
        kept = self.context.pack(states) if self.context.specs else {}
        if self.distiller is not None:
            state, more, hidden = self.distiller.update(state, world, batch, states)
            metrics, kept = metrics | more, kept | hidden
        return state, metrics, kept

    def update_with_noise(
        self,
        state: TrainState,
        noise: Noise,
        batch: Rows,
        start: State | None = None,
        pull: Pull | None = None,
    ) -> tuple[TrainState, dict[str, Array], tuple[Losses, Imagined]]:
        """Makes one update with given random numbers, from a given latent state ``[B]``.

        ``pull`` is added to the actor's loss; None for nothing.
        """
        before = state
        if JOINT in self.optimizers:
            results = self.update_jointly(state, noise, batch, start, pull)
            state, metrics, (losses, imagined) = results
        else:
            state, metrics, losses = self.update_model(state, noise, batch, start)
            starts = self._starts(losses, batch)
            seen = self.model.feature(state.params[MODEL], losses.observed.states)
            near = None if pull is None else lambda actor: pull(actor, seen)
            clone = self.behavior.clone(seen, batch)
            state, imagined = self.update_behavior(state, noise.imagination, *starts, near, clone)
            metrics = metrics | imagined.metrics
        if self.conservative is not None:
            world = self._imagined_with(before, state)
            state, more = self.conservative.update(state, world, batch, losses)
            metrics = metrics | more
        state, more = self.explore(before, state, noise, batch, losses)
        return state, metrics | more, (losses, imagined)

    def update_jointly(
        self,
        state: TrainState,
        noise: Noise,
        batch: Rows,
        start: State | None = None,
        pull: Pull | None = None,
    ) -> tuple[TrainState, dict[str, Array], tuple[Losses, Imagined]]:
        """Makes one update of everything at once; see ``dreamer.joint``."""
        statistics = self.model.track(state.normalisers["vectors"], batch)
        normalisers = state.normalisers | {"vectors": statistics}
        trained = _trained(state.params)
        grads, found = jax.grad(self.joint_loss, has_aux=True)(
            trained, state.params, normalisers, state.updates,
            (noise.posterior, noise.overshooting), noise.imagination, batch, start, pull,
        )  # fmt: skip
        trained, optimizer, metrics = self.optimizers[JOINT].update(
            grads, state.optimizers[JOINT], trained
        )
        slow = state.params["slow_critic"]
        slow = slow_copy(slow, trained["critic"], state.updates, self._config)
        state = TrainState(
            params=state.params | trained | {"slow_critic": slow},
            optimizers=state.optimizers | {JOINT: optimizer},
            normalisers=normalisers | found.imagined.normalisers,
            updates=state.updates + 1,
        )
        metrics = {f"joint/{key}": value for key, value in metrics.items()}
        return state, found.metrics | metrics, (found.losses, found.imagined)

    def update_model(
        self, state: TrainState, noise: Noise, batch: Rows, start: State | None
    ) -> tuple[TrainState, dict[str, Array], Losses]:
        """Takes one gradient step of the world model."""
        step = learn_model(
            self.model, self.optimizers[MODEL], state.params[MODEL], state.optimizers[MODEL],
            state.normalisers["vectors"], noise.posterior, batch, start, noise.overshooting,
        )  # fmt: skip
        state = state._replace(
            params=state.params | {MODEL: step.params},
            optimizers=state.optimizers | {MODEL: step.optimizer},
            normalisers=state.normalisers | {"vectors": step.statistics},
        )
        return state, step.metrics, step.losses

    def update_behavior(
        self,
        state: TrainState,
        noise: imagination.Noise,
        start: State,
        is_terminal: Array,
        pull: Callable[[Params], Array] | None = None,
        clone: Clone | None = None,
    ) -> tuple[TrainState, Imagined]:
        """Takes one gradient step of actor and critic; see ``learn_behavior``."""
        return learn_behavior(
            self.behavior, self.optimizers, self._config, state, noise, start, is_terminal, pull,
            clone,
        )  # fmt: skip

    def explore(
        self,
        before: TrainState,
        after: TrainState,
        noise: Noise,
        batch: Rows,
        losses: Losses,
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes one gradient step of the explorer, where there is one.

        Args:
            before: The training state before the update.
            after: What the update has made of it so far.
            noise: Random numbers.
            batch: Replayed rows.
            losses: Of the world model on them.
        """
        if self.explorer is None:
            return after, {}
        own = TrainState(*(part[EXPLORER] for part in before[:3]), before.updates)
        world = self._imagined_with(before, after)
        own, metrics = self.explorer.update(
            own, world, noise.explorer, batch, losses, *self._starts(losses, batch)
        )
        parts = (whole | {EXPLORER: part} for whole, part in zip(after[:3], own[:3], strict=True))
        return TrainState(*parts, after.updates), metrics

    def _imagined_with(self, before: TrainState, after: TrainState) -> Params:
        """The world model's parameters in whose imagination an update learned to act.

        They are the new ones, but for a joint update.
        """
        return (before if JOINT in self.optimizers else after).params[MODEL]

    def _starts(self, losses: Losses, batch: Rows) -> tuple[State, Array]:
        """Returns the states that imagination starts from, and whether they are terminal ``[N]``"""
        flatten = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        rows = last_rows((losses.observed.states, batch["is_terminal"]), self._config.starts)
        return jax.tree.map(lambda x: jax.lax.stop_gradient(flatten(x)), rows)

    def latents(self) -> Latents | None:
        """Says how latent states and notes are kept in the replay, where there are any."""
        acting, context = self.acting, self.context

        def pack(carry: Any) -> Rows:
            states = context.pack(acting.inferred(carry)) if context.specs else {}
            return states | acting.keep(carry)

        specs = context.specs | acting.specs
        return Latents(specs, pack, self.update_latents) if specs else None

    def report(self, params: Params, key: Key, batch: Rows) -> dict[str, OpenLoop]:
        """Predicts images from actions alone; see ``common.model.imagine.open_loop``."""
        statistics = params.get(NORMALISERS, {}).get("vectors")
        return open_loop(self.model, params[MODEL], key, batch, statistics=statistics)


def _trained(params: Mapping[str, Params]) -> dict[str, Params]:
    """The parameters that a joint step changes: all but the slow critic's."""
    return {name: params[name] for name in ACTING}


def make_agent(
    config: Config, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Agent:
    """Builds Dreamer for flat observation and action specs.

    Raises:
        UserError: An option with an impossible value.
    """
    model = world_model(config.world_model, observations, actions)
    precision = config.world_model.precision
    networks = make_networks(config.actor, config.critic, actions, precision)
    dreamer = Dreamer(model, networks, config)
    agent = Agent(
        init=dreamer.init,
        params=dreamer.acting_params,
        initial_carry=dreamer.acting.initial_carry,
        act=dreamer.acting.act,
        update=dreamer.update,
        report=dreamer.report,
        value=dreamer.acting.value,
        policy=dreamer.acting.policy,
        value_includes_reward=config.behavior.include_reward,
        latents=dreamer.latents(),
        reactive=dreamer.acting.reactive(),
        explores_until=config.exploration.until,
    )
    return plan_instead(config, agent, observations, actions) if config.planner.acts else agent
