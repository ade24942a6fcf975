"""The world model: encoder, latent dynamics, decoder, heads of reward, discount and cost.

``world_model`` returns a ``WorldModel``, a NamedTuple of pure functions that knows
no agent, no environment and no replay. Parameters are a mapping from component name
("encoder", the dynamics' name, "decoder", "reward", "discount", "cost") to Haiku parameters.
``common.model.losses`` has the loss, ``common.model.components`` the parts.

What is counted and not learned, the statistics of standardised vectors, stands beside the
parameters. A loop of your own carries them along:

    statistics = model.statistics
    for batch in batches:
        statistics = model.track(statistics, batch)
        loss, metrics = model.loss(params, key, batch, statistics=statistics)

Models with another ``vector_transform`` have none, and may leave them out; so may those that
were loaded. A new model that standardises refuses a loss without statistics.

Every function looks at the names, shapes and types of what it is given while it is traced, and
raises a ``UserError`` that says what is wrong and what would be right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp

from common.agent import NoiseSpec
from common.distributions import UnitNormal
from common.dynamics.base import Noise, State
from common.errors import UserError
from common.model.components import Components, make_components
from common.model.config import WorldModelConfig
from common.model.inputs import Inputs, make_inputs, warn_of_short_windows
from common.model.losses import Losses, loss_metrics, make_losses
from common.model.losses import observe as filter_rows
from common.model.vectors import Statistics, are_counted
from common.nets.heads import Prediction
from common.spaces import ActionSpec, ObservationSpec, action_spec, observation_specs
from common.types import Array, Key, Params, Rows


class WorldModel(NamedTuple):
    """Pure functions of a world model; ``params`` is what ``init`` returned.

    Where a function takes ``statistics``, None stands for the model's own. Those that take images
    take ``float_images=True`` too, where images are floats on the scale of the loss, -0.5 to 0.5.
    A model pickles and copies as what it was built from: what ``_replace`` put in is not kept.

    Attributes:
        config: What it was built from.
        observations: The flat observation, entry by entry.
        actions: The flat action vector.
        statistics: Of vectors: those of no batch yet, or of a model that was loaded, those that
            it learned with; empty where nothing is standardised.
        init: ``(key) -> params``.
        loss: ``(params, key, batch, start=None, statistics=None) -> (loss, metrics)``; batch of
            rows ``[B, T, ...]``, start of states ``[B]``. It warns where a transformer looks
            back further than T serves.
        losses: ``(params, noise, batch, start=None, overshooting=None, statistics=None) ->
            Losses``, the same with explicit noise of ``draw_noise(key, (B, T))``, and of
            ``draw_overshooting(key, (B, T))``; None for modes.
        observe: ``(params, key, batch, start=None, statistics=None) -> states [B, T]``,
            posterior samples.
        observe_step: ``(params, noise, state, rows, statistics=None) -> state``; rows
            ``[N, ...]`` with the observation, the previous ``action`` and ``is_first``.
        imagine: ``(params, key, start, actions) -> states [B, H]``; start ``[B]``,
            actions ``[B, H, A]``.
        imagine_step: ``(params, noise, state, action) -> state``.
        initial: ``(batch_size) -> state``, the state before the first row.
        draw_noise: ``(key, shape) -> noise`` for one latent sample per entry of shape.
        draw_overshooting: ``(key, (B, T)) -> noise`` of overshooting, None without it.
        feature: ``(params, state) -> [..., D]``.
        embed: ``(params, rows, statistics=None) -> [N, D]``, what the encoder makes of the
            observations of rows ``[N, ...]``, as ``observe_step`` takes them.
        decode: ``(params, states, statistics=None) -> {key: mean}`` in natural units; images on
            the scale 0 to 1.
        decoder: ``(params, feature) -> {key: distribution}`` on the scale of the loss.
        reward: ``(params, feature) -> distribution`` of the (transformed) reward ``[...]``.
        discount: ``(params, feature) -> distribution`` whose mean ``[...]`` is the predicted
            γ · p(not terminal), or γ.
        cost: ``(params, feature) -> distribution`` of the cost ``[...]``; None without such a head.
        track: ``(statistics, batch) -> statistics`` with a batch more; to be called before
            each ``loss`` that is learned from.
    """

    config: WorldModelConfig
    observations: Mapping[str, ObservationSpec]
    actions: ActionSpec
    statistics: Statistics
    init: Callable[[Key], Params]
    loss: Callable[..., tuple[Array, dict[str, Array]]]
    losses: Callable[..., Losses]
    observe: Callable[..., State]
    observe_step: Callable[..., State]
    imagine: Callable[[Params, Key, State, Array], State]
    imagine_step: Callable[[Params, Noise, State, Array], State]
    initial: Callable[[int], State]
    draw_noise: Callable[[Key, tuple[int, ...]], Array]
    draw_overshooting: Callable[[Key, tuple[int, int]], Noise]
    feature: Callable[[Params, State], Array]
    embed: Callable[..., Array]
    decode: Callable[..., dict[str, Array]]
    decoder: Callable[[Params, Array], dict[str, UnitNormal]]
    reward: Callable[[Params, Array], Prediction]
    discount: Callable[[Params, Array], Prediction]
    cost: Callable[[Params, Array], Prediction] | None
    track: Callable[[Statistics, Rows], Statistics]

    @property
    def latent_noise(self) -> NoiseSpec:
        """The random numbers of one latent."""
        gaussian = self.config.dynamics == "rssm" and self.config.rssm.latent == "gaussian"
        drawn = jax.eval_shape(lambda key: self.draw_noise(key, ()), jax.random.key(0))
        return NoiseSpec("normal" if gaussian else "uniform", drawn.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        statistics = jax.device_get(self.statistics) if are_counted(self.statistics) else None
        return world_model, (self.config, self.observations, self.actions, statistics)


def world_model(
    config: WorldModelConfig,
    observation_space: gymnasium.Space | Mapping[str, ObservationSpec],
    action_space: gymnasium.Space | ActionSpec,
    statistics: Statistics | None = None,
) -> WorldModel:
    """Builds a world model for an observation and an action space.

    Args:
        config: Sizes and losses.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary or Dict of those; or
            the flat specs of ``common.spaces``.
        action_space: Box, Discrete, MultiDiscrete or Dict of those; or its flat spec.
        statistics: Of vectors, of a model that has learned; None for those of no batch.

    Raises:
        UserError: An unsupported space, or an option with an unknown value.
    """
    if isinstance(observation_space, gymnasium.Space):
        observation_space = observation_specs(observation_space)
    if isinstance(action_space, gymnasium.Space):
        action_space = action_spec(action_space)
    specs = dict(observation_space)
    parts = make_components(config, specs, action_space)
    own = parts.vectors.init() if statistics is None else statistics
    model = _Assembled(
        parts, make_losses(config, parts), make_inputs(parts, specs, action_space), specs, own,
        statistics is not None or not own, config,
    )  # fmt: skip
    discount = model.checked(parts.discount) if config.predict_discount else parts.discount
    cost = model.checked(parts.cost) if parts.cost else None
    return WorldModel(
        config, specs, action_space, own,
        init=parts.init, loss=model.loss, losses=model.losses, observe=model.observe,
        observe_step=model.observe_step, imagine=model.imagine, imagine_step=model.imagine_step,
        initial=parts.initial, draw_noise=parts.draw_noise,
        draw_overshooting=model.draw_overshooting, feature=model.feature, embed=model.embed,
        decode=model.decode, decoder=model.checked(parts.decode),
        reward=model.checked(parts.reward), discount=discount, cost=cost, track=model.track,
    )  # fmt: skip


class _Assembled:
    """The functions of a ``WorldModel``, which look at what they are given; see there."""

    def __init__(
        self,
        parts: Components,
        compute_losses: Callable[..., Losses],
        inputs: Inputs,
        specs: Mapping[str, ObservationSpec],
        statistics: Statistics,
        counted: bool,
        config: WorldModelConfig,
    ):
        self._counted, self._config = counted, config
        self._parts, self._losses, self._specs = parts, compute_losses, specs
        self._statistics, self._inputs = statistics, inputs

    def draw_overshooting(self, key: Key, shape: tuple[int, int]) -> Noise:
        distance = self._config.kl.overshooting
        return self._parts.draw_noise(key, (distance + 1, *shape)) if distance else None

    def losses(
        self,
        params: Params,
        noise: Noise,
        batch: Rows,
        start: State | None = None,
        overshooting: Noise = None,
        statistics: Statistics | None = None,
        float_images: bool = False,
    ) -> Losses:
        if statistics is None and not self._counted:
            raise UserError(
                "vector_transform standard learns with statistics: begin with model.statistics, "
                "call model.track before each loss, and pass them as statistics=..."
            )
        shape = self._inputs.batch(batch, learned=True, float_images=float_images)
        self._inputs.noises(noise, shape)
        self._check_start(start, shape)
        warn_of_short_windows(self._config, shape[1])
        statistics = self._of_vectors(statistics)
        return self._losses(params, noise, batch, start, overshooting, statistics)

    def loss(
        self,
        params: Params,
        key: Key,
        batch: Rows,
        start: State | None = None,
        statistics: Statistics | None = None,
        float_images: bool = False,
    ) -> tuple[Array, dict[str, Array]]:
        shape = self._inputs.batch(batch, learned=True, float_images=float_images)
        ahead = self.draw_overshooting(jax.random.fold_in(key, 1), shape)
        noise = self._parts.draw_noise(key, shape)
        out = self.losses(params, noise, batch, start, ahead, statistics, float_images)
        return out.total, loss_metrics(out)

    def observe(
        self,
        params: Params,
        key: Key,
        batch: Rows,
        start: State | None = None,
        statistics: Statistics | None = None,
        float_images: bool = False,
    ) -> State:
        shape = self._inputs.batch(batch, learned=False, float_images=float_images)
        self._check_start(start, shape)
        batch = self._parts.vectors.forward(self._of_vectors(statistics), batch)
        noise = self._parts.draw_noise(key, shape)
        return filter_rows(self._parts, params, noise, batch, start)[0].states

    def observe_step(
        self,
        params: Params,
        noise: Noise,
        state: State,
        rows: Rows,
        statistics: Statistics | None = None,
        float_images: bool = False,
    ) -> State:
        parts, shape = self._parts, self._inputs.step(rows, float_images)
        self._inputs.noises(noise, shape)
        self._inputs.states("state", state, shape)
        rows = parts.vectors.forward(self._of_vectors(statistics), rows)
        seen = parts.encode(params, rows), rows["action"], rows["is_first"]
        return parts.dynamics.observe_step(params[parts.name], state, *seen, noise=noise)

    def imagine_step(self, params: Params, noise: Noise, state: State, action: Array) -> State:
        parts, shape = self._parts, self._inputs.actions("action", ("N",), action)
        self._inputs.noises(noise, shape)
        self._inputs.states("state", state, shape)
        return parts.dynamics.imagine_step(params[parts.name], state, action, noise=noise)

    def imagine(self, params: Params, key: Key, start: State, actions: Array) -> State:
        batch, steps = self._inputs.actions("actions", ("B", "H"), actions)
        self._inputs.states("start", start, (batch,))
        noise = self._parts.draw_noise(key, (steps, batch))
        return _follow(functools.partial(self.imagine_step, params), start, actions, noise)

    def feature(self, params: Params, state: State) -> Array:
        self._inputs.states("state", state)
        return self._parts.feature(params, state)

    def embed(
        self,
        params: Params,
        rows: Rows,
        statistics: Statistics | None = None,
        float_images: bool = False,
    ) -> Array:
        self._inputs.step(rows, float_images)
        rows = self._parts.vectors.forward(self._of_vectors(statistics), rows)
        return self._parts.encode(params, rows)

    def decode(
        self, params: Params, states: State, statistics: Statistics | None = None
    ) -> dict[str, Array]:
        heads = self._parts.decode(params, self.feature(params, states))
        means = {key: head.mean() for key, head in heads.items()}
        means = _unit_images(self._specs, means)
        return self._parts.vectors.backward(self._of_vectors(statistics), means)

    def track(self, statistics: Statistics, batch: Rows) -> Statistics:
        statistics = self._of_vectors(statistics)
        self._inputs.vectors(batch, statistics)
        return self._parts.vectors.track(statistics, batch)

    def checked(self, head: Callable[[Params, Array], Any]) -> Callable[[Params, Array], Any]:
        """Returns a head that looks at the feature."""

        def apply(params: Params, feature: Array) -> Any:
            self._inputs.features(feature)
            return head(params, feature)

        return apply

    def _check_start(self, start: State | None, shape: tuple[int, int]) -> None:
        if start is not None:
            self._inputs.states("start", start, shape[:1])

    def _of_vectors(self, statistics: Statistics | None) -> Statistics:
        if statistics is None:
            return self._statistics
        if statistics.keys() != self._statistics.keys():
            found, wanted = (", ".join(x) or "nothing" for x in (statistics, self._statistics))
            raise UserError(f"there are statistics of {found}; the model standardises {wanted}")
        return statistics


def _unit_images(specs: Mapping[str, ObservationSpec], means: Rows) -> Rows:
    """Images on the scale 0 to 1; all else as it is."""
    return {key: x + 0.5 if specs[key].kind == "image" else x for key, x in means.items()}


def _follow(
    imagine_step: Callable[[Noise, State, Array], State],
    start: State,
    actions: Array,
    noise: Array,
) -> State:
    """Folds ``imagine_step`` over actions ``[B, H, A]`` and noise ``[H, B, ...]``."""

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, State]:
        state = imagine_step(now[1], state, now[0])
        return state, state

    _, states = jax.lax.scan(step, start, (jnp.swapaxes(actions, 0, 1), noise))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), states)
