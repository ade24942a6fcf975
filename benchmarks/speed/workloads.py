"""What is timed: pieces of work at each shape."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Mapping
from typing import Any, get_args

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed import harness
from benchmarks.speed.harness import Measurement, measure
from benchmarks.speed.shapes import SHAPES, WALKER, Shape
from benchmarks.speed.token_rollouts import separate_rollout, uncached_rollout
from common.errors import UserError, nearest
from common.model.world_model import world_model
from common.nets import coders, conv
from common.nets.precision import Precision
from common.run import onnx
from common.run.config import Settings
from common.tokens import tdm
from common.tokens.steps import pad
from dreamer.config import Config as DreamerConfig
from planet.config import Config as PlanetConfig
from planet.latent_model import latent_rollout
from planet.planner import make_planner
from planet.program import load_program as load_planet
from planet.search import Rollout
from planet.token_model import token_rollout

UNCACHED_CANDIDATES = 4
"""Candidates of the roll-out that remembers nothing, which takes so long."""
SEEDS = 8
"""Agents whose updates are one program."""
CHAIN = 16
"""Updates of one agent that are one program."""
STEPS_OF_A_GRAPH = 50
"""Calls of a graph, which take a millisecond, for each repeat that was asked for."""


def update(shape: Shape, repeats: int) -> Measurement:
    """One update of all that the agent learns on a batch, of 16x50 rows by default."""
    agent = shape.agent()
    state = jax.jit(agent.init)(jax.random.key(0))
    args = state, jax.random.key(1), make_batch(shape, shape.config())
    return measure(agent.update, args, repeats, feed_back=True)


def update_in(precision: str, shape: Shape, repeats: int) -> Measurement:
    """The same in a number format, whatever the machine is."""
    options = {**shape.options, "world_model.precision": precision}
    return update(dataclasses.replace(shape, options=options), repeats)


def several_seeds(shape: Shape, repeats: int) -> Measurement:
    """One update of each of several agents, in one program."""
    agent, keys = shape.agent(), jax.random.split(jax.random.key(0), SEEDS)
    state = jax.jit(jax.vmap(agent.init))(keys)
    batch = _repeat(make_batch(shape, shape.config()), SEEDS)
    return measure(jax.vmap(agent.update), (state, keys, batch), repeats, feed_back=True)


def chained_updates(shape: Shape, repeats: int) -> Measurement:
    """Several updates of one agent, one after the other in one program."""
    agent, keys = shape.agent(), jax.random.split(jax.random.key(1), CHAIN)
    state = jax.jit(agent.init)(jax.random.key(0))

    def chain(state: Any, keys: jax.Array, batches: Any) -> Any:
        return jax.lax.scan(lambda state, now: agent.update(state, *now), state, (keys, batches))

    batches = _repeat(make_batch(shape, shape.config()), CHAIN)
    return measure(chain, (state, keys, batches), repeats, feed_back=True)


def _repeat(batch: dict[str, jax.Array], times: int) -> dict[str, jax.Array]:
    return jax.tree.map(lambda x: jnp.stack([x] * times), batch)


def model(shape: Shape, repeats: int) -> Measurement:
    """Loss and gradient of the world model alone on a batch of 16x50 rows."""
    config = shape.config()
    net = world_model(config.world_model, shape.observations, shape.actions)
    params = jax.jit(net.init)(jax.random.key(0))
    gradient = jax.value_and_grad(net.loss, has_aux=True)
    return measure(gradient, (params, jax.random.key(1), make_batch(shape, config)), repeats)


def policy(shape: Shape, repeats: int, envs: int) -> Measurement:
    """One step of acting: encode, infer the state, sample an action or, with TD-MPC2, plan it."""
    agent = shape.agent()
    params = jax.jit(lambda key: agent.params(agent.init(key)))(jax.random.key(0))
    rows = _rows(shape, (envs,))

    def act(carry: Any, params: Any, key: jax.Array, rows: Mapping[str, Any]) -> tuple[Any, Any]:
        action, carry = agent.act(params, key, carry, rows, "train")
        return carry, action

    args = agent.initial_carry(envs), params, jax.random.key(1), rows
    times = 1 if _plans_to_act(shape) else 20
    return measure(act, args, times * repeats, feed_back=True)


def onnx_policy(shape: Shape, repeats: int) -> Measurement:
    """One step of the policy as an ONNX graph, in one environment and on one core."""
    agent = shape.agent()
    params = jax.jit(lambda key: agent.params(agent.init(key)))(jax.random.key(0))
    step = onnx.make_step(agent.reactive, params, shape.observations, shape.actions, 1)
    inputs = tuple(np.zeros(one.shape, one.dtype) for one in step.inputs)

    def make() -> tuple[Callable[..., Any], int]:
        session = onnx.open_session(onnx.converter()(step).SerializeToString())
        taken = {one.name for one in session.get_inputs()}
        named = zip(step.inputs, inputs, strict=True)
        feed = {one.name: value for one, value in named if one.name in taken}
        return lambda *_: session.run(None, feed), 0

    times = STEPS_OF_A_GRAPH
    return harness.measure_made(make, step.run, inputs, times * repeats, feed_back=False)


def planner(shape: Shape, repeats: int, envs: int) -> Measurement:
    """The search for one action, nothing around it but the reading of a token model's past."""
    config = shape.config()
    if config.model == "tdm":
        return token_planner(shape, repeats, token_rollout, envs=envs)
    model = world_model(config.world_model, shape.observations, shape.actions)
    plan = make_planner(config.planner, shape.actions)
    args = jax.jit(model.init)(jax.random.key(0)), jax.random.key(1), model.initial(envs)
    return measure(functools.partial(plan, latent_rollout(model)), args, repeats)


