"""Networks of TD-MPC2 (arXiv:2310.16828, section 3.1 and appendix H) as pure functions.

A hidden layer is affine map, layer norm, Mish; that of the first layer of a value has dropout
before the norm. Latent states leave the last layer norm through SimNorm. Letters: L latent
entries, A action entries, Q members of the ensemble.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.distributions import SymlogTwoHot
from common.errors import UserError
from common.nets.coders import normalize_image
from common.nets.conv import conv2d
from common.nets.layers import Dense, LayerNorm, layer_norm, mish, sim_norm
from common.nets.precision import Precision, wrap
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Params, Rows
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.policy import Draw, draw_action, draw_parts
from planet.tdmpc2.tasks import Tasks, check_tasks, draw_embeddings, limited, write_back

EPSILON = 1e-5
"""Of layer norms; PyTorch's default."""
NORMAL = hk.initializers.RandomNormal(0.02)
"""Of kernels. The public code cuts it at +-2, a hundred standard deviations."""
KERNELS, STRIDES = (7, 5, 3, 3), (2, 2, 2, 1)
"""Of the convolutions."""


class Networks(NamedTuple):
    """All networks; no Haiku is left in them.

    All but ``init`` and ``draw_shift`` take the parameters by component and pick theirs:
    "encoder", "dynamics", "reward", "termination", "policy" and "q", whose arrays have the
    members in front. Leading axes ``[...]`` are free. Of several tasks, "task" holds the
    embeddings, and all states z carry their task, see ``tasks``.

    Attributes:
        init: ``(key) -> params``. All rewards and values are 0 at first.
        draw_shift: ``(key, shape) -> shifts [*shape, 2]`` of images; None for vectors.
        encode: ``(params, rows, shift) -> z [..., L]``; without a shift images stay in place.
        dynamics: ``(params, z, action [..., A]) -> z`` of the next step.
        reward: ``(params, z, action) -> distribution [...]`` of the reward of that step.
        termination: ``(params, z) -> logit [...]`` of z having ended its episode; None
            where that is not learned.
        policy: ``(params, z, noise [..., A]) -> draw`` of an action with standard normals.
        q: ``(params, z, action, keep) -> distribution [Q, ...]`` by all members, under dropout
            where the units to keep ``[Q, ..., units]`` are given.
        q_two: ``(params, z, action, pair [2], keep) -> values [2, ...]`` by two members; keep is
            theirs, ``[2, ..., units]``.
        task: ``(z) -> [..., tasks]``, the task of a state, one-hot; None for one task.
        mask: ``(z) -> [..., A]``, 1 for entries of the action that it uses; None for one task.
        limit: ``(params, rows) -> params`` whose embeddings of the rows' tasks are at most 1 long;
            those of one task as they are.
    """

    init: Callable[[Key], Params]
    draw_shift: Callable[[Key, Sequence[int]], Array | None]
    encode: Callable[..., Array]
    dynamics: Callable[[Params, Array, Array], Array]
    reward: Callable[[Params, Array, Array], SymlogTwoHot]
    termination: Callable[[Params, Array], Array] | None
    policy: Callable[[Params, Array, Array], Draw]
    q: Callable[..., SymlogTwoHot]
    q_two: Callable[..., Array]
    task: Callable[[Array], Array] | None
    mask: Callable[[Array], Array] | None
    limit: Callable[[Params, Rows], Params]


def make_networks(
    config: TDMPC2Config,
    observations: Mapping[str, ObservationSpec],
    actions: ActionSpec,
    tasks: Tasks | None = None,
    precision: Precision = "float32",
) -> Networks:
    """Builds the networks.

    Args:
        config: Sizes.
        observations: The flat observation: vectors only or images only.
        actions: The flat action vector.
        tasks: What is known of several tasks; vectors only.
        precision: Number format of what networks compute; the published one is float32.

    Raises:
        UserError: There are observations that the encoder cannot read.
    """
    read = dict(observations)
    if tasks:
        read.pop(check_tasks(tasks, observations))
    parts = _Parts(config, read, actions, tasks, precision)
    return Networks(
        init=parts.init,
        draw_shift=parts.draw_shift,
        encode=parts.encode,
        dynamics=parts.dynamics,
        reward=parts.reward,
        termination=parts.termination if config.terminations else None,
        policy=parts.policy,
        q=parts.q,
        q_two=parts.q_two,
        task=parts.task if tasks else None,
        mask=parts.mask if tasks else None,
        limit=parts.limit,
    )


