"""Counts the kernels of an update on an H100, without one: XLA compiles for it ahead of time.

Small updates wait on a GPU for the launches of their kernels, most of them in loops over time
steps; the count is what can be kept from growing where no GPU is at hand. Without a GPU nothing
is tuned by trials either, which hardly changes how many kernels there are.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from common.errors import UserError, nearest
from common.run import versions

TARGET = pathlib.Path(__file__).resolve().parent / "h100.textproto"
PACKAGES = ("jax-cuda12-pjrt", "jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12")
PRECISIONS = {
    "quickstart": "float32",
    "small": "float32",
    "dmc_vision": "bfloat16",
    "vision_v3": "bfloat16",
    "tdmpc2": "float32",
}
"""Shapes that are counted by default, each in a number format."""
NO_KERNELS = {
    "after-all", "async-done", "bitcast", "call", "constant", "copy-done", "fusion-done",
    "get-tuple-element", "opt-barrier", "parameter", "partition-id", "replica-id", "tuple",
}  # fmt: skip
"""Instructions of a compiled program for which nothing is launched."""
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(")


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop of a compiled program.

    Attributes:
        steps: How often its body runs.
        kernels: Launches of one step, those of loops inside included.
    """

    steps: int
    kernels: int


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Launches of a compiled program.

    Attributes:
        total: All of one call.
        outside: Those outside of loops.
        loops: Loops that are in no other one, in the order of the program.
    """

    total: int
    outside: int
    loops: tuple[Loop, ...]


def prepare() -> None:
    """Makes JAX, which must not have been imported, ready to compile for a GPU on a CPU.

    Raises:
        UserError: A package is missing.
    """
    if problem := missing():
        raise UserError(problem)
    compiler = importlib.util.find_spec("nvidia.cuda_nvcc")
    folder = list(compiler.submodule_search_locations)[0]
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_cuda_data_dir={folder}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"


def missing() -> str | None:
    """Says what has to be installed; None where all packages are there, at JAX's version."""
    jax = importlib.metadata.version("jax")
    wanted = dict(zip(PACKAGES, (jax, jax, None), strict=True))
    for name, version in wanted.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = ""
        if not found or version not in (found, None):
            names = " ".join(f"{x}=={v}" if v else x for x, v in wanted.items())
            return f"--kernels needs more packages: pip install --no-deps {names}"
    return None


def count_update(name: str) -> dict[str, Any]:
    """Compiles the update of a shape and returns its record, or an "error" of the compiler.

    Args:
        name: The shape's name.
    """
    import jax

    from benchmarks.speed.shapes import SHAPES

    precision = PRECISIONS.get(name, "float32")
    shape = SHAPES[name]
    options = {**shape.options, "world_model.precision": precision}
    shape = dataclasses.replace(shape, options=options)
    try:
        compiled = _compile(shape)
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error).splitlines()[0]}
    packages = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    counted = dataclasses.asdict(count_kernels(compiled.as_text()))
    return {
        "workload": f"{name}/kernels",
        "summary": f"{shape.summary}: kernels of an update, compiled for an H100",
        "precision": precision,
        **counted,
        "scratch_gib": compiled.memory_analysis().temp_size_in_bytes / 2**30,
        "versions": [*versions.describe().splitlines(), *packages],
        "config": dataclasses.asdict(shape.config()),
    }


def _compile(shape: Any) -> Any:
    import jax
    from jax.experimental import topologies

    from benchmarks.speed.workloads import make_batch

    jax.config.update("jax_enable_compilation_cache", False)
    jax.devices()  # Loads the plugin.
    topology = topologies.get_topology_desc(
        platform="cuda",
        topology_name="h100",
        topology="1x1x1",
        target_config=re.sub("#.*", "", TARGET.read_text()),
    )
    there = jax.sharding.SingleDeviceSharding(topology.devices[0])
    agent, key = shape.agent(), jax.eval_shape(lambda: jax.random.key(0))
    args = jax.eval_shape(agent.init, key), key, make_batch(shape, shape.config())
    args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), args)
    return jax.jit(agent.update, donate_argnums=0).lower(*args).compile()


def count_kernels(text: str) -> Kernels:
    """Counts the kernels of a compiled program, loops by the steps that XLA knows them to take.

    Args:
        text: The program, as XLA prints it.
    """
    bodies: dict[str, list[tuple[str, str]]] = {}
    entry = name = ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            name = found[2]
            entry, bodies[name] = (name if found[1] else entry), []
        elif found := _INSTRUCTION.match(line):
            bodies[name].append((found[1], line))

    def count(name: str) -> tuple[int, tuple[Loop, ...]]:
        outside, loops = 0, []
        for operation, line in bodies[name]:
            if operation == "while":
                steps = int(re.search(r"known_trip_count\D+(\d+)", line)[1])
                inner, deeper = count(re.search(r"body=%?([\w.\-]+)", line)[1])
                loops.append(Loop(steps, inner + _launches(deeper)))
            elif operation not in NO_KERNELS:
                outside += 1
        return outside, tuple(loops)

    outside, loops = count(entry)
    return Kernels(outside + _launches(loops), outside, loops)


def _launches(loops: Sequence[Loop]) -> int:
    return sum(loop.steps * loop.kernels for loop in loops)


def select(names: Sequence[str]) -> list[str]:
    """Returns the shapes whose updates are counted.

    Raises:
        UserError: There is no shape of a name.
    """
    from benchmarks.speed.shapes import SHAPES

    for name in names:
        if name not in SHAPES:
            raise UserError(f"unknown shape {name!r}{nearest(name, SHAPES)}")
    return list(names or PRECISIONS)


def format_line(record: dict[str, Any]) -> str:
    """One line for people."""
    loops = " + ".join(f"{loop['steps']} x {loop['kernels']}" for loop in record["loops"])
    name = f"{record['workload']} {record['precision']}"
    parts = f"{record['outside']:,}" + (f" + {loops}" if loops else "")
    return f"{name:<28} {record['total']:7,} kernels = {parts}"
