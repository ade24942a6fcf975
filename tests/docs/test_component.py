"""The page on the component: its script runs as it stands, and says what is so."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import common
from tests.test_documents import fenced

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "component.md"


def test_the_script_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mctx")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    exec(compile(fenced(PAGE.read_text(), "python")[0], str(PAGE), "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2] == "the same after loading: True"
    assert names["losses"][-1] < 0.9 * names["losses"][0]
    assert names["chosen"].shape == (8,) and set(np.asarray(names["chosen"])) <= {0, 1}
    assert names["decoded"].shape == (8, 5, 4)
    assert ((0 < names["goes_on"]) & (names["goes_on"] < 1 / 0.98)).all()  # Learned by a few steps.
    model, _ = common.load_world_model(tmp_path / "models" / "cartpole.npz")
    assert model.config == names["config"] and model.statistics["vector"]["batches"] == 60