class _Parts:
    """The functions of ``Networks``, where they are described."""

    def __init__(
        self,
        config: TDMPC2Config,
        observations: Mapping[str, ObservationSpec],
        actions: ActionSpec,
        tasks: Tasks | None,
        precision: Precision,
    ):
        self._config, self._specs, self._tasks = config, observations, tasks
        self._spec, self._actions = actions, actions.size
        formatted = lambda net: net._replace(apply=wrap(net.apply, precision))  # noqa: E731
        encoder, self.draw_shift = _encoder(config, observations)
        self._encoder = formatted(encoder)
        self._stacks = {name: formatted(net) for name, net in _stacks(config, actions.size).items()}

    def init(self, key: Key) -> Params:
        config, keys, stacks = self._config, jax.random.split(key, 7), self._stacks
        rows = {name: jnp.zeros(spec.shape, spec.dtype) for name, spec in self._specs.items()}
        embedding = jnp.zeros(config.task_size if self._tasks else 0)
        z = _join(jnp.zeros(config.latent), embedding)
        both, members = _join(z, jnp.zeros(self._actions)), jax.random.split(keys[4], config.num_q)
        params = {
            "encoder": self._encoder.init(keys[0], rows, None, embedding),
            "dynamics": stacks["dynamics"].init(keys[1], both),
            "reward": stacks["reward"].init(keys[2], both),
            "policy": stacks["policy"].init(keys[3], z),
            "q": jax.vmap(lambda k: stacks["q"].init(k, (both,), None))(members),
        }
        if config.terminations:
            params["termination"] = stacks["termination"].init(keys[5], z)
        if self._tasks:
            table = draw_embeddings(keys[6], len(self._tasks.actions), config.task_size)
            params["task"] = {"task": {"embedding": table}}
        return params

    def encode(self, params: Params, rows: Rows, shift: Array | None = None) -> Array:
        if not self._tasks:
            return self._encoder.apply(params["encoder"], rows, shift)
        task = rows[self._tasks.key]
        embedding = self._embedding(params, task)
        return _join(self._encoder.apply(params["encoder"], rows, shift, embedding), task)

    def dynamics(self, params: Params, z: Array, action: Array) -> Array:
        return _join(self._apply("dynamics", params, z, action), self.task(z))

    def reward(self, params: Params, z: Array, action: Array) -> SymlogTwoHot:
        return self._decoded(self._apply("reward", params, z, action))

    def termination(self, params: Params, z: Array) -> Array:
        return self._apply("termination", params, z)[..., 0]

    def policy(self, params: Params, z: Array, noise: Array) -> Draw:
        config, raw = self._config, self._apply("policy", params, z)
        limits, squashed = (config.min_log_std, config.max_log_std), config.squashed_entropy
        if self._tasks:  # Their actions are continuous.
            return draw_action(raw, noise, *limits, self.mask(z), squashed)
        return draw_parts(raw, noise, *limits, self._spec, squashed)

    def q(self, params: Params, z: Array, action: Array, keep: Array | None = None) -> SymlogTwoHot:
        return self._values(params["q"], (_join(self._seen(params, z), action),), keep)

    def q_two(
        self, params: Params, z: Array, action: Array, pair: Array, keep: Array | None = None
    ) -> Array:
        two = jax.tree.map(lambda x: x[pair], params["q"])
        # Apart, since the policy's loss asks for the gradient of the action alone.
        return self._values(two, (self._seen(params, z), action), keep).mean()

    def _values(self, q: Params, parts: tuple[Array, ...], keep: Array | None) -> SymlogTwoHot:
        kept = None if keep is None else keep / (1 - self._config.dropout)
        each = jax.vmap(self._stacks["q"].apply, (0, None, None if keep is None else 0))
        return self._decoded(each(q, parts, kept))

    def task(self, z: Array) -> Array:
        return z[..., self._config.latent :]

    def mask(self, z: Array) -> Array:
        return self._tasks.mask(self.task(z), self._actions)

    def limit(self, params: Params, rows: Rows) -> Params:
        if not self._tasks:
            return params
        table = write_back(params["task"]["task"]["embedding"], rows[self._tasks.key])
        return {**params, "task": {"task": {"embedding": table}}}

    def _embedding(self, params: Params, task: Array) -> Array:
        return task @ limited(params["task"]["task"]["embedding"])

    def _seen(self, params: Params, z: Array) -> Array:
        """What networks read of a state: of several tasks, the embedding in place of the task."""
        if not self._tasks:
            return z
        return _join(z[..., : self._config.latent], self._embedding(params, self.task(z)))

    def _apply(self, name: str, params: Params, z: Array, action: Array | None = None) -> Array:
        x = self._seen(params, z)
        return self._stacks[name].apply(params[name], x if action is None else _join(x, action))

    def _decoded(self, logits: Array) -> SymlogTwoHot:
        return SymlogTwoHot(logits, self._config.low, self._config.high)


