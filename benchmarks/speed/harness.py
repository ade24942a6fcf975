"""Times a compiled function beside one known quantity, a large matrix product.

Figures of one machine move by a fifth from day to day; their ratio to the matrix product
moves less. Processes on one machine may compile at the same time; each times alone, once
none of them compiles. On a GPU, which compilers on the host hardly slow, it doesn't wait for
them for long.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import math
import os
import pathlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.speed.flops import count_flops
from common.nets import conv

MATMUL_SIZE = 2048
WARM_UP = 2
TURNS = pathlib.Path(tempfile.gettempdir()) / f"world-model-agents-speed-{os.getuid()}"
"""Begins the names of two files: "compile" is locked by whoever compiles, with others, and by
whoever times, alone; "time" by whoever times."""
PATIENCE = 20.0
"""Seconds that whoever times on a GPU waits for those who compile."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one benchmark found.

    Attributes:
        seconds: Wall-clock seconds of every repeat, in order.
        median: Their median.
        minimum: The fastest.
        core_seconds: Processor time of all threads, the median over the repeats: what
            it would cost with nobody else on the machine.
        compile_seconds: Tracing and compiling; 0 where a cache held the program.
        compile_core_seconds: Processor time of the same, that of processes it starts included.
        flops: Floating-point operations of the matrix products of one call.
        gflops: Billions of them per second, by the median.
        matmul_gflops: Speed of a 2048x2048x2048 float32 matrix product in this process,
            the better of one measured before and one measured after.
        scratch_gib: Memory that the compiled program needs besides arguments and results.
        peak_gib: Largest resident memory of the process so far, compilation included.
        load_average: Average of running processes over the last minute, at the start.
        alone: Whether nobody compiled meanwhile.
    """

    seconds: list[float]
    median: float
    minimum: float
    core_seconds: float
    compile_seconds: float
    compile_core_seconds: float
    flops: int
    gflops: float
    matmul_gflops: float
    scratch_gib: float
    peak_gib: float
    load_average: float
    alone: bool


def measure(
    function: Callable[..., Any], args: tuple[Any, ...], repeats: int, feed_back: bool = False
) -> Measurement:
    """Compiles a function, warms up and times it.

    Args:
        function: What to time, ``function(*args)``.
        args: Its arguments.
        repeats: Timed calls.
        feed_back: Whether the first output is the first argument of the next call, whose
            memory it may take over, as in training.

    Returns:
        The measurement; every call is waited for.
    """

    def compiled() -> tuple[Callable[..., Any], int]:
        jitted = jax.jit(function, donate_argnums=0 if feed_back else ())
        ready = jitted.lower(*args).compile()
        memory = ready.memory_analysis()
        return ready, memory.temp_size_in_bytes if memory else 0

    return measure_made(compiled, function, args, repeats, feed_back)


def measure_made(
    make: Callable[[], tuple[Callable[..., Any], int]],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    repeats: int,
    feed_back: bool,
) -> Measurement:
    """Does as ``measure`` with what another compiler makes of a function.

    Args:
        make: Returns what is called and the bytes that it needs besides arguments and results; its
            time is that of compiling.
        function: The same in JAX, whose operations are counted.
        args: Arguments of both.
        repeats: Timed calls.
        feed_back: As of ``measure``.
    """
    load = os.getloadavg()[0]
    # Counted on one implementation of the convolutions, so that it is the same everywhere.
    with conv.use_implementation("matmul"):
        flops = count_flops(lambda *args: function(*args), *args)
    with _compiling():
        start, start_core = time.perf_counter(), _core_seconds()
        compiled, scratch = make()
        compile_seconds = time.perf_counter() - start
        compile_core_seconds = _core_seconds() - start_core
        matmul_gflops(1)
    with _timing(math.inf if jax.default_backend() == "cpu" else PATIENCE) as alone:
        before = matmul_gflops()
        seconds, core_seconds = _time(compiled, args, WARM_UP + repeats, feed_back)
        after = matmul_gflops()
    seconds, core_seconds = seconds[WARM_UP:], core_seconds[WARM_UP:]
    median = statistics.median(seconds)
    return Measurement(
        seconds=seconds,
        median=median,
        minimum=min(seconds),
        core_seconds=statistics.median(core_seconds),
        compile_seconds=compile_seconds,
        compile_core_seconds=compile_core_seconds,
        flops=flops,
        gflops=flops / median / 1e9,
        matmul_gflops=max(before, after),
        scratch_gib=scratch / 2**30,
        peak_gib=peak_gib(),
        load_average=load,
        alone=alone,
    )


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Waits until nobody times who wants to be alone."""
    with TURNS.with_suffix(".compile").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _timing(patience: float) -> Iterator[bool]:
    """Waits until nobody times, and for some seconds until nobody compiles; gives whether so."""
    names = TURNS.with_suffix(".time"), TURNS.with_suffix(".compile")
    with names[0].open("w") as mine, names[1].open("w") as of_all:
        fcntl.flock(mine, fcntl.LOCK_EX)
        end, alone = time.monotonic() + patience, False
        while not alone:
            try:
                fcntl.flock(of_all, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                if time.monotonic() > end:
                    break
                time.sleep(0.1)
        yield alone


def _time(
    compiled: Callable[..., Any], args: tuple[Any, ...], calls: int, feed_back: bool
) -> tuple[list[float], list[float]]:
    """Returns wall-clock seconds and processor time of every call."""
    seconds, core_seconds = [], []
    for _ in range(calls):
        start, start_core = time.perf_counter(), time.process_time()
        out = jax.block_until_ready(compiled(*args))
        seconds.append(time.perf_counter() - start)
        core_seconds.append(time.process_time() - start_core)
        if feed_back:
            args = (out[0], *args[1:])
    return seconds, core_seconds


def matmul_gflops(repeats: int = 7) -> float:
    """Median speed of a float32 matrix product of 2048x2048 by 2048x2048, in GFLOP/s."""
    matrix = jnp.ones((MATMUL_SIZE, MATMUL_SIZE), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * MATMUL_SIZE**3 / statistics.median(seconds) / 1e9


def _core_seconds() -> float:
    """Processor time of this process so far, and of all that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
