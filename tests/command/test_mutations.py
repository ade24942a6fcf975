"""Random changes to presets and command lines end in a configuration or in one line."""

from __future__ import annotations

import json
import pathlib

import pytest

from tests.command import mutations

RECORD = (
    pathlib.Path(__file__).resolve().parents[2] / "benchmarks/results/reliability/mutations.json"
)
FEW = 30


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["preset", "line"])
def test_few(kind):
    made = {"preset": mutations.preset_mutations, "line": mutations.line_mutations}[kind]
    outcomes = [outcome() for outcome in made(FEW, seed=1)]
    assert set(outcomes) == {"accepted", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["preset", "line"])
def test_many(kind):
    made = {"preset": mutations.preset_mutations, "line": mutations.line_mutations}[kind]
    found = mutations.count(made(10_000, seed=2))
    assert found["tracebacks"] == 0 and min(found["accepted"], found["refused"]) > 100


def test_the_record_is_of_a_run_without_tracebacks():
    record = json.loads(RECORD.read_text())
    for kind in ("presets", "command_lines"):
        assert record[kind]["tracebacks"] == 0
        assert sum(record[kind].values()) == 10_000
