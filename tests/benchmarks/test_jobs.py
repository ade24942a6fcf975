"""Job lists, records of attempts, states, and the run and status commands."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest

from benchmarks import __main__ as program
from benchmarks.jobs import plan as plans
from benchmarks.jobs import record as records
from benchmarks.jobs import states
from benchmarks.jobs.plan import Job
from benchmarks.jobs.work import Work
from benchmarks.suites import SUITES, suite
from common.errors import UserError
from tests.benchmarks.scripted import FINISH, ScriptedPlan, leave, scripted

TINY = ["--configs", "dmc_proprio", "debug", "--games", "walker_walk", "--seeds", "2"]


def main(*words):
    """Runs a command line of the benchmarks."""
    return program.main([str(word) for word in words])


@pytest.mark.parametrize(
    "name, games", [("atari", 55), ("atari100k", 26), ("dmc", 20), ("dmc_proprio", 20)]
)
def test_a_suite_has_a_job_per_game_and_seed(name, games, tmp_path):
    plan = plans.make(suite(name), tmp_path, "dreamer", (), ["all"], 5, ())
    assert len(set(plan.jobs)) == len(plan.jobs) == 5 * games
    assert plan.configs == suite(name).configs
    assert plan.frames == suite(name).protocol.frames


def test_a_job_is_a_train_command(tmp_path):
    options = ["--run.frames", "4e3", "--rssm.deter", "8"]
    plan = plans.make(suite("atari"), tmp_path, "planet", ["atari", "debug"], ["PONG"], 2, options)
    assert plan.jobs == (Job("Pong", 0, "atari_pong"), Job("Pong", 1, "atari_pong"))
    assert plan.frames == 4000
    folder = tmp_path / "planet" / "Pong" / "seed-1"
    assert plan.command(plan.jobs[1]) == [
        *f"{sys.executable} -m planet train --configs atari debug".split(),
        *f"--task atari_pong --seed 1 --logdir {folder}".split(),
        *options,
    ]


@pytest.mark.parametrize("name", ["MsPacman", "mspacman", "ms_pacman", "atari_ms_pacman"])
def test_games_are_named_as_in_tables_or_as_tasks(name):
    assert plans.choose_games(suite("atari"), ["Pong", name, name]) == ["MsPacman", "Pong"]


def test_a_preset_of_ones_own_is_named_by_its_whole_path(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("run: {frames: 123}")
    monkeypatch.chdir(tmp_path)
    plan = plans.make(suite("dmc"), tmp_path, "dreamer", ["mine.yaml"], ["all"], 1, ())
    assert plan.configs == (str(tmp_path / "mine.yaml"),) and plan.frames == 123


def test_job_lists_are_read_as_written_and_grow(tmp_path):
    first = scripted(tmp_path / "deep" / "er", games="ab")
    read = plans.read(first.logdir)
    assert read.jobs == first.jobs and read.configs == first.configs
    more = scripted(tmp_path / "other", games="bc", seeds=2)
    more = plans.extend(plans.Plan(**{**vars(more), "logdir": first.logdir}))
    assert [(job.game, job.seed) for job in more.jobs] == [
        *[("a", 0), ("b", 0), ("b", 1), ("c", 0), ("c", 1)]
    ]
    plans.write(more)
    assert plans.read(first.logdir).jobs == more.jobs


@pytest.mark.parametrize(
    "changed, words",
    [
        (["--agent", "planet"], "agent dreamer, not planet"),
        (["--configs", "dmc_proprio"], "configs dmc_proprio debug, not dmc_proprio"),
        (["--", "--run.log_every", "7"], "options (none), not --run.log_every 7"),
    ],
)
def test_another_benchmark_in_the_folder_is_refused(changed, words, tmp_path, capsys):
    plan = plans.make(suite("dmc_proprio"), tmp_path, "dreamer", TINY[1:3], ["walker_walk"], 2, ())
    plans.write(plan)
    before = (tmp_path / "jobs.json").read_text()
    assert main("dmc_proprio", "run", "--logdir", tmp_path, *TINY, *changed) == 2
    error = capsys.readouterr().err
    assert words in error and "choose another --logdir" in error and error.count("\n") == 1
    assert (tmp_path / "jobs.json").read_text() == before


@pytest.mark.parametrize(
    "words, message",
    [
        ("atarii run", "unknown suite 'atarii'; did you mean 'atari'?"),
        ("atari rum", "unknown command 'rum'; did you mean 'run'?"),
        ("atari run", "--logdir"),
        ("atari run --logdir x --game Pong", "unknown option --game; did you mean '--games'?"),
        ("atari run --logdir x --games Pnog", "atari has no game 'Pnog'; did you mean 'pong'?"),
        ("dmc run --logdir x --games Pong", "dmc has no game 'Pong'"),
        ("atari run --logdir x --agent dremer", "did you mean 'dreamer'?"),
        ("atari run --logdir x --configs atary", "did you mean 'atari'?"),
        ("atari run --logdir x --seeds 0", "--seeds is 0; expected at least 1"),
        ("atari run --logdir x --seeds many", "invalid int value: 'many'"),
        ("atari run --logdir x --launcher slrm", "did you mean 'slurm'?"),
        ("atari run --logdir x --jobs 0", "--jobs is 0; expected at least 1"),
        ("atari run --logdir x --retries -1", "--retries is -1; expected at least 0"),
        ("atari run --logdir x --jobs 2 --cores 999", "2 jobs of 999 cores need 1998 cores"),
        ("atari run --logdir x --gpus 1", "CUDA_VISIBLE_DEVICES"),
        ("atari run --logdir x --launcher slurm --gpus 0.5", "whole ones only"),
        ("atari run --logdir x -- --run.frame 1", "did you mean '--run.frames'?"),
        ("atari run --logdir x -- --task atari_pong", "the job list sets --task of every run"),
        ("atari run --logdir x -- --configs debug", "give it before the --"),
        ("atari status --logdir x", "there is no job list in"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert main(*words.split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["--help"], ["atari"], ["atari", "--help"]])
def test_the_overview_names_everything(words, capsys):
    assert main(*words) == 0
    out = capsys.readouterr().out
    for name in (*SUITES, *program.COMMANDS, "for example:"):
        assert name in out


def test_a_job_list_of_another_suite_or_program_is_refused(tmp_path, capsys):
    scripted(tmp_path)
    assert main("dmc", "status", "--logdir", tmp_path) == 2
    assert "holds a benchmark of atari, not of dmc" in capsys.readouterr().err
    (tmp_path / "jobs.json").write_text('{"jobs": 3}')
    with pytest.raises(UserError, match="not a job list"):
        plans.read(tmp_path)


def test_printed_commands_are_those_left_and_nothing_is_touched(tmp_path, capsys):
    words = ["dmc_proprio", "run", *TINY, "--logdir", tmp_path / "new", "--print-commands"]
    assert main(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and not (tmp_path / "new").exists()
    assert lines[0].endswith(f"--seed 0 --logdir {tmp_path}/new/dreamer/walker_walk/seed-0")
    plan = plans.make(
        suite("dmc_proprio"), tmp_path / "new", "dreamer", TINY[1:3], TINY[4:5], 2, ()
    )
    leave(plan, plan.jobs[0], plan.frames, finished=plan.frames)
    assert main(*words) == 0
    assert capsys.readouterr().out.splitlines() == lines[1:]


def test_jobs_that_only_the_list_names_are_not_started(tmp_path, capsys):
    words = ["dmc_proprio", "run", *TINY, "--logdir", tmp_path, "--print-commands"]
    plan = plans.make(suite("dmc_proprio"), tmp_path, "dreamer", TINY[1:3], TINY[4:5], 2, ())
    mine = Job("evil", 0, "subprocess:getoutput")
    plans.write(plans.Plan(**{**vars(plan), "jobs": (*plan.jobs, mine)}))
    assert main(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and not any("evil" in line or "subprocess" in line for line in lines)


@pytest.mark.parametrize("word, module", [("score", "scores"), ("report", "page")])
def test_scores_and_reports_have_commands_of_their_own(word, module, monkeypatch):
    called = types.ModuleType("command")
    setattr(called, word, lambda *given: given)
    monkeypatch.setitem(sys.modules, f"benchmarks.{module}", types.ModuleType(module))
    monkeypatch.setitem(sys.modules, f"benchmarks.{module}.command", called)
    assert main("atari", word, "--logdir", "x") == ("atari", ["--logdir", "x"])


def test_a_failing_job_is_tried_again_and_then_given_up(tmp_path):
    plan = scripted(tmp_path, 'echo "attempt of $2"; exit 3')
    job = plan.jobs[0]
    assert Work(plan, job, retries=2).run() == "failed"
    record = records.read(plan.record(job))
    assert [one.outcome for one in record.attempts] == ["failed"] * 3
    assert [one.exit for one in record.attempts] == [3] * 3 and record.failed
    assert plan.log(job).read_text().splitlines().count("attempt of a") == 3
    assert states.progress(plan, job).state == "failed"
    said = states.failure(plan, job)
    assert "a seed 0, exit code 3, 3 failed attempt(s)" in said and "| attempt of a" in said
    assert Work(plan, job, retries=2).run() == "failed"
    assert len(records.read(plan.record(job)).attempts) == 3
    records.renew(plan.record(job), plan.log(job))
    assert states.progress(plan, job).state == "waiting"
    (tmp_path / "script.sh").write_text(FINISH)
    assert Work(plan, job, retries=2).run() == "done"
    assert states.progress(plan, job).state == "done"


def test_a_mistake_is_not_tried_again(tmp_path):
    plan = scripted(tmp_path, "exit 2")
    assert Work(plan, plan.jobs[0], retries=5).run() == "failed"
    assert len(records.read(plan.record(plan.jobs[0])).attempts) == 1


def test_failures_are_counted_across_launchers_that_were_killed(tmp_path):
    plan = scripted(tmp_path, "exit 1")
    job = plan.jobs[0]
    record = records.Record()
    record.begin("here")
    record.end("failed", 1)
    record.failures = 1
    record.begin("here")  # Its launcher was killed.
    record.write(plan.record(job))
    records.renew(plan.record(job), plan.log(job))
    assert Work(plan, job, retries=2).run() == "failed"
    found = [one.outcome for one in records.read(plan.record(job)).attempts]
    assert found == ["failed", "lost", "failed", "failed"]


def test_a_run_that_was_stopped_is_no_failure(tmp_path):
    plan = scripted(tmp_path, "exit 0")
    assert Work(plan, plan.jobs[0], retries=0).run() == "stopped"
    assert states.progress(plan, plan.jobs[0]).state == "waiting"


def test_a_job_is_locked_as_long_as_its_process_lives(tmp_path):
    """Also when whoever started the process is gone."""
    plan = scripted(tmp_path)
    job = plan.jobs[0]
    with records.hold(plan.log(job)) as log:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        assert Work(plan, job, retries=0).run() == "held"
    assert states.progress(plan, job).state == "running"
    assert Work(plan, job, retries=0).run() == "held"
    process.communicate()
    assert states.progress(plan, job).state == "waiting"
    assert Work(plan, job, retries=0).run() == "done"


DAMAGED = ["", "{", "[]", "3", "\x00", "[" * 100_000, '{"attempts": 3}', '{"attempts": [3]}',
           '{"attempts": [{"started": 1, "host": "x"}]}', '{"attempts": [], "failures": "x"}',
           '{"attempts": [], "failed": true, "more": 1}', '{"failures": 1}']  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_record_is_an_empty_one_and_named(text, tmp_path):
    plan = scripted(tmp_path)
    path = plan.record(plan.jobs[0])
    path.write_text(text)
    with pytest.warns(UserWarning, match=f"the record {path} is damaged and counts as empty"):
        assert records.read(path) == records.Record()
    with pytest.warns(UserWarning, match="damaged"):
        assert states.progress(plan, plan.jobs[0]).state == "waiting"
        assert Work(plan, plan.jobs[0], retries=0).run() == "done"
    assert len(records.read(path).attempts) == 1


@pytest.mark.parametrize(
    "index",
    ["", "[]", "{}", '{"metadata": 3}', "[" * 100_000,
     '{"metadata": {"frames": "x", "finished_frames": null}}'],
)  # fmt: skip
def test_a_damaged_checkpoint_stops_no_other_job(index, tmp_path, capsys):
    plan = scripted(tmp_path)
    one, other, _ = plan.jobs
    for job in (one, other):
        leave(plan, job, plan.frames, finished=plan.frames)
    path = plan.folder(one) / "checkpoints" / f"{plan.frames:012d}" / "checkpoint.json"
    path.write_text(index)
    with pytest.warns(UserWarning, match=f"newest checkpoint in {path.parents[1]} is damaged; a s"):
        assert states.progress(plan, one).state == "waiting"
    with pytest.warns(UserWarning, match="damaged"):
        assert main("atari", "status", "--logdir", tmp_path) == 0
    assert "1 done, 2 waiting" in capsys.readouterr().out


def test_odd_lines_of_metrics_are_passed_over(tmp_path):
    plan = scripted(tmp_path)
    leave(plan, plan.jobs[0], 10)
    lines = ['{"frames": 20, "time/frames_per_s": 3}', '{"frames": "x"}', "[]", "[" * 100_000,
             '{"frames": 30, "time/frames_per_s": "x"}', '{"frames": 1e400}', "\x00"]  # fmt: skip
    (plan.folder(plan.jobs[0]) / "metrics.jsonl").write_text("\n".join(lines))
    assert states.progress(plan, plan.jobs[0])[:2] == ("waiting", 30)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 100_000, '{"jobs": 3}', '{"jobs": [{"game": "../x", "seed": 0}]}'],
)
def test_a_damaged_job_list_is_an_empty_one_and_named(text, tmp_path, capsys):
    plan = scripted(tmp_path)
    (tmp_path / "jobs.json").write_text(text)
    with pytest.warns(UserWarning, match=r"jobs\.json is not a job list of this package"):
        assert plans.extend(plan) == plan
    assert main("atari", "status", "--logdir", tmp_path) == 2
    err = capsys.readouterr().err
    assert "jobs.json is not a job list" in err and "the run command writes it anew" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [{"frames": "x"}, {"frames": 0}, {"agent": "../.."}, {"configs": [3]}, {"jobs": []},
     {"jobs": [{"game": "a/b", "seed": 0, "task": "x"}]}, {"suite": None},
     {"jobs": [{"game": "a", "seed": "0", "task": "x"}]}],
)  # fmt: skip
def test_a_job_list_of_other_entries_is_refused(change, tmp_path):
    scripted(tmp_path)
    values = json.loads((tmp_path / "jobs.json").read_text())
    (tmp_path / "jobs.json").write_text(json.dumps(values | change))
    with pytest.raises(UserError, match="not a job list of this package"):
        plans.read(tmp_path)


def test_a_file_system_without_locks_works_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(records.fcntl, "flock", refuse)
    plan = scripted(tmp_path)
    assert Work(plan, plan.jobs[0], retries=0).run() == "done"


def test_the_process_gets_variables_and_finds_the_package(tmp_path):
    plan = scripted(tmp_path, 'cd /; "$PYTHON" -c "import benchmarks.suites"; echo "$MINE"')
    Work(plan, plan.jobs[0], 0, {"MINE": "a word", "PYTHON": sys.executable}).run()
    assert plan.log(plan.jobs[0]).read_text().splitlines()[2:] == ["a word"]


def test_the_signal_before_the_end_of_time_does_not_reach_the_process(tmp_path):
    class Shown(ScriptedPlan):
        def command(self, job):
            return ["grep", "SigBlk", "/proc/self/status"]

    plan = Shown(**vars(scripted(tmp_path)))
    Work(plan, plan.jobs[0], retries=0).run()
    blocked = int(plan.log(plan.jobs[0]).read_text().split()[-1], 16)
    assert blocked & 1 << signal.SIGUSR2 - 1
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_run_that_was_killed_before_its_report_is_not_done(tmp_path):
    plan = scripted(tmp_path)
    job = plan.jobs[0]
    leave(plan, job, plan.frames, finished=plan.frames)
    (plan.folder(job) / "report.html").unlink()
    assert states.progress(plan, job).state == "waiting"


def test_status_shows_every_job_and_when_the_rest_is_done(tmp_path, capsys):
    plan = scripted(tmp_path, "echo broken; exit 1", games="ab", seeds=2)
    done, running, failed, waiting = plan.jobs
    leave(plan, done, 100, finished=100, speed=5.0)
    leave(plan, running, 40, speed=2.0)
    with (plan.folder(running) / "metrics.jsonl").open("a") as file:
        file.write('{"frames": 50, "time/frames_per_s": 2.0}\n{"frames": 5')
    leave(plan, failed, 25, speed=3.0)
    Work(plan, failed, retries=0).run()
    with records.hold(plan.log(running)):
        assert main("atari", "status", "--logdir", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dreamer on atari, debug"
    assert [line.split() for line in lines[2:5]] == [
        ["seed", "0", "seed", "1"],
        ["a", "done", "running", "50%"],
        ["b", "failed", "25%", "waiting"],
    ]
    assert lines[6] == (
        "4 jobs: 1 done, 1 running, 1 failed, 1 waiting; 175 of 400 frames (43.8%), "
        "2 frames/s, ETA 2 min"  # 50 frames of the running one, 100 of the one that waits.
    )
    assert "failed: b seed 0" in lines[7] and lines[-1] == "  | broken"


@pytest.mark.parametrize(
    "seconds, words",
    [(1, "1 min"), (3599, "60 min"), (7260, "2 h 1 min"), (90_000, "1 d 1 h"), (float("inf"), "?")],
)
def test_durations(seconds, words):
    assert states.duration(seconds) == words


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    plan = scripted(tmp_path)
    path = plan.folder(plan.jobs[0]) / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps({'frames': i / 1e4})}\n" for i in range(100_000)))
    assert states.progress(plan, plan.jobs[0]).frames == 9.9999


def test_folders_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    plan = scripted(tmp_path)
    with pytest.raises(UserError, match="choose another --logdir"):
        plans.write(plans.Plan(**{**vars(plan), "logdir": pathlib.Path(tmp_path / "file")}))
    assert "jobs.json" in os.listdir(tmp_path)
