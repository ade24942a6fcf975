"""The page on data of one's own: its commands record, and its script learns from that."""

from __future__ import annotations

import pathlib
import shlex

import numpy as np
import pytest

import common
from common.command import line as cli
from dreamer.program import load_program
from tests.test_documents import fenced

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "own_data.md"
TINY = {
    '"data/maze", 1000': '"data/maze", 24',
    'units": 64': 'units": 16',
    "stoch=16, classes=16, deter=128, hidden=128": "stoch=4, classes=4, deter=16, hidden=16",
    "depth=8": "depth=1",
}
"""What makes the script one of seconds."""


@pytest.mark.slow
def test_what_the_page_shows_runs(tmp_path, monkeypatch, capsys):
    imageio = pytest.importorskip("imageio.v3")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    command = fenced(text, "")[0].splitlines()[0]
    assert command.startswith("dreamer record --task maze_goal") and command.count("30") == 1
    assert cli.main("dreamer", load_program, shlex.split(command.replace("30", "4"))[1:]) == 0
    (script,) = fenced(text, "python")
    for full, tiny in TINY.items():
        assert full in script, full
        script = script.replace(full, tiny)
    names = {"__name__": "__main__"}
    capsys.readouterr()
    exec(compile(script, str(PAGE), "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 episodes, ") and "mean error where a pixel moves" in lines[2]
    losses = names["losses"]
    assert len(losses) == 24 and np.mean(losses[-8:]) < np.mean(losses[:8])
    assert names["foreseen"].shape == (1, 11, 64, 64, 3) and len(names["rewards"]) == 4
    assert np.isfinite(names["errors"]).all()
    film = imageio.imread("maze.mp4")
    assert len(film) == 16 and film.shape[1] >= 3 * 64
    model, _ = common.load_world_model("models/maze.npz")
    assert model.config == names["config"] and model.actions.discrete
