"""Several devices learn together: the batch is divided, everything else repeated.

Each device computes its share of a batch, and XLA adds what has to be added: gradients, losses and
statistics are those of the whole batch, as on one device. Nobody writes that: the batch is placed
with its first axis over the devices, the state on all of them, and the compiler does the rest.

The devices are those of one process, or of several (``common.run.processes``), on as many hosts.
Then all processes make the same calls in the same order, and each sees the part of an array that
its own devices have: all of what is repeated, and its own rows of what is divided.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from common.errors import UserError
from common.nets import conv
from common.run.processes import Processes
from common.types import Rows

AXIS = "batch"


class Devices:
    """Where an agent learns: one device, or several that divide every batch.

    Attributes:
        amount: How many, those of other processes too.
    """

    def __init__(self, amount: int = 1, batch: int = 0, processes: Processes | None = None):
        """Takes the first devices of every process.

        Args:
            amount: How many of each; 0 for all of this host.
            batch: Rows of a batch that they have to divide.
            processes: Those that learn together; None for this one alone.

        Raises:
            UserError: There are fewer devices, or the batch cannot be divided.
        """
        self._processes = processes or Processes()
        self._several = self._processes.amount > 1
        there = jax.local_devices()
        each = amount or len(there)
        hosts: list[list[jax.Device]] = [[] for _ in range(self._processes.amount)]
        for device in jax.devices() if self._several else there:
            hosts[device.process_index if self._several else 0].append(device)
        fewest = min(hosts, key=len)
        if each > len(fewest):
            kind = there[0].platform
            raise UserError(
                f"run.devices is {amount}; {'a' if self._several else 'this'} host has "
                f"{len(fewest)} ({kind}), give at most that, or 0 for all"
            )
        self.amount = each * len(hosts)
        if batch % self.amount:
            raise UserError(
                f"replay.batch is {batch}, which {self.amount} devices cannot divide; make it a "
                f"multiple of {self.amount}"
            )
        mesh = Mesh([device for host in hosts for device in host[:each]], (AXIS,))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._divided = NamedSharding(mesh, PartitionSpec(AXIS))
        self._here = NamedSharding(Mesh(there[:each], (AXIS,)), PartitionSpec(AXIS))

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

    def ready(self, function: Any, *args: Any) -> Callable[..., Any]:
        """Returns a function of ``jit`` that every process can call at the same time.

        It is compiled, once for all calls with arguments of such shapes, and the processes wait for
        each other: their first exchange fails where one of them is half a minute behind.
        """
        if not self._several:
            return function
        compiled = function.lower(*args).compile()
        self._processes.gather(None)
        return compiled

    def describe(self) -> str:
        """Says in some words what they are."""
        kind = jax.local_devices()[0].device_kind
        if self._several:
            return f"{self.amount} devices of {self._processes.amount} processes: {kind}"
        return kind if self.amount == 1 else f"{self.amount} devices: {kind}"

    def repeat(self, tree: Any) -> Any:
        """Returns arrays on all devices, of which every process has the same."""
        return tree if self.amount == 1 else jax.tree.map(self._repeat, tree)

    def divide(self, rows: Rows) -> Rows:
        """Returns rows ``[B, ...]`` divided among the devices; of several processes, each has
        its own ``B`` divided by their number."""
        if self.amount == 1:
            return jax.device_put(rows)
        return {
            key: jax.make_array_from_process_local_data(self._divided, value)
            for key, value in rows.items()
        }

    def one(self, tree: Any) -> Any:
        """Returns the first device's copy of arrays that all of them have."""
        if self.amount == 1:
            return tree
        return jax.tree.map(lambda x: x.addressable_data(0), tree)

    def own(self, rows: Rows) -> Rows:
        """Returns this process's rows of those that are divided."""
        return jax.tree.map(self._own, rows) if self._several else rows

    def own_key(self, key: jax.Array) -> jax.Array:
        """Returns a random key of this process's own, made of one that all of them have."""
        index = self._processes.index
        return jax.random.fold_in(key, index) if index else key

    def _own(self, value: jax.Array) -> jax.Array:
        parts = sorted(value.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        shape = sum(part.data.shape[0] for part in parts), *value.shape[1:]
        return jax.make_array_from_single_device_arrays(
            shape, self._here, [part.data for part in parts]
        )

    def _repeat(self, value: Any) -> Any:
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            data = self._repeat(jax.random.key_data(value))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
        host = np.asarray(value)
        return jax.make_array_from_callback(host.shape, self._everywhere, lambda i: host[i])

    def _place(self, divided: bool) -> NamedSharding:
        return self._divided if divided else self._everywhere
