"""What bounds an update on a machine: products, memory, launches, transfers.

    python -m benchmarks.speed.machine  # one line of JSON

On a GPU small updates are bound by the launches of their kernels, large ones by products and
memory; these figures say which.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

LOOP = 500
"""Steps of the loop whose single step is timed."""


def describe(size: int = 8192, stream_mib: int = 1024, repeats: int = 10) -> dict[str, float | str]:
    """Times the machine.

    Args:
        size: Rows and columns of the square matrices that are multiplied.
        stream_mib: Size of the array that is read and written, in MiB.
        repeats: Calls of each; the fastest counts for rates, the median for latencies.

    Returns:
        TFLOP/s of products in both precisions, TB/s of reading and writing device memory,
        microseconds of one call and of one step of a loop (a product of 16x200 by 200x200 and a
        hyperbolic tangent), milliseconds and GB/s of a batch of pictures to the device.
    """
    out: dict[str, float | str] = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    for dtype in ("float32", "bfloat16"):
        matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
        fastest = min(_times(jnp.matmul, (matrix, matrix), repeats))
        out[f"matmul_{dtype}_tflops"] = 2 * size**3 / fastest / 1e12
    array = jax.random.normal(jax.random.key(0), (stream_mib * 2**18,), jnp.float32)
    fastest = min(_times(lambda x: x + 1, (array,), repeats))
    out["stream_tb_per_s"] = 2 * array.nbytes / fastest / 1e12

    state, weights = jnp.ones((16, 200)), jnp.ones((200, 200)) * 0.01
    out["call_us"] = 1e6 * statistics.median(_times(lambda x: x + 1, (state,), 10 * repeats))

    def loop(state: jax.Array) -> jax.Array:
        step = lambda state, _: (jnp.tanh(state @ weights), None)  # noqa: E731
        return jax.lax.scan(step, state, None, length=LOOP)[0]

    out["loop_step_us"] = 1e6 * statistics.median(_times(loop, (state,), repeats)) / LOOP
    pictures = np.random.default_rng(0).integers(0, 256, (16, 50, 64, 64, 3), dtype=np.uint8)
    seconds = _seconds(lambda: jax.block_until_ready(jax.device_put(pictures)), repeats)
    out["batch_to_device_ms"] = 1e3 * statistics.median(seconds)
    out["to_device_gb_per_s"] = pictures.nbytes / min(seconds) / 1e9
    return out


def _times(function: Callable[..., jax.Array], args: tuple, repeats: int) -> list[float]:
    compiled = jax.jit(function)
    return _seconds(lambda: compiled(*args).block_until_ready(), repeats)


def _seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Returns the seconds of every call but the first."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found[1:]


if __name__ == "__main__":
    print(json.dumps(describe()))
