"""Mistakes of users: one line that names fault and remedy, exit code 2, nothing left behind."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from common.command import line as cli
from dreamer.program import main
from tests import fake_agent

TOYS = "tests.envs.toys"
GYM = "--configs gym debug --task gym_CartPole-v1"

TRAIN = [
    # Names.
    ("--configs dmc_visoin", "unknown preset 'dmc_visoin'; did you mean 'dmc_vision'?"),
    ("--configs mine.yaml", "cannot read mine.yaml: No such file or directory"),
    (f"{GYM} --rssm.detr 5", "unknown option --rssm.detr; did you mean '--rssm.deter'?"),
    (f"{GYM} --task gym_CartPol-v1", "unknown task 'gym_CartPol-v1'"),
    (f"{GYM} --task dmc_walker_wlk", "unknown task 'dmc_walker_wlk'; did you mean"),
    (f"{GYM} --task atari_pomg", "unknown task 'atari_pomg'; did you mean 'atari_pong'?"),
    (f"{GYM} --task nope", "a task is one of dmc_<domain>_<task>, atari_<game>, memory_<world>"),
    (f"{GYM} --task no.module:make", "there is no module 'no'; install it, or run in the folder"),
    (f"{GYM} --task {TOYS}:Countr", "has no function 'Countr'; did you mean 'Counter'?"),
    (f"{GYM} --task {TOYS}:make_number", "expected a gymnasium.Env"),
    (f"{GYM} --encoder.vectors speed", "encoder.vectors='speed' matches no vector; the keys are"),
    (f"{GYM} --encoder.images front", "encoder.images='front' matches no image; the keys are"),
    (f"{GYM} --decoder.vectors (", "decoder.vectors='(' is no regular expression"),
    (f"{GYM} --env.kwargs.foo 3", "env.kwargs do not fit gym_CartPole-v1"),
    # Types.
    (f"{GYM} --seed 1.5", "seed must be an integer, not '1.5'"),
    (f"{GYM} --run.video maybe", "run.video must be true or false, not 'maybe'"),
    (f"{GYM} --rssm.cell gruu", "rssm.cell cannot be 'gruu'; did you mean 'gru'?"),
    # Values.
    (
        f"{GYM} --precision float16",
        "precision cannot be 'float16'; did you mean 'bfloat16'?",
    ),
    (f"{GYM} --actor_entropy liner(1,2,3)", "unknown schedule 'liner' in 'liner(1,2,3)'"),
    (f"{GYM} --actor_entropy linear(1,2)", "should be linear(initial,final,duration)"),
    (f"{GYM} --critic.activation elo", "critic.activation cannot be 'elo'; did you mean 'elu'?"),
    (
        f"{GYM} --model_opt.adam adamw",
        "adam cannot be 'adamw'; choose from: laprop, standard, tensorflow",
    ),
    (f"{GYM} --sampling step", "replay.sampling cannot be 'step'; did you mean 'steps'?"),
    (f"{GYM} --workers thread", "env.workers cannot be 'thread'"),
    (f"{GYM} --train_every 0", "run.train_every is 0 and run.train_ratio is 0; one of them says"),
    (f"{GYM} --train_every -1", "run.train_every is -1.0; expected at least 0"),
    (
        f"{GYM} --train_ratio 32",
        "run.train_every is 20 and run.train_ratio is 32; one of them says",
    ),
    (
        f"{GYM} --train_every 0 --train_ratio 0.5 --replay.online true",
        "run.train_ratio is 0.5; replay.online true, which learns from every row, needs at least 1",
    ),
    (
        f"{GYM} --replay.latents true --world_model.dynamics transformer",
        "replay.latents keeps states of rssm and s5, the dynamics are transformer; set replay",
    ),
    (f"{GYM} --replay.latents true --burn_in 2", "replay.latents true needs replay.burn_in 0"),
    (f"{GYM} --replay.batch 0", "replay.batch is 0; expected at least 1"),
    (f"{GYM} --replay.length 1", "replay.length is 1; expected at least 2"),
    (f"{GYM} --replay.memory 0", "replay.memory is 0.0; expected a number above 0"),
    (f"{GYM} --replay.capacity 12", "the replay holds 12 rows"),
    (f"{GYM} --horizon 1", "behavior.horizon is 1; expected at least 2"),
    (f"{GYM} --behavior.method cloning", "behavior.method cloning imitates logged actions; set"),
    (f"{GYM} --behavior.penalty -1", "behavior.penalty is -1.0; expected at least 0"),
    (f"{GYM} --lambda_ 1.5", "behavior.lambda_ is 1.5; expected 0 to 1"),
    (f"{GYM} --frames -5", "run.frames is -5; expected at least 1"),
    (f"{GYM} --frames 50", "learning starts after 100 frames"),
    (f"{GYM} --log_every 0", "run.log_every is 0; expected at least 1"),
    (f"{GYM} --eval_episodes -1", "run.eval_episodes is -1; expected at least 0"),
    (f"{GYM} --amount 0", "env.amount is 0; expected at least 1"),
    (f"{GYM} --image_size 16", "env.image_size is 16; expected at least 32"),
    (f"{GYM} --seed -1", "seed is -1; expected 0 to"),
    (f"{GYM} --model_opt.lr -1", "model_opt.lr is -1.0; expected at least 0"),
    (f"{GYM} --model_opt.clip nan", "model_opt.clip is nan; expected at least 0"),
    (f"{GYM} --rssm.deter 0", "world_model.rssm.deter is 0; expected at least 1"),
    (f"{GYM} --encoder.units 0", "world_model.encoder.units is 0; expected at least 1"),
    (f"{GYM} --critic.layers -1", "critic.layers is -1; expected at least 0"),
    (f"{GYM} --kl.balance 2", "world_model.kl.balance is 2.0; expected 0 to 1"),
    (f"{GYM} --discount_factor 2", "world_model.discount_factor is 2.0; expected 0 to 1"),
    # Places.
    (f"{GYM} --logdir file.txt", "file.txt is a file; choose another --logdir"),
    (f"{GYM} --logdir file.txt/run", "is a file, not a folder; choose another --logdir"),
    (f"{GYM} --logdir /proc/run", "choose another --logdir"),
]


def fake(words):
    """The command line of the tiny agent, which starts faster."""
    return cli.main("fake", fake_agent.load_program, words)


def mistake(run, words, capsys):
    """Runs a command that fails; returns its only line."""
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize("words, message", TRAIN, ids=lambda x: x.removeprefix(f"{GYM} "))
def test_train(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("mine")
    assert message in mistake(main, ["train", *words.split()], capsys)
    assert [path.name for path in tmp_path.rglob("*")] == ["file.txt"]


NAN = "observation 'vector' holds nan (shape (2,)); expected finite numbers"
REWARD = "the environment returned reward inf; expected a finite number"


@pytest.mark.parametrize(
    "kwargs, message, amount",
    [
        ("{fault: nan, at: 0}", NAN, 1),
        ("{fault: nan, at: 60}", NAN, 1),
        ("{fault: shape}", "observation 'vector' has shape (1,); its space declares (2,)", 1),
        ("{fault: dtype}", "observation 'vector' has dtype <U1; expected numbers", 1),
        ("{fault: reward}", REWARD, 1),
        ("{fault: reward}", REWARD, 2),  # In processes of their own.
        ("{fault: word}", "the environment returned reward 'much'; expected one number", 1),
    ],
)
def test_environments_that_disagree_with_themselves(kwargs, message, amount, tmp_path, capsys):
    words = ["train", "--task", f"{TOYS}:Faulty", "--env.kwargs", kwargs, "--amount", str(amount)]
    words += ["--workers", "auto", "--run.random_episodes", "0", "--logdir", str(tmp_path / "run")]
    assert message in mistake(fake, words, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kwargs", ["{fault: raise, at: 1}", "{fault: raise, at: 0}"])
def test_an_environment_that_always_crashes(kwargs, tmp_path, capsys):
    """Tracebacks of the user's own code, then one line that ends the run."""
    words = ["train", "--task", f"{TOYS}:Faulty", "--env.kwargs", kwargs]
    words += ["--logdir", str(tmp_path / "run")]
    assert fake(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: environment 0 crashed 3 times") and "burnt out" in last
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the tiny agent."""
    logdir = tmp_path_factory.mktemp("runs") / "echo"
    words = ["train", "--run.random_episodes", "0", "--run.frames", "40", "--logdir", str(logdir)]
    assert fake(words) == 0
    return logdir


def test_commands_on_a_run(finished, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    for words, message in [
        ("eval", "name the run's folder: --logdir runs/..."),
        (f"eval --logdir {tmp_path / 'empty'}", "there is no run in"),
        (f"report --logdir {tmp_path / 'empty'}", "there is no run in"),
        (f"eval --logdir {finished.parent / 'ecko'}", "did you mean 'echo'?"),
        (f"eval --logdir {finished} --video film.avi", "cannot write a video as 'film.avi'"),
        (f"eval --logdir {finished} --episodes 0", "--episodes must be at least 1, not 0"),
        (f"eval --logdir {finished} --episodes x", "--episodes must be an integer, not 'x'"),
        (f"eval --logdir {finished}/config.yaml", "is damaged or no export"),
        (f"train --logdir {finished} --seed 5", "another configuration: seed (0, now 5); repeat"),
    ]:
        assert message in mistake(fake, words.split(), capsys), words
    dreamers = mistake(main, ["eval", "--logdir", str(finished)], capsys)
    assert "holds a fake agent; fake eval --logdir" in dreamers
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}


def test_a_damaged_export(finished, tmp_path, capsys):
    damaged = tmp_path / "export.npz"
    content = (finished / "export.npz").read_bytes()
    middle = len(content) // 2
    for part in (content[:-50], content[:middle], b"", content[:middle] + b"x" * 99):
        damaged.write_bytes(part)
        message = mistake(fake, ["eval", "--logdir", str(damaged)], capsys)
        assert "is damaged or no export" in message and "export it again" in message


def test_no_renderer(tmp_path):
    """Pixels without OpenGL: asked for by the environment's variable, as on a bare machine."""
    words = "train --configs dmc_vision debug --task dmc_cartpole_balance --logdir run"
    code = "import os, sys; os.environ['MUJOCO_GL'] = 'disable'; import dreamer.program as d; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(d.main(sys.argv[1:]))", *words.split()],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no OpenGL renderer (MUJOCO_GL=disable); install")
    assert "--env.pixels False --env.state True" in done.stderr and done.stderr.count("\n") == 1
    assert not list(pathlib.Path(tmp_path).iterdir())