def _stacks(config: TDMPC2Config, actions: int) -> dict[str, hk.Transformed]:
    """Returns the dense networks behind the encoder; a "q" is one member."""
    hidden, group, bins = (config.units,) * 2, config.simnorm, config.bins
    stack = lambda *args, **more: _pure(lambda x: _Stack(*args, **more)(x))  # noqa: E731
    return {
        "dynamics": stack("dynamics", hidden, config.latent, group=group),
        "reward": stack("reward", hidden, bins, zero=True),
        "termination": stack("termination", hidden, 1),
        "policy": stack("policy", hidden, 2 * actions),
        "q": _pure(lambda parts, keep: _Stack("q", hidden, bins, zero=True)(*parts, factor=keep)),
    }


def draw_pair(key: Key, members: int) -> Array:
    """Draws two different members of an ensemble, ``[2]``."""
    return jax.random.permutation(key, members)[:2]


def shift_images(images: Array, shift: Array, most: int) -> Array:
    """Moves images ``[N, height, width, C]``; the pixels at their edges fill what becomes free.

    It crops images padded by ``most`` pixels, each beginning at its column and row.

    Args:
        images: Of any type.
        shift: Column and row ``[N, 2]``, integers from 0 to ``2 most``; ``most`` itself moves
            nothing.
        most: Pixels on each side.
    """

    def move(image: Array, at: Array) -> Array:
        height, width = image.shape[:2]
        rows = jnp.clip(jnp.arange(height) + at[1] - most, 0, height - 1)
        columns = jnp.clip(jnp.arange(width) + at[0] - most, 0, width - 1)
        return image[rows][:, columns]

    return jax.vmap(move)(images, shift)


def _encoder(
    config: TDMPC2Config, specs: Mapping[str, ObservationSpec]
) -> tuple[hk.Transformed, Callable[[Key, Sequence[int]], Array | None]]:
    images = sorted(key for key, spec in specs.items() if spec.kind == "image")
    vectors = sorted(specs.keys() - set(images))
    if images and vectors:
        raise UserError(
            f"TD-MPC2 reads images or vectors, not both; this task has {', '.join(images)} "
            f"and {', '.join(vectors)}"
        )
    if not images:
        hidden = (config.encoder_units,) * max(config.encoder_layers - 1, 1)
        stack = lambda x: _Stack("encoder", hidden, config.latent, group=config.simnorm)(x)  # noqa: E731

        def read_vectors(rows: Rows, shift: Array | None, *embedding: Array) -> Array:
            del shift
            return stack(jnp.concatenate([*(rows[key] for key in vectors), *embedding], -1))

        return _pure(read_vectors), lambda key, shape: None
    _check_images([specs[key] for key in images], config)

    def read(rows: Rows, shift: Array | None, *embedding: Array) -> Array:
        del embedding
        x = jnp.concatenate([rows[key] for key in images], -1)
        leading = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        if shift is not None:
            x = shift_images(x, shift.reshape(-1, 2), config.shift)
        z = sim_norm(_Convolutions(config.channels)(normalize_image(x)), config.simnorm)
        return z.reshape(*leading, -1)

    def draw_shift(key: Key, shape: Sequence[int]) -> Array:
        return jax.random.randint(key, (*shape, 2), 0, 2 * config.shift + 1)

    return _pure(read), draw_shift


