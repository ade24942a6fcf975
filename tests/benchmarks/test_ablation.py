"""Parts of DreamerV3 put into DreamerV2 one at a time: their presets, runs, table and picture."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import ablation
from common.command import presets
from common.config import options
from dreamer.program import load_program

SMALLER = {"model_opt.lr", "actor_opt.lr", "critic_opt.lr", "replay.minimum"}
"""What belongs to the size of the runs, and not to V3."""


def resolved(name):
    return {x.path: x.value for x in options(presets.resolve(load_program(), [str(name)]))}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The options of every part."""
    folder, parts = tmp_path_factory.mktemp("parts"), {}
    for number, part in enumerate(ablation.PARTS):
        path = folder / f"{number}.yaml"
        path.write_text(json.dumps(ablation.config(part)))
        parts[part] = resolved(path)
    return parts


def test_every_part_is_what_v3_has_instead(found):
    v2, v3, usual = resolved("dreamer_v2"), resolved("dmc_proprio_v3"), found["DreamerV2"]
    for part in list(ablation.PARTS)[1:]:
        changed = {name for name in usual if found[part][name] != usual[name]}
        assert changed, part
        for name in changed - SMALLER:
            theirs = re.sub("(actor|critic)_opt", "model_opt", name)  # They have a single one.
            assert found[part][name] == v3[theirs] != v2[name], (part, name)


def test_all_of_them_are_the_parts_together(found):
    together = {}
    for part in list(ablation.PARTS)[1:-1]:
        of_it = {n: v for n, v in found[part].items() if v != found["DreamerV2"][n]}
        assert not together.keys() & of_it.keys(), part
        together |= of_it
    assert found[ablation.ALL] == found["DreamerV2"] | together


@pytest.fixture
def small(monkeypatch):
    """A single part, which is learned within seconds."""
    base = {"includes": ["gym", "debug"], "run": {"eval_every": 100, "random_episodes": 1}}
    monkeypatch.setattr(ablation, "BASE", base)
    monkeypatch.setattr(ablation, "TASKS", {"gym_CartPole-v1": 200})
    monkeypatch.setattr(ablation, "PARTS", {"DreamerV2": {}})


def test_a_run_is_recorded_and_not_made_again(small, tmp_path, capfd):
    words = ["--results", str(tmp_path), "--seeds", "3", "--tasks", "gym_CartPole-v1"]
    assert ablation.main([*words, "--table"]) == 2
    assert ablation.main(words) == 2
    assert "--logdir is missing" in capfd.readouterr().err
    for runs in (1, 0):
        assert ablation.main([*words, "--logdir", str(tmp_path / "runs")]) == 0
        assert capfd.readouterr().out.count(">> run 1 of 1: DreamerV2, ") == runs
    (line,) = (tmp_path / ablation.RECORD).read_text().splitlines()
    recorded = json.loads(line)
    assert [frames for frames, _ in recorded["curve"]] == [100, 200]
    assert ablation.main([*words, "--table"]) == 0
    lines = capfd.readouterr().out.splitlines()
    end, mean = recorded["curve"][-1][1], ablation.mean_return(recorded)
    assert lines[2].startswith(f"| DreamerV2 | {mean:.0f}; {end:.0f} | ")
    assert lines[3] == f"random policy in `gym_CartPole-v1`: {recorded['random']:.1f}"
    assert (tmp_path / ablation.PICTURE).stat().st_size > 10_000


def test_a_run_with_other_options_or_frames_is_made_again(small, tmp_path, monkeypatch):
    options = ablation.config("DreamerV2") | {"frames": 200}
    line = {"part": "DreamerV2", "task": "gym_CartPole-v1", "seed": 1, "options": options}
    others = [
        line | {"seed": 2, "options": options | {"actor": {"layers": 1}}},
        line | {"seed": 3, "options": options | {"frames": 100}},
        line | {"part": "DreamerV4"},
    ]
    path = tmp_path / ablation.RECORD
    path.write_text("".join(f"{json.dumps(one)}\n" for one in (line, *others)))
    assert ablation.read(path) == {("DreamerV2", "gym_CartPole-v1", 1): line}
    monkeypatch.setitem(ablation.BASE, "model_opt", {"lr": 1e-3})
    assert ablation.read(path) == {}
