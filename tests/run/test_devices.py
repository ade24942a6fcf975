"""Several devices of one host compute what one does, and runs move between numbers of them."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from common.command import line as cli
from common.errors import UserError
from common.run.devices import Devices
from dreamer.program import load_program

SORTED = {"vision_v3": 5 * 48, "tdmpc2": 8}
"""Values whose percentiles are asked for, which takes all of them: the only rows ever moved."""
RATE = 1e-3


def _on_devices(amount: int, *command: str) -> subprocess.CompletedProcess:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={amount}"
    environment = {**os.environ, "XLA_FLAGS": flags}
    return subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True
    )


SEVERAL = ["dmc_vision", "tdm", "tdmpc2"]
"""Images, tokens, percentiles: each divides something that the others have not."""
LONGER = [pytest.param(name, marks=pytest.mark.slow) for name in ("atari", "planet", "vision_v3")]


@pytest.mark.parametrize("name", [*SEVERAL, *LONGER])
def test_eight_devices_compute_what_one_does(name: str):
    """After five updates; and but for percentiles they exchange sums only."""
    done = _on_devices(8, "tests.run.on_devices", name)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Adam divides a gradient by its own size, also where it is nothing but rounding: so few
    # entries may differ by more, and by a fraction of a step.
    assert found["beyond"] < 1e-3 and found["most"] < RATE / 10
    assert found["sums"] > 0 and found["way"] > 1e-4  # It has learned something at all.
    assert found["moved"] == ({"all-gather": 1} if name in SORTED else {})
    assert found["largest"] == SORTED.get(name, 0)


@pytest.mark.slow
def test_a_run_moves_between_numbers_of_devices(tmp_path: pathlib.Path):
    options = ("--configs", "dmc_proprio", "debug", "--run.video", "false", "--replay.batch", "4")
    options = ("dreamer", "train", *options, "--logdir", str(tmp_path / "run"))
    for frames, amount in ((300, 1), (400, 4), (500, 2)):
        done = _on_devices(4, *options, "--run.frames", str(frames), "--run.devices", str(amount))
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"on {amount} devices" in done.stdout or amount == 1
    assert "resumed at frame 400" in done.stdout


def test_too_many_devices():
    with pytest.raises(UserError, match="run.devices is 5000; this host has 1 .cpu., give at"):
        Devices(5000)
    assert Devices(0).amount == len(jax.local_devices())


def test_a_batch_that_devices_do_not_divide():
    script = "from common.run.devices import Devices; Devices(4, 50)"
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert "replay.batch is 50, which 4 devices cannot divide; make it a multiple" in done.stderr


def test_a_mistake_leaves_nothing_behind(tmp_path: pathlib.Path, capsys):
    command = ["train", "--configs", "debug", "--run.devices", "3", "--logdir", str(tmp_path / "r")]
    assert cli.main("dreamer", load_program, command) == 2
    assert "run.devices is 3; this host has 1" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_processes_wait_for_each_other_until_all_have_compiled():
    """The first exchange of JAX's processes fails where one is half a minute behind."""
    devices, met = Devices(), []
    assert devices.ready(abs, 1) is abs  # Nobody to wait for.
    devices._several, devices._processes = True, SimpleNamespace(gather=met.append)
    compiled = devices.ready(jax.jit(lambda x: x + 1), jnp.ones(2))
    assert met == [None] and compiled(jnp.ones(2)).tolist() == [2, 2]
    with pytest.raises(TypeError):  # It is compiled already, for such an array alone.
        compiled(jnp.ones(3))