def _check_images(specs: Sequence[ObservationSpec], config: TDMPC2Config) -> None:
    sizes = {spec.shape[:2] for spec in specs}
    if len(sizes) > 1:
        raise UserError(f"TD-MPC2 reads images of one size, not of {sorted(sizes)}")
    size = sizes.pop()
    height, width = map(_last_size, size)
    name = f"images of {size[0]}x{size[1]}"
    if min(height, width) < 1:
        raise UserError(f"{name} are too small for TD-MPC2's convolutions; 64x64 are usual")
    entries = height * width * config.channels
    if entries != config.latent:
        raise UserError(
            f"latent is {config.latent}; {name} give {entries}, {height * width} times channels"
        )


def _last_size(size: int) -> int:
    """Returns what all convolutions leave of a side."""
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        size = (size - kernel) // stride + 1
    return size


def _pure(function: Callable[..., Array]) -> hk.Transformed:
    return hk.without_apply_rng(hk.transform(function))


def _join(z: Array, action: Array) -> Array:
    return jnp.concatenate([z, action], -1)


class _Stack(hk.Module):
    """Hidden layers and a last one, linear or with layer norm and SimNorm.

    Args:
        name: Of the component.
        hidden: Units of the hidden layers.
        size: Outputs.
        group: Size of the groups of SimNorm; 0 for a linear output.
        zero: Whether the kernel of the last layer begins at zero.
    """

    def __init__(
        self, name: str, hidden: Sequence[int], size: int, group: int = 0, zero: bool = False
    ):
        super().__init__(name)
        self._hidden, self._size, self._group = hidden, size, group
        self._last = jnp.zeros if zero else NORMAL

    def __call__(self, *parts: Array, factor: Array | None = None) -> Array:
        """Maps ``[..., in]``, in parts or whole, to ``[..., size]``.

        The factor is dropout of the first layer.
        """
        for layer, units in enumerate(self._hidden):
            x = Dense(units, f"dense{layer}", NORMAL)(*parts)
            if factor is not None and layer == 0:
                x = x * factor
            parts = (mish(_norm(x, layer)),)
        last = len(self._hidden)
        x = Dense(self._size, f"dense{last}", self._last)(*parts)
        return sim_norm(_norm(x, last), self._group) if self._group else x


def _norm(x: Array, layer: int) -> Array:
    return layer_norm(x, *LayerNorm(f"norm{layer}").parameters(x.shape[-1]), EPSILON)


class _Convolutions(hk.Module):
    """Four convolutions with ReLU between, flattened by channel, row and column."""

    def __init__(self, channels: int):
        super().__init__("encoder")
        self._channels = channels

    def __call__(self, x: Array) -> Array:
        for layer, (size, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            x = jax.nn.relu(x) if layer else x
            x = _Convolution(self._channels, size, stride, f"conv{layer}")(x)
        return jnp.moveaxis(x, -1, -3).reshape(*x.shape[:-3], -1)


class _Convolution(hk.Module):
    """One convolution without padding, drawn as PyTorch draws: U(-1, 1) / sqrt(fan_in)."""

    def __init__(self, channels: int, size: int, stride: int, name: str):
        super().__init__(name)
        self._channels, self._size, self._stride = channels, size, stride

    def __call__(self, x: Array) -> Array:
        shape = self._size, self._size, x.shape[-1], self._channels
        bound = 1 / math.sqrt(math.prod(shape[:-1]))
        init = hk.initializers.RandomUniform(-bound, bound)
        kernel = hk.get_parameter("kernel", shape, init=init)
        bias = hk.get_parameter("bias", shape[-1:], init=init)
        return conv2d(x.astype(kernel.dtype), kernel, self._stride) + bias