def token_planner(
    shape: Shape,
    repeats: int,
    make_rollout: Callable[[tdm.TDMFunctions], Rollout],
    *,
    envs: int = 1,
    cached: bool = True,
    candidates: int = 0,
) -> Measurement:
    """Reads the past and searches for one action.

    Args:
        make_rollout: From the model to its roll-out.
        cached: Whether the roll-out begins with what ``start`` returns, or with the rows.
        candidates: Other than the shape's; 0 for these.
    """
    config = shape.config()
    search = dataclasses.replace(config.planner, candidates=candidates or config.planner.candidates)
    sizes = WALKER["state"].shape[0], shape.actions.size
    model, search = tdm.functions(config.tdm, *sizes), make_planner(search, shape.actions)
    rollout = make_rollout(model)
    rows = _rows(shape, (envs, config.tdm.context))
    actions = shape.actions.sample(np.random.default_rng(1), envs * config.tdm.context)
    steps = pad(rows | {"action": actions.reshape(envs, -1, shape.actions.size)}, *sizes)

    def plan(params: Any, key: jax.Array, steps: Any) -> Any:
        return search(rollout, params, key, model.start(params, steps) if cached else steps)

    args = jax.jit(model.init)(jax.random.key(0)), jax.random.key(1), steps
    return measure(plan, args, repeats)


def uncached_planner(shape: Shape, repeats: int) -> Measurement:
    """The same search for few candidates, without any cache."""
    config = shape.config().tdm
    return token_planner(
        shape,
        repeats,
        lambda model: uncached_rollout(model, config),
        cached=False,
        candidates=UNCACHED_CANDIDATES,
    )


def encoder(shape: Shape, repeats: int, implementation: str | None = None) -> Measurement:
    """The encoder on 800 observations, forward and backward."""
    config = shape.config().world_model.encoder
    rows = _rows(shape, (800,))
    net = hk.without_apply_rng(
        hk.transform(lambda x: coders.Encoder(shape.observations, config)(x))
    )
    return _time_net(net, rows, repeats, implementation, input_gradient=False)


def feature_size(shape: Shape) -> int:
    """Returns the entries of a feature of the shape's world model."""
    model = world_model(shape.config().world_model, shape.observations, shape.actions)

    def feature(key: jax.Array) -> jax.Array:
        return model.feature(model.init(key), model.initial(1))

    return jax.eval_shape(feature, jax.random.key(0)).shape[-1]


def decoder(shape: Shape, repeats: int, implementation: str | None = None) -> Measurement:
    """The decoder of 800 features, forward and backward."""
    config = shape.config().world_model
    size = feature_size(shape)
    feature = np.random.default_rng(0).standard_normal((800, size), dtype=np.float32)
    net = hk.without_apply_rng(
        hk.transform(lambda x: coders.Decoder(shape.observations, config.decoder)(x))
    )
    return _time_net(net, feature, repeats, implementation, input_gradient=True)


def _time_net(
    net: hk.Transformed, inputs: Any, repeats: int, implementation: str | None, input_gradient: bool
) -> Measurement:
    """Times the gradient of half the sum of squares of a network's outputs."""

    def loss(params: Any, inputs: Any) -> jax.Array:
        leaves = jax.tree.leaves(net.apply(params, inputs))
        return sum(0.5 * jnp.square(leaf).sum() for leaf in leaves)

    params = jax.jit(net.init)(jax.random.key(0), inputs)
    gradient = jax.value_and_grad(loss, (0, 1) if input_gradient else 0)
    with conv.use_implementation(implementation):
        return measure(gradient, (params, jax.device_put(inputs)), repeats)


