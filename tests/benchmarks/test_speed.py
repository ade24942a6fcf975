"""The speed benchmark: counted operations, chosen workloads, records and the command."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import pathlib
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.speed import harness, record, workloads
from benchmarks.speed.flops import count_flops
from benchmarks.speed.harness import measure
from benchmarks.speed.token_rollouts import separate_rollout
from benchmarks.speed.token_rollouts import uncached_rollout as uncached
from common.errors import UserError
from common.nets import conv
from common.tokens import tdm
from common.tokens.config import TDMConfig
from common.tokens.steps import pad
from planet.token_model import token_rollout

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_flops_of_products_scans_and_branches():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    product = 2 * 3 * 4 * 5
    assert count_flops(jnp.matmul, a, b) == product
    assert count_flops(jax.jit(jnp.matmul), a, b) == product
    batched = jnp.ones((7, 3, 4)), jnp.ones((7, 4, 5))
    assert count_flops(jnp.matmul, *batched) == 7 * product

    def loop(x, matrix):
        return jax.lax.scan(lambda x, _: (x @ matrix, None), x, None, length=6)

    assert count_flops(loop, a, jnp.ones((4, 4))) == 6 * 2 * 3 * 4 * 4

    def branch(x, y):
        return jax.lax.cond(x.sum() > 0, lambda: x @ y, lambda: jnp.zeros((3, 5)))

    assert count_flops(branch, a, b) == product

    def by_platform(x, y):
        again = lambda x, y: jnp.cos(x @ y) @ y.T @ y  # noqa: E731
        return jax.lax.platform_dependent(x, y, cpu=jnp.matmul, default=again)

    assert count_flops(by_platform, a, b) == product


@pytest.mark.parametrize("implementation", ["library", "matmul"])
def test_flops_of_convolutions_do_not_depend_on_the_implementation(implementation: str):
    image, kernel = jnp.ones((2, 10, 10, 3)), jnp.ones((4, 4, 3, 5))

    def forward(image, kernel):
        return conv.conv2d(image, kernel, 2, implementation)

    one = 2 * (2 * 4 * 4 * 5) * (4 * 4 * 3)
    assert count_flops(forward, image, kernel) == one
    weights = jax.grad(lambda kernel: forward(image, kernel).sum())
    # The image's gradient, which the compiler removes; the library's has a border of zeros.
    spare = one if implementation == "matmul" else 2 * image.size * (4 * 4 * 5) // 2**2
    assert count_flops(weights, kernel) == 2 * one + spare


def test_measure_feeds_back_and_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "MATMUL_SIZE", 64)
    state = jnp.ones((8, 8))
    result = measure(lambda state, x: (state @ x, x), (state, jnp.eye(8)), 3, feed_back=True)
    assert len(result.seconds) == 3 and result.minimum <= result.median
    assert result.flops == 2 * 8**3
    assert result.matmul_gflops > 0 and result.peak_gib > 0


def test_selection():
    assert workloads.select(["dmc_vision"]) == [
        "dmc_vision/update",
        "dmc_vision/policy-1",
        "dmc_vision/policy-8",
    ]
    assert workloads.select(["atari/update"]) == ["atari/update"]
    assert {name.split("/")[1] for name in workloads.select(["policy"])} == {"policy-1", "policy-8"}
    assert workloads.select(["small/*library"]) == [
        "small/encoder-library",
        "small/decoder-library",
    ]
    assert not any("library" in name for name in workloads.select([]))
    graphs = workloads.select(["onnx"])  # Of all that have a policy, which PlaNet has not.
    assert "proprio/onnx" in graphs and "planet/onnx" not in graphs and "tdm/onnx" not in graphs
    with pytest.raises(UserError, match="unknown workload 'updates'; did you mean 'update'"):
        workloads.select(["updates"])


def test_shapes_build_their_configuration():
    for name, shape in workloads.SHAPES.items():
        replay, length = shape.config().replay, 16 if name.startswith("tdm") else 50
        length = 64 if name.endswith("_v3") else length
        expected = {"tdmpc2": (256, 4), "tdmpc2_cpu": (128, 4)}.get(name, (16, length))
        assert (replay.batch, replay.length) == expected
    config = workloads.SHAPES["dmc_vision"].config()
    assert (config.world_model.encoder.depth, config.behavior.horizon) == (48, 15)
    assert (config.world_model.rssm.deter, config.world_model.rssm.classes) == (200, 32)


def test_tdmpc2_has_published_sizes_and_plans_where_it_acts():
    config = workloads.SHAPES["tdmpc2"].config()
    assert (config.model, config.planner.method, config.tdmpc2.horizon) == ("tdmpc2", "mppi", 3)
    assert (config.tdmpc2.latent, config.tdmpc2.units, config.tdmpc2.num_q) == (512, 512, 5)
    assert config.planner.candidates + config.planner.policy_candidates == 512
    assert workloads.SHAPES["tdmpc2_cpu"].config().tdmpc2.units == 256
    for name in ("tdmpc2", "tdmpc2_cpu"):
        pieces = [f"{name}/{piece}" for piece in ("update", "policy-1", "policy-8")]
        assert workloads.select([name]) == pieces
        formats = [f"{name}/update-{low}" for low in ("float32", "bfloat16", "bfloat16_products")]
        more = [pieces[0], *formats, f"{name}/update-seeds", *pieces[1:], f"{name}/onnx"]
        assert workloads.select([f"{name}/*"]) == more
    assert workloads.frames("update", config) == 256 * 4
    assert workloads.frames("policy-8", config) == 8


def test_the_decoder_takes_the_features_of_any_dynamics():
    shape = workloads.SHAPES["small"]
    shape = dataclasses.replace(
        shape, options={**shape.options, "world_model.dynamics": "transformer"}
    )
    config = shape.config().world_model
    size = config.transformer.width + config.transformer.stoch * config.transformer.classes
    assert workloads.feature_size(shape) == size
    config = workloads.SHAPES["small"].config().world_model.rssm
    assert workloads.feature_size(workloads.SHAPES["small"]) == config.deter + config.stoch * 8


@pytest.mark.parametrize("order", ["autoregressive", "parallel"])
def test_caches_change_no_return(order: str):
    """Shared, copied and no cache; a context that is left in mid-roll-out, a start within it."""
    config = TDMConfig(
        bins=16, order=order, decode="argmax", context=3, layers=2, heads=2, width=8, units=8
    )
    model = tdm.functions(config, 3, 2)
    params = jax.jit(model.init)(jax.random.key(1))
    rng = np.random.default_rng(0)
    steps = pad(
        {
            "x": rng.normal(size=(2, 4, 3)).astype(np.float32),
            "action": rng.uniform(-1, 1, (2, 4, 2)).astype(np.float32),
            "reward": rng.normal(size=(2, 4)).astype(np.float32),
            "is_first": np.array([[1, 0, 0, 0], [1, 0, 1, 0]], bool),
        },
        3,
        2,
    )
    actions = rng.uniform(-1, 1, (2, 5, 4, 2)).astype(np.float32)
    args, context = (params, jax.random.key(0)), model.start(params, steps)
    want = jax.jit(token_rollout(model))(*args, context, actions).rewards
    assert np.ptp(want) > 0.1
    for rollout, start in ((separate_rollout(model), context), (uncached(model, config), steps)):
        got = jax.jit(rollout)(*args, start, actions).rewards
        np.testing.assert_allclose(got, want, rtol=1e-4)


def test_imagined_steps_of_the_token_planners():
    config = workloads.SHAPES["tdm"].config()
    assert config.tdm.context == 16
    assert workloads.frames("planner-1", config) == 10 * 128
    assert workloads.frames("planner-separate", config) == 10 * 128
    assert workloads.frames("planner-uncached", config) == 10 * 4
    assert (
        "tdm/model" not in workloads.names() and "planet/planner-separate" not in workloads.names()
    )


def test_several_updates_in_one_program_are_so_many_updates(monkeypatch: pytest.MonkeyPatch):
    programs = []

    def count(function, args, repeats, feed_back=False):
        programs.append(str(jax.make_jaxpr(function)(*args)))
        return count_flops(function, *args)

    monkeypatch.setattr(workloads, "measure", count)
    quickstart = workloads.SHAPES["quickstart"]
    shape = dataclasses.replace(quickstart, presets=("quickstart", "debug"))
    once = workloads.update(shape, 1)
    assert workloads.chained_updates(shape, 1) == workloads.CHAIN * once
    assert workloads.several_seeds(shape, 1) == workloads.SEEDS * once
    assert workloads.update_in("bfloat16", shape, 1) == once
    assert ["bf16" in program for program in programs] == [False, False, False, True]
    config = quickstart.config()
    assert workloads.frames("update-chain", config) == workloads.CHAIN * 16 * 50
    assert workloads.frames("update-seeds", config) == workloads.SEEDS * 16 * 50


def test_whoever_times_waits_for_whoever_compiles(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(harness, "TURNS", tmp_path / "turns")
    order, times = [], threading.Event()

    def time_alone():
        times.set()
        with harness._timing(math.inf) as alone:
            order.append(("timed", alone))

    timing = threading.Thread(target=time_alone)
    with harness._compiling(), harness._compiling():
        timing.start()
        times.wait()
        timing.join(0.2)
        order.append("compiled")
    timing.join()
    assert order == ["compiled", ("timed", True)]


def test_on_a_gpu_whoever_times_does_not_wait_for_compilers_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "TURNS", tmp_path / "turns")
    with harness._compiling(), harness._timing(0.0) as alone:
        assert not alone
        with (tmp_path / "turns.time").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_peers_name_known_workloads():
    compared = [name for name in workloads.names() if record.peers(name)]
    assert "dmc_vision/update" in compared
    assert record.peers("dmc_vision/update")[0] == ("danijar/dreamerv2, TensorFlow 2", 3.03, 430)
    assert {peer.matmul_gflops for peer in record.peers("tdmpc2/update")} != {430}
    lines = record.PEERS.read_text().splitlines()[1:]
    assert len(lines) == sum(len(record.peers(name)) for name in compared)


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=800,
    )


def test_command_writes_a_record(tmp_path: pathlib.Path):
    options = ["--repeats", "1", "--jobs", "2", "--results", str(tmp_path)]
    done = run("quickstart/policy-1", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("quickstart/policy-1")
    result = json.loads((tmp_path / "quickstart-policy-1.json").read_text())
    assert result["frames_per_second"] == pytest.approx(1 / result["median"])
    config = workloads.SHAPES["quickstart"].config()
    assert result["config"]["world_model"]["rssm"]["deter"] == config.world_model.rssm.deter
    assert any(line.startswith("jax ") for line in result["versions"])


def test_command_names_a_mistake():
    done = run("quickstart", "--jobs", "0")
    assert (done.returncode, done.stderr) == (2, "error: --jobs is 0; expected at least 1\n")
    done = run("quikstart")
    assert done.returncode == 2
    assert done.stderr == "error: unknown workload 'quikstart'; did you mean 'quickstart'?\n"
