"""Several devices of one host learn together: the batch is divided, everything else repeated.

Each device computes its share of a batch, and XLA adds what has to be added: gradients, losses and
statistics are those of the whole batch, as on one device. Nobody writes that: the batch is placed
with its first axis over the devices, the state on all of them, and the compiler does the rest.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from common.errors import UserError
from common.nets import conv
from common.types import Rows

AXIS = "batch"


class Devices:
    """Where an agent learns: one device, or several that divide every batch.

    Attributes:
        amount: How many.
    """

    def __init__(self, amount: int = 1, batch: int = 0):
        """Takes the first devices of this host.

        Args:
            amount: How many; 0 for all.
            batch: Rows of a batch that they have to divide.

        Raises:
            UserError: There are fewer devices, or the batch cannot be divided.
        """
        there = jax.local_devices()
        self.amount = amount or len(there)
        if self.amount > len(there):
            kind = there[0].platform
            raise UserError(
                f"run.devices is {amount}; this host has {len(there)} ({kind}), give at most "
                "that, or 0 for all"
            )
        if batch % self.amount:
            raise UserError(
                f"replay.batch is {batch}, which {self.amount} devices cannot divide; make it a "
                f"multiple of {self.amount}"
            )
        mesh = Mesh(there[: self.amount], (AXIS,))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._divided = NamedSharding(mesh, PartitionSpec(AXIS))

    def jit(self, function: Any, divided: tuple[bool, ...], results: tuple[bool, ...], **more: Any):
        """Compiles a function for them.

        Args:
            function: Of positional arguments.
            divided: Which of its arguments have a batch as their first axis.
            results: Which of its results have; of a single one it is all of it.
            more: What else ``jax.jit`` takes.
        """
        if self.amount == 1:
            return jax.jit(function, **more)

        @functools.wraps(function)
        def traced(*args: Any) -> Any:
            with conv.divided(self.amount):
                return function(*args)

        outputs = tuple(map(self._place, results))
        return jax.jit(
            traced,
            in_shardings=tuple(map(self._place, divided)),
            out_shardings=outputs if len(outputs) > 1 else outputs[0],
            **more,
        )

    def describe(self) -> str:
        """Says in some words what they are."""
        kind = jax.local_devices()[0].device_kind
        return kind if self.amount == 1 else f"{self.amount} devices: {kind}"

    def repeat(self, tree: Any) -> Any:
        """Returns arrays on all devices."""
        return tree if self.amount == 1 else jax.device_put(tree, self._everywhere)

    def divide(self, rows: Rows) -> Rows:
        """Returns rows ``[B, ...]`` divided among the devices."""
        return jax.device_put(rows, self._divided if self.amount > 1 else None)

    def one(self, tree: Any) -> Any:
        """Returns the first device's copy of arrays that all of them have."""
        if self.amount == 1:
            return tree
        return jax.tree.map(lambda x: x.addressable_data(0), tree)

    def _place(self, divided: bool) -> NamedSharding:
        return self._divided if divided else self._everywhere
