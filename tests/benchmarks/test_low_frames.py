"""Recorded runs beside published ones: which numbers stand in the table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import low_frames
from common.published.tables import read_rows

PUBLISHED = {
    ("tdmpc2", "cup_catch", 100_000): 981.2,
    ("tdmpc2", "walker_walk", 100_000): 961.9,
    ("bro_utd2", "cup_catch", 100_000): 970.0,
    ("bro_utd2", "cup_catch", 50_000): 936.0,
}


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes a record with these evaluations of every seed."""

    def write(name, task, *seeds):
        curves = [{"evaluations": [[*row, 0, 0, 0] for row in seed]} for seed in seeds]
        record = {"task": task, "curves": curves, "random_return": [None, 20.0]}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
        return low_frames.read_record(tmp_path / f"{name}.json")

    return write


def test_the_table_has_everybody_after_the_same_frames(write):
    cup = write("cup", "dmc_ball_in_cup_catch", [(5e4, 1), (1e5, 800)], [(5e4, 2), (1e5, 900)])
    walker = write("walker", "dmc_walker_walk", [(8e4, 500.0), (2e5, 950.0)])
    assert cup.task == "cup_catch" and cup.random == 20
    assert low_frames.table([cup, walker], PUBLISHED, 100_000).splitlines() == [
        "| 100,000 frames | ours | each seed | random | TD-MPC2 | BRO |",
        "|---|---|---|---|---|---|",
        "| cup_catch | **850** | 800, 900 | 20 | 981 | 970 |",
        "| walker_walk (at 80,000) | **500** | 500 | 20 | 962 |  |",
        "| mean of 2 | **675** | | | 972 |  |",
    ]


def test_seeds_of_other_frames_are_no_mean(write):
    with pytest.raises(low_frames.UserError, match="not evaluated at the same frames"):
        write("cup", "dmc_cup_catch", [(5e4, 1)], [(1e5, 2)])


def test_what_is_missing_is_said_in_one_line(write, tmp_path, capsys):
    write("cup", "dmc_cup_catch", [(5e4, 1)])
    words = ["one", "cup", "--results", str(tmp_path)]
    assert low_frames.main(["one", "other", *words[2:]]) == 2
    assert "there is no record" in capsys.readouterr().err
    assert low_frames.main([*words, "--frames", "40000"]) == 2
    assert capsys.readouterr().err == "error: --frames is 40000; a record begins later\n"
    assert low_frames.main([*words, "--frames", "60000", "--pixels"]) == 0
    assert "| cup_catch (at 50,000) | **1** | 1 | 20 |" in capsys.readouterr().out
    assert (tmp_path / "one_low_frames.png").stat().st_size > 10_000


def test_published_means_are_those_of_their_seeds():
    """Sample: TD-MPC2 at 100,000 frames, whose mean over the five tasks of two cores is 933."""
    published = low_frames.read_published(pixels=False)
    tasks = "cartpole_swingup cup_catch reacher_easy walker_walk finger_spin".split()
    means = [published["tdmpc2", task, 100_000] for task in tasks]
    assert round(float(np.mean(means))) == 933
    for one in read_rows("dmc_state_low_frames.csv"):
        seeds = [float(value) for value in one["per_seed"].split()]
        if seeds:
            # Seeds are rounded to whole numbers.
            assert float(one["mean"]) == pytest.approx(np.mean(seeds), abs=0.55), one
