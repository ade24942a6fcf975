"""The doctor's judgements, and its probes on this machine."""

from __future__ import annotations

import pytest

from common.command import doctor
from common.errors import to_install

GOOD = dict.fromkeys(doctor.LIBRARIES, "1.0") | {"mujoco": "3.17.0"}


def test_python():
    assert doctor.check_python((3, 11, 0)).status == "ok"
    assert doctor.check_python((3, 10, 9)).status == "problem"


@pytest.mark.parametrize(
    "changes, problems",
    [
        ({}, []),
        ({"optax": None}, ["missing: optax"]),
        ({"mujoco": "4.0.0"}, ["dm_control needs 3.17"]),
        ({"mujoco": "3.12.0"}, ["dm_control needs 3.17"]),
        ({"mujoco": "3.20.1"}, []),
        ({"tensorflow-probability": "0.25.0"}, ["tensorflow-probability lies over tfp-nightly"]),
        ({"mujoco": None, "jax": None}, ["missing: jax, mujoco"]),
    ],
)
def test_libraries(changes, problems):
    found = [f for f in doctor.check_libraries((GOOD | changes).get) if f.status == "problem"]
    assert len(found) == len(problems)
    for finding, words in zip(found, problems, strict=True):
        assert words in finding.detail
        assert finding.remedy.startswith("pip ")


def test_processor(tmp_path, monkeypatch):
    for flags, known in (("flags: fpu amx_tile amx_bf16", True), ("flags: avx512_bf16", False)):
        monkeypatch.setattr(doctor, "PROCESSORS", tmp_path / "cpuinfo")
        doctor.PROCESSORS.write_text(flags)
        assert doctor.multiplies_bfloat16() == known
    doctor.PROCESSORS.unlink()
    assert not doctor.multiplies_bfloat16()


def test_what_is_missing_can_be_installed_with_any_python():
    names = "optax", "dm_control", "'mujoco>=3.17,<4'"
    assert to_install(*names, python=(3, 12)) == f"pip install {' '.join(names)}"
    alone = "pip install --no-deps dm_control"
    assert to_install(*names, python=(3, 13)) == f"pip install optax {names[-1]} && {alone}"
    assert to_install("dm_control", python=(3, 14)) == alone


@pytest.mark.parametrize(
    "passed, line, has_gpu, status",
    [
        (True, "cpu (1 x cpu)", False, "ok"),
        (True, "gpu (1 x H200)", True, "ok"),
        (True, "cpu (1 x cpu)", True, "note"),
        (False, "boom", True, "problem"),
        (False, "boom", False, "problem"),
    ],
)
def test_jax(passed, line, has_gpu, status):
    finding = doctor.check_jax(passed, line, has_gpu)
    assert finding.status == status
    assert bool(finding.remedy) == (status != "ok")
    assert ("[gpu]" in finding.remedy) == (has_gpu and status != "ok")


def test_every_fault_has_a_remedy():
    for finding in (
        doctor.check_memory(1.0, 2),
        doctor.check_disk(1.0),
        doctor.check_renderer(False, "no EGL"),
        doctor.check_probe("atari", False, "no ROM", "reinstall"),
    ):
        assert finding.status in ("note", "problem") and finding.remedy
    for finding in (doctor.check_memory(64.0, 2), doctor.check_disk(64.0)):
        assert finding.status == "ok" and not finding.remedy


def test_exit_code_and_report(monkeypatch, capsys):
    bad = doctor.Finding("renderer", "problem", "no EGL", "apt-get install libegl1")
    monkeypatch.setattr(doctor, "findings", lambda: iter([doctor.Finding("a", "ok", "fine"), bad]))
    assert doctor.run() == 1
    text = capsys.readouterr().out
    assert "-> apt-get install libegl1" in text and "1 problem found." in text
    monkeypatch.setattr(doctor, "findings", lambda: iter([doctor.Finding("a", "note", "x", "y")]))
    assert doctor.run() == 0
    assert "Ready to train." in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(doctor.PROBES))
def test_probes_pass_here(name):
    passed, line = doctor.probe(name)
    if name == "renderer" and not passed:
        pytest.skip(f"this machine has no OpenGL: {line}")
    assert passed, line


def test_a_failing_probe_tells_its_last_line(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    passed, line = doctor.probe("renderer")
    assert not passed
    assert "nonsense" in line.lower() or "MUJOCO_GL" in line


def test_a_hanging_probe_is_ended():
    passed, line = doctor.probe("jax", seconds=0.05)
    assert not passed and line == "no answer within 0.05 s"
