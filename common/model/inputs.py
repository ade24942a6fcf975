"""Checks of what a world model is given: names, shapes and types, never values.

They run while a function is traced, so that a compiled one does not know them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.dynamics.base import Noise, State
from common.errors import UserError
from common.model.components import Components
from common.model.config import WorldModelConfig
from common.rows import COST, Specs, row_specs
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Rows

FILTERED, LEARNED = ("action", "is_first"), ("reward", "is_terminal")
"""Entries of a row, beside observations, that filtering needs, and that a loss needs as well."""


class Inputs(NamedTuple):
    """What a world model takes.

    Attributes:
        specs: Shape and type of every entry of a row.
        encoded: Entries that filtering needs.
        learned: Entries that a loss needs.
        state: Shapes of one latent state, and its type.
        noise: Shape of the noise of one latent.
        feature: Entries of a feature, D.
    """

    specs: Specs
    encoded: tuple[str, ...]
    learned: tuple[str, ...]
    state: State
    noise: tuple[int, ...]
    feature: int

    def batch(self, rows: Rows, learned: bool, float_images: bool = False) -> tuple[int, int]:
        """Checks rows ``[B, T, ...]`` and returns ``(B, T)``.

        Args:
            rows: By their keys; those that nothing needs are not looked at.
            learned: Whether there is a loss on them.
            float_images: Whether images may be floats, on the scale of the loss.

        Raises:
            UserError: One is missing, or has another shape or type.
        """
        needed = self.learned if learned else self.encoded
        return self._rows("batch", ("B", "T"), rows, needed, float_images)

    def step(self, rows: Rows, float_images: bool = False) -> tuple[int]:
        """Checks rows ``[N, ...]`` that are filtered, as ``batch`` does; returns ``(N,)``."""
        return self._rows("rows", ("N",), rows, self.encoded, float_images)

    def vectors(self, rows: Rows, keys: Iterable[str]) -> None:
        """Checks the vectors ``[B, T, D]`` of some keys."""
        self._rows("batch", ("B", "T"), rows, tuple(keys), False)

    def actions(self, name: str, axes: tuple[str, ...], action: Array) -> tuple[int, ...]:
        """Checks actions and returns their leading axes."""
        _check_entry(name, axes, action, *self.specs["action"], floats=True)
        return action.shape[:-1]

    def states(self, name: str, state: State, leading: tuple[int, ...] | None = None) -> None:
        """Checks latent states with the given leading axes, or with any."""
        kind = type(self.state)
        if not isinstance(state, kind):
            raise UserError(
                f"{name} is a {type(state).__name__}; expected a {kind.__name__}, as "
                "model.observe, model.imagine and model.initial return it"
            )
        for entry, x, one in zip(kind._fields, state, self.state, strict=True):
            shape = jnp.shape(x)
            rank = len(shape) - len(one.shape) if leading is None else len(leading)
            if rank >= 0 and shape == (shape[:rank] if leading is None else leading) + one.shape:
                continue
            wanted = ("...", *one.shape) if leading is None else (*leading, *one.shape)
            many = leading is not None and len(shape) == len(wanted) + 1
            hint = "; for the last of each sequence: jax.tree.map(lambda x: x[:, -1], states)"
            raise UserError(
                f"{name}.{entry} has shape {shape}; expected {_shape(wanted)}{hint * many}"
            )

    def noises(self, noise: Noise, leading: tuple[int, ...]) -> None:
        """Checks the noise of latents; None is the mode."""
        if noise is not None and jnp.shape(noise) != (*leading, *self.noise):
            raise UserError(
                f"the noise has shape {jnp.shape(noise)}; expected {(*leading, *self.noise)}, as "
                f"model.draw_noise(key, {leading}) draws it"
            )

    def features(self, feature: Array) -> None:
        """Checks features ``[..., D]``."""
        shape = getattr(feature, "shape", None)
        if not shape or shape[-1] != self.feature:
            found = f"has shape {shape}" if shape is not None else f"is a {_kind(feature)}"
            raise UserError(
                f"the feature {found}; expected (..., {self.feature}), as "
                "model.feature(params, states) returns it"
            )

    def _rows(
        self,
        what: str,
        axes: tuple[str, ...],
        rows: Rows,
        needed: tuple[str, ...],
        float_images: bool,
    ) -> tuple[int, ...]:
        _check_keys(what, rows, needed)
        for key in needed:
            shape, dtype = self.specs[key]
            # An episode may end with a probability.
            floats = dtype == np.float32 or key == "is_terminal"
            floats |= float_images and dtype == np.uint8
            _check_entry(f"{what}[{key!r}]", axes, rows[key], shape, dtype, floats)
        leading = {key: rows[key].shape[: len(axes)] for key in needed}
        most = max(leading.values(), key=list(leading.values()).count, default=())
        for key, found in leading.items():
            if found != most:
                raise UserError(
                    f"{what}[{key!r}] begins with {found}, the other entries with {most}; "
                    f"expected {_shape(axes)} for all"
                )
        if 0 in most:
            raise UserError(f"the {what} is empty: {_shape(axes)} is {most}")
        return most


def make_inputs(
    parts: Components, specs: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Inputs:
    """Derives what a model takes from its parts; nothing is computed."""
    encoded = (*parts.encoded, *FILTERED)
    costs = parts.cost is not None
    learned = *dict.fromkeys((*parts.encoded, *parts.decoded)), *FILTERED, *LEARNED
    learned = (*learned, COST) if costs else learned
    noise = jax.eval_shape(lambda key: parts.draw_noise(key, (1,)), jax.random.key(0))
    state = _first(parts.initial)
    return Inputs(
        row_specs(specs, actions, costs), encoded, learned, state, noise.shape[1:],
        parts.feature_size,
    )  # fmt: skip


def warn_of_short_windows(config: WorldModelConfig, length: int) -> None:
    """Warns where a model cannot learn what to make of as much past as acting gives it.

    The first token of a window is made of an earlier latent that the window does not hold, so
    that a step whose past is whole has ``reach + 1`` steps before it.

    Args:
        config: The model.
        length: Rows of the windows that it learns from, T.
    """
    if config.dynamics != "transformer":
        return
    reach, layers = config.transformer.reach, config.transformer.layers
    whole = max(0, length - reach - 1)
    if 2 * whole >= length:
        return
    context = 1 + (length // 2 - 1) // layers
    lower = f"lower transformer.context to {context}, or " if context > 1 else ""
    warnings.warn(
        f"the transformer looks back {reach} steps, layers x (context - 1), and learns from "
        f"windows of {length}: {whole} of the {length} steps have as much past as acting has; "
        f"{lower}raise replay.length to {2 * (reach + 1)}, so that half of them have",
        stacklevel=2,
    )


def _first(initial: Callable[[int], State]) -> State:
    """Shapes of one state without its leading axis."""
    shapes = jax.eval_shape(lambda: initial(1))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes)


def _check_keys(what: str, rows: Rows, needed: tuple[str, ...]) -> None:
    if not isinstance(rows, Mapping):
        raise UserError(f"the {what} is a {_kind(rows)}; expected arrays by {', '.join(needed)}")
    missing = [key for key in needed if key not in rows]
    if missing:
        raise UserError(
            f"the {what} lacks {', '.join(missing)}; expected {', '.join(needed)}, found "
            f"{', '.join(map(str, rows)) or 'nothing'}"
        )


def _check_entry(
    name: str,
    axes: tuple[str, ...],
    x: Any,
    shape: tuple[int, ...],
    dtype: Any,
    floats: bool,
) -> None:
    """Checks one entry; with ``floats`` those of any precision are right too."""
    wanted = f"{np.dtype(dtype).name} {_shape((*axes, *shape))}"
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise UserError(f"{name} is a {_kind(x)}; expected an array, {wanted}")
    hint, alike = "", x.ndim == len(axes) + len(shape) and x.shape[len(axes) :] == shape
    if alike and (x.dtype == dtype or (floats and jnp.issubdtype(x.dtype, jnp.floating))):
        return
    if len(shape) == 1 and x.ndim == len(axes) and jnp.issubdtype(x.dtype, jnp.integer):
        hint = f"; choices are one-hot vectors: jax.nn.one_hot(choices, {shape[0]})"
    elif alike and dtype == np.uint8:
        hint = ", pixels as they are, from 0 to 255"
    raise UserError(f"{name} is {x.dtype} {tuple(x.shape)}; expected {wanted}{hint}")


def _kind(x: Any) -> str:
    return type(x).__name__


def _shape(axes: Iterable[Any]) -> str:
    """Writes a shape whose axes may be letters."""
    return f"({', '.join(map(str, axes))})"
