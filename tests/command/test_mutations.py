"""Random changes to presets and command lines end in a configuration or in one line."""

from __future__ import annotations

import pytest

from tests.command import mutations

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
