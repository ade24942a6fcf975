"""One distribution over the flat action vector, made of one part for each block."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from common.distributions.discrete import OneHot
from common.distributions.noise import uniform_to_normal
from common.spaces import ActionSpec
from common.types import Array


def action_noise_size(spec: ActionSpec) -> int:
    """Returns how many uniforms one action takes: one for each categorical block, else its size."""
    return sum(1 if part.kind == "categorical" else part.size for part in spec.parts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joint:
    """Independent parts side by side in one flat vector ``[..., A]``.

    Attributes:
        parts: ``OneHot`` (of one variable), ``TanhNormal``, ``TruncatedNormal`` or
            ``Normal`` (of one event axis), in the order of the blocks.
    """

    parts: tuple[Any, ...]

    @property
    def size(self) -> int:
        """Entries of the flat vector, A."""
        return sum(part.size for part in self.parts)

    @property
    def noise_size(self) -> int:
        """Uniforms that one sample takes; ``action_noise_size`` knows it beforehand."""
        return sum(self._noise_widths())

    def log_prob(self, x: Array) -> Array:
        """Returns the log-probability ``[...]`` of ``x [..., A]``, summed over the parts."""
        blocks = _split(x, [part.size for part in self.parts])
        return sum(part.log_prob(block) for part, block in zip(self.parts, blocks, strict=True))

    def entropy(self) -> Array:
        """Returns the entropy ``[...]`` in nats, summed over the parts."""
        return sum(part.entropy() for part in self.parts)

    def mode(self) -> Array:
        """Returns the modes side by side, ``[..., A]``."""
        return _concatenate([part.mode() for part in self.parts])

    def mean(self) -> Array:
        """Returns the means side by side, ``[..., A]``; probabilities for categorical parts."""
        return _concatenate([part.mean() for part in self.parts])

    def sample(self, noise: Array) -> Array:
        """Samples every part from its share of the uniforms.

        Args:
            noise: Uniforms on (0, 1), ``[..., noise_size]``. Parts that are made from
                standard normals get them through the inverse CDF.

        Returns:
            A flat action ``[..., A]``.
        """
        shares = _split(noise, self._noise_widths())
        return _concatenate(
            [_sample(part, share) for part, share in zip(self.parts, shares, strict=True)]
        )

    def _noise_widths(self) -> list[int]:
        return [1 if isinstance(part, OneHot) else part.size for part in self.parts]


def _sample(part: Any, uniform: Array) -> Array:
    if isinstance(part, OneHot):
        return part.sample(uniform[..., 0])
    return part.sample(uniform_to_normal(uniform) if part.noise == "normal" else uniform)


def _split(x: Array, widths: list[int]) -> list[Array]:
    if x.shape[-1] != sum(widths):
        raise ValueError(f"last axis has {x.shape[-1]} entries, the parts need {sum(widths)}")
    return jnp.split(x, list(itertools.accumulate(widths))[:-1], axis=-1)


def _concatenate(blocks: list[Array]) -> Array:
    return blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks, -1)
