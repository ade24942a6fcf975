"""Compilation in the suite, where it takes most of the time and nothing runs for long."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, NamedTuple, TypeVar

FAST = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
_PROBE = "import jax; jax.jit(lambda x: x + 1)(1.0); print(jax.default_backend())"


def compile_fast() -> None:
    """Makes JAX compile up to three times as fast, here and in processes begun from here.

    JAX must not have been imported. Nothing changes on a GPU, nor where this JAX does not know
    the flags, which change from version to version.
    """
    flags = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), FAST]))
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    if probe.returncode == 0 and probe.stdout.split() == ["cpu"]:
        os.environ["XLA_FLAGS"] = flags


def thorough() -> dict[str, Any] | None:
    """Returns options of ``jax.jit`` for what runs long in a test: fast code, slowly compiled."""
    if FAST not in os.environ.get("XLA_FLAGS", ""):
        return None
    return {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}


Functions = TypeVar("Functions", bound=NamedTuple)


def jitted(functions: Functions) -> Functions:
    """Compiles each of some pure functions; by themselves every operation would be compiled alone.

    Args:
        functions: Those of a model; what is no function is left as it is.
    """
    import jax  # Not before ``compile_fast``.

    return type(functions)(*(jax.jit(one) if callable(one) else one for one in functions))
