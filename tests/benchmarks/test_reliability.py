"""Runs that are killed often lose nothing, by the script that records it."""

from __future__ import annotations

import json

import pytest

from benchmarks import reliability
from common.errors import UserError
from common.run import folder as run_folder


def kill(tmp_path, monkeypatch, kills, environments):
    """Runs the script; returns its record."""
    words = f"--logdir {tmp_path / 'kills'} --results {tmp_path / 'results'} --kills {kills}"
    words += f" --environments {environments}"
    monkeypatch.setattr("sys.argv", ["reliability", *words.split()])
    assert reliability.main() == 0
    return json.loads((tmp_path / "results" / f"kills-{environments}.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(20_000)
@pytest.mark.parametrize("environments", [1, 4])
def test_a_hundred_kills_lose_nothing(environments, tmp_path, monkeypatch):
    found = kill(tmp_path, monkeypatch, 100, environments)
    assert found["kills"] == 100 and found["end"]["updates"] > 100


def test_what_was_lost_is_noticed(tmp_path, monkeypatch):
    found = kill(tmp_path, monkeypatch, 1, 2)
    assert found["kills"] == 1 and found["environments"] == 2
    logdir = tmp_path / "kills" / "run"
    for name, last, words in [
        (run_folder.SCORES, 1, "every episode has its score"),
        (run_folder.METRICS, 2, "metrics are in order"),  # The last of the log, an evaluation.
    ]:
        path = logdir / name
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:-last]))
        with pytest.raises(UserError, match=words):
            reliability.check(logdir, 2)
        path.write_text("".join(lines))
    assert reliability.check(logdir, 2) == found["end"]
    min((logdir / run_folder.REPLAY).glob("*.npz")).unlink()
    with pytest.raises(UserError, match="every step is in the replay; every episode is in"):
        reliability.check(logdir, 2)
