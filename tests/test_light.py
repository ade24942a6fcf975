"""Who needs no JAX loads none: the package's face, ``--version``, and environment workers."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks.jobs.plan import AGENTS
from tests.test_layering import RUNTIME_LIBRARIES, SIMULATORS

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEAVY = {"jax", "jaxlib", "haiku", "optax", "tensorflow_probability", "wandb"}
HEAVY |= {*SIMULATORS, *RUNTIME_LIBRARIES}
SAY = "import sys; print('LOADED', *{name.split('.')[0] for name in sys.modules})"


def loaded(*words: str) -> set[str]:
    """Top-level modules that a process of its own says it has loaded."""
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "module",
    [
        "common", *AGENTS, "common.types", "common.config", "common.export",
        "common.envs", "common.run.config", "common.run.folder", "common.run.program",
        "common.run.progress", "common.command.line", "common.command.api",
    ],
)  # fmt: skip
def test_imports_that_promise_to_be_light(module):
    found = loaded("-c", f"import {module}; {SAY}")
    assert module.split(".")[0] in found and not found & HEAVY


@pytest.mark.parametrize("agent", AGENTS)
def test_the_version_is_said_without_jax(agent):
    code = f"import runpy, sys; sys.argv = [{agent!r}, '--version']\n"
    code += f"try:\n runpy.run_module({agent!r}, run_name='__main__')\n"
    code += f"except SystemExit as ended:\n assert ended.code == 0\nfinally:\n {SAY}"
    assert not loaded("-c", code) & HEAVY


def test_environment_workers_load_no_jax():
    """In the processes that an agent's command starts, which read its modules again."""
    task = [
        "--task",
        "tests.envs.toys:Modules",
        "--env.workers",
        "process",
        "--env.time_limit",
        "4",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "dreamer", "check-env", *task], cwd=ROOT, capture_output=True,
        text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "return 4 to 4" in done.stdout, done.stdout  # One for each step without.


def test_who_watches_runs_or_compares_them_loads_no_jax():
    code = f"import common.watch.server, common.report.beside; {SAY}"
    assert not loaded("-c", code) & {"jax", "haiku", "matplotlib", *SIMULATORS}


def test_a_heavy_import_would_be_noticed():
    assert "jax" in loaded("-c", f"import common; common.world_model; {SAY}")