PIECES: dict[str, Callable[[Shape, int], Measurement]] = {
    "update": update,
    "update-float32": functools.partial(update_in, "float32"),
    "update-bfloat16": functools.partial(update_in, "bfloat16"),
    "update-bfloat16_products": functools.partial(update_in, "bfloat16_products"),
    "update-seeds": several_seeds,
    "update-chain": chained_updates,
    "model": model,
    "policy-1": lambda shape, repeats: policy(shape, repeats, 1),
    "policy-8": lambda shape, repeats: policy(shape, repeats, 8),
    "onnx": onnx_policy,
    "planner-1": lambda shape, repeats: planner(shape, repeats, 1),
    "planner-8": lambda shape, repeats: planner(shape, repeats, 8),
    "planner-separate": lambda shape, repeats: token_planner(shape, repeats, separate_rollout),
    "planner-uncached": uncached_planner,
    "encoder": encoder,
    "decoder": decoder,
    "encoder-library": lambda shape, repeats: encoder(shape, repeats, "library"),
    "decoder-library": lambda shape, repeats: decoder(shape, repeats, "library"),
}
BY_DEFAULT = ("update", "policy-1", "policy-8", "planner-1", "planner-8")


def names() -> list[str]:
    """All workloads, ``shape/piece``."""
    return [
        f"{name}/{piece}"
        for name, shape in SHAPES.items()
        for piece in PIECES
        if _has(shape, piece)
    ]


def _has(shape: Shape, piece: str) -> bool:
    """Whether a piece exists at a shape.

    Only PlaNet plans; the token-level model and TD-MPC2 have no coders. TD-MPC2's search is
    timed with all that is around it, as a policy, since it needs its policy and its values.
    A graph is made of those that need no search.
    """
    model = shape.options.get("model")
    if piece == "onnx":
        return shape.load_program is not load_planet or _plans_to_act(shape)
    if piece in ("planner-separate", "planner-uncached"):
        return model == "tdm"
    if piece.startswith("planner"):
        return shape.load_program is load_planet and not _plans_to_act(shape)
    if model == "tdmpc2" and piece.removeprefix("update-") in get_args(Precision):
        return True
    return model is None or piece in (*BY_DEFAULT, "update-seeds")


def _plans_to_act(shape: Shape) -> bool:
    """Whether a policy step of the shape is a search, which takes as long as an update."""
    return shape.options.get("model") == "tdmpc2"


def select(patterns: list[str]) -> list[str]:
    """Returns the workloads that shapes, pieces, kinds of pieces or wildcards name.

    Raises:
        UserError: A pattern names none.
    """
    if not patterns:
        return [name for name in names() if name.split("/")[1] in BY_DEFAULT]
    selected: list[str] = []
    for pattern in patterns:
        found = [name for name in names() if _matches(name, pattern)]
        if not found:
            choices = [*names(), *SHAPES, *PIECES, "policy"]
            raise UserError(f"unknown workload {pattern!r}{nearest(pattern, choices)}")
        selected += [name for name in found if name not in selected]
    return selected


def _matches(name: str, pattern: str) -> bool:
    shape, piece = name.split("/")
    if pattern == shape:
        return piece in BY_DEFAULT
    kind = piece.removesuffix("-1").removesuffix("-8")
    return pattern in (piece, kind) or fnmatch.fnmatchcase(name, pattern)


def _rows(shape: Shape, leading: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows: dict[str, np.ndarray] = {}
    for key, spec in shape.observations.items():
        if spec.kind == "image":
            rows[key] = rng.integers(0, 256, (*leading, *spec.shape), dtype=np.uint8)
        else:
            rows[key] = rng.standard_normal((*leading, *spec.shape), dtype=np.float32)
    rows["reward"] = rng.standard_normal(leading, dtype=np.float32)
    rows |= {key: np.zeros(leading, bool) for key in ("is_first", "is_last", "is_terminal")}
    return rows


def make_batch(shape: Shape, config: Settings) -> dict[str, jax.Array]:
    """Draws rows ``[batch, length, ...]`` to learn from, on the device."""
    leading = config.replay.batch, config.replay.length
    actions = shape.actions.sample(np.random.default_rng(1), int(np.prod(leading)))
    batch = _rows(shape, leading) | {"action": actions.reshape(*leading, -1)}
    return jax.device_put(batch)


def frames(piece: str, config: DreamerConfig | PlanetConfig) -> int:
    """Rows of experience that one call of a piece works on; of a planner, imagined ones."""
    if piece == "planner-uncached":
        return config.planner.horizon * UNCACHED_CANDIDATES
    times = {"update-seeds": SEEDS, "update-chain": CHAIN}.get(piece, 1)
    kind, _, envs = piece.replace("-separate", "-1").partition("-")
    if kind == "onnx":
        return 1
    if kind == "policy":
        return int(envs)
    if kind == "planner":
        search = config.planner
        return int(envs) * search.horizon * search.iterations * search.candidates
    return times * config.replay.batch * config.replay.length
