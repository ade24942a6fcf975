"""Jobs that share a process: who is with whom, and a benchmark made that way."""

from __future__ import annotations

import shlex

import pytest

from benchmarks.__main__ import main
from benchmarks.jobs import crew, local, states
from benchmarks.jobs import plan as plans
from benchmarks.jobs import record as records
from benchmarks.jobs.plan import Job, Plan
from common.errors import UserError
from tests.benchmarks.scripted import FINISH, scripted


def plan(logdir, suite="dmc", games="ab", seeds=3, fleet=2):
    """A job list."""
    jobs = [Job(game, seed, f"task_{game}") for game in games for seed in range(seeds)]
    return Plan(logdir, suite, "dreamer", ("debug",), (), 100, tuple(jobs), fleet)


def test_seeds_of_a_game_go_together(tmp_path):
    found = plan(tmp_path)
    crews = [found.crew(job) for job in found.jobs]
    names = [[f"{one.game}{one.seed}" for one in members] for members in crews]
    assert names == [["a0", "a1"]] * 2 + [["a2"]] + [["b0", "b1"]] * 2 + [["b2"]]
    assert (
        found.name(found.jobs[1]) == "a seed 0 and 1 more"
        and found.name(found.jobs[2]) == "a seed 2"
    )
    assert found.log(found.jobs[1]) == found.log(found.jobs[0]) != found.log(found.jobs[2])
    assert found.folder(found.jobs[1]) != found.folder(found.jobs[0])
    assert found.command(found.jobs[1])[1:] == [
        "-m",
        "benchmarks.jobs.crew",
        str(tmp_path),
        "a",
        "0",
    ]


def test_games_of_atari_go_together(tmp_path):
    found = plan(tmp_path, suite="atari", fleet=4)
    assert [x.game for x in found.crew(found.jobs[0])] == ["a", "a", "a", "b"]
    assert len(found.crew(found.jobs[5])) == 2


def test_alone_nothing_is_different(tmp_path):
    found = plan(tmp_path, fleet=1)
    assert all(found.crew(job) == (job,) for job in found.jobs)
    assert "train" in found.command(found.jobs[0]) and found.name(found.jobs[0]) == "a seed 0"


def test_a_job_is_done_when_all_of_its_crew_are(tmp_path, capsys):
    """A script that makes one run a time: its launcher starts it again until all are there."""
    made = scripted(tmp_path, f"{FINISH} exit 0", games="a", seeds=2)
    both = type(made)(**{**vars(made), "fleet": 2})
    plans.write(both)
    first, second = both.jobs
    assert local.launch(both, [first], local.make_slots(1, None, [], [0]), retries=0)
    assert states.finished(both, first) and not states.finished(both, second)
    assert [one.outcome for one in records.read(both.record(first)).attempts][:1] == ["stopped"]
    assert "started: a seed 0 and 1 more, attempt 1" in capsys.readouterr().out


def test_a_benchmark_in_fleets(tmp_path, capsys):
    """Two seeds of a task, trained by one process, by the command of users."""
    words = ["dmc_proprio", "run", "--games", "cartpole_swingup", "--seeds", "2", "--fleet", "2"]
    words += ["--configs", "dmc_proprio", "debug", "--logdir", str(tmp_path)]
    own = ["--", "--run.frames", "700", "--run.video", "false", "--run.eval_episodes", "1"]
    assert main([*words, "--print-commands", *own]) == 0
    assert shlex.split(capsys.readouterr().out)[2] == "benchmarks.jobs.crew"
    assert main([*words, *own]) == 0
    out = capsys.readouterr().out
    assert "done: cartpole_swingup seed 0 and 1 more" in out and "2 done" in out.splitlines()[-1]
    for seed in (0, 1):
        folder = tmp_path / "dreamer" / "cartpole_swingup" / f"seed-{seed}"
        assert (folder / "report.html").exists() and (folder / "export.npz").exists()
    assert main([*words, *own]) == 0 and "2 done before" in capsys.readouterr().out
    assert main(["dmc_proprio", "status", "--logdir", str(tmp_path)]) == 0
    with pytest.raises(UserError, match="holds a benchmark with fleet 2, not 1"):
        plans.extend(Plan(**{**vars(plans.read(tmp_path)), "fleet": 1}))


def test_mistakes(tmp_path):
    plans.write(plan(tmp_path))
    with pytest.raises(UserError, match="lists no job c seed 0"):
        crew.run([str(tmp_path), "c", "0"])
    assert main(["dmc", "run", "--fleet", "0", "--logdir", str(tmp_path / "x")]) == 2


@pytest.mark.parametrize(
    ("own", "options", "fault"),
    [
        (("--agent", "planet", "--configs", "planet_state"), (), "run.updates_per_episode is 200"),
        ((), ("--run.devices", "2"), "learns on one device of one process"),
        ((), ("--run.coordinator", "h:1,2,0"), "in one process; leave out"),
    ],
)
def test_what_no_fleet_can_have_is_said_before_any_job(tmp_path, capsys, own, options, fault):
    words = ["dmc_proprio", "run", "--games", "cup_catch", "--logdir", str(tmp_path / "x"), *own]
    assert main([*words, "--fleet", "2", "--", *options]) == 2
    assert fault in capsys.readouterr().err and not (tmp_path / "x").exists()
