"""Kernels of updates on a GPU, counted without one."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import pathlib
import types

import jax
import pytest

from benchmarks.speed import __main__ as speed
from benchmarks.speed import kernels
from benchmarks.speed.__main__ import RESULTS
from common.errors import UserError
from tests.benchmarks.test_speed import run

PROGRAM = """HloModule jit_update, entry_computation_layout={(f32[2]{0})->f32[2]{0}}

%fused (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %tanh = f32[2]{0} tanh(%p)
}

%inner (s: (s32[], f32[2])) -> (s32[], f32[2]) {
  %s = (s32[], f32[2]{0}) parameter(0)
  %x = f32[2]{0} get-tuple-element(%s), index=1
  %one = f32[2]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %out = (s32[], f32[2]{0}) tuple(%x, %one)
}

%outer.1 (s: (s32[], f32[2])) -> (s32[], f32[2]) {
  %s = (s32[], f32[2]{0}) parameter(0)
  %dot = (f32[2]{0}, s8[4]{0}) custom-call(%s), custom_call_target="__cublas$gemm"
  %copy = f32[2]{0} copy(%x)
  ROOT %w = (s32[], f32[2]{0}) while(%s), condition=%c, body=%inner, \
backend_config={"known_trip_count":{"n":"3"}}
}

%condition (s: (s32[], f32[2])) -> pred[] {
  ROOT %less = pred[] compare(%a, %b), direction=LT
}

ENTRY %main.7 (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %constant = s32[] constant(0)
  %fusion = f32[2]{0} fusion(%a), kind=kLoop, calls=%fused
  %w1 = (s32[], f32[2]{0}) while(%t), condition=%condition, body=%outer.1, \
backend_config={"known_trip_count":{"n":"5"}}
  %w2 = (s32[], f32[2]{0}) while(%t), condition=%condition, body=%inner, \
backend_config={"known_trip_count":{"n":"7"}}
  ROOT %bitcast = f32[2]{0} bitcast(%fusion)
}
"""


def test_kernels_of_a_program_with_loops_in_loops():
    """By hand: one outside, 5 steps of two and of three times one, 7 of one."""
    counted = kernels.count_kernels(PROGRAM)
    loops = kernels.Loop(5, 2 + 3 * 1), kernels.Loop(7, 1)
    assert counted == kernels.Kernels(1 + 5 * 5 + 7, 1, loops)


def test_a_record_is_one_line():
    record = {"workload": "a/kernels", "precision": "float32", "total": 1033, "outside": 1}
    line = kernels.format_line({**record, "loops": [{"steps": 5, "kernels": 5}]})
    assert line.split() == "a/kernels float32 1,033 kernels = 1 + 5 x 5".split()


@pytest.mark.parametrize("found", [None, "0.0.1"])
def test_packages_that_lack_or_are_of_another_jax_are_named(found, monkeypatch):
    original = importlib.metadata.version

    def version(name):
        if name not in kernels.PACKAGES:
            return original(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    jax = original("jax")
    with pytest.raises(UserError) as raised:
        kernels.prepare()
    assert str(raised.value) == (
        "--kernels needs more packages: pip install --no-deps "
        f"jax-cuda12-pjrt=={jax} jax-cuda12-plugin=={jax} nvidia-cuda-nvcc-cu12"
    )


def test_shapes_to_count_are_named():
    assert kernels.select([]) == list(kernels.PRECISIONS)
    assert kernels.select(["atari"]) == ["atari"]
    with pytest.raises(UserError, match="unknown shape 'smal'; did you mean 'small'"):
        kernels.select(["smal"])


def test_what_xla_cannot_compile_is_said_and_the_others_are_counted(tmp_path, monkeypatch, capsys):
    def compile_for_a_gpu(shape):
        if "planet" in shape.presets:
            raise jax.errors.JaxRuntimeError("INTERNAL: no tile\nin line 3")
        memory = types.SimpleNamespace(temp_size_in_bytes=2**30)
        return types.SimpleNamespace(as_text=lambda: PROGRAM, memory_analysis=lambda: memory)

    monkeypatch.setattr(kernels, "prepare", lambda: None)
    monkeypatch.setattr(kernels, "PACKAGES", ("jax",))
    monkeypatch.setattr(kernels, "_compile", compile_for_a_gpu)
    arguments = argparse.Namespace(workloads=["planet", "small"], results=tmp_path)
    assert speed.count_kernels(arguments) == 1
    out, err = capsys.readouterr()
    assert err == "error: planet was not compiled: INTERNAL: no tile\n"
    assert out.split()[:3] == ["small/kernels", "float32", "33"]
    assert [path.name for path in tmp_path.iterdir()] == ["small-kernels.json"]


def recorded(name: str) -> dict:
    return json.loads((RESULTS / f"{name}-kernels.json").read_text())


@pytest.mark.parametrize("name", kernels.PRECISIONS)
def test_records_add_up(name: str):
    record = recorded(name)
    loops = sum(loop["steps"] * loop["kernels"] for loop in record["loops"])
    assert record["total"] == record["outside"] + loops
    assert record["precision"] == kernels.PRECISIONS[name]


def test_the_loops_of_dreamer_from_pixels_stay_short():
    assert recorded("dmc_vision")["total"] <= 4_900


@pytest.mark.skipif(kernels.missing() is not None, reason="packages are missing")
def test_kernels_are_no_more_than_recorded(tmp_path: pathlib.Path):
    """At the recorded version of JAX; another one fuses otherwise."""
    done = run("quickstart", "--kernels", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "quickstart-kernels.json").read_text())
    assert found["total"] > 1000
    before = recorded("quickstart")
    if versions_of_jax(found) == versions_of_jax(before):
        assert found["total"] <= before["total"]


def versions_of_jax(record: dict) -> set[str]:
    return {line for line in record["versions"] if line.startswith("jax")}
