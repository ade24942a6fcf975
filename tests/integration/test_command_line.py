"""The command line from end to end: train, eval, report, check-env, and use after training."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys

import gymnasium
import jax
import numpy as np
import pytest

import common
import common.run.driver
import common.run.learner
import dreamer
from benchmarks.__main__ import main as benchmark
from common.command import line as cli
from common.envs.render import choose_backend, egl_starts
from common.logging import read_jsonl
from dreamer.program import COMMANDS, load_program, main
from tests.envs.toys import Counter

COUNTER = "tests.envs.toys:Counter"
"""Images, vectors and choices to see; a Dict of a Box, a Discrete and a MultiDiscrete to do."""


def python(*words: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    """Runs a module as a user would, from another folder."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=800,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run by ``python -m dreamer train`` from another folder, with the default logdir."""
    folder = tmp_path_factory.mktemp("elsewhere")
    words = f"dreamer train --configs gym debug --task {COUNTER} --env.amount 2 --seed 3"
    done = python(*words.split(), "--run.frames=400", "--run.eval-episodes", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / f"dreamer-{COUNTER.replace(':', '_')}-3", done


def test_train_leaves_a_complete_folder(trained):
    logdir, done = trained
    assert done.stderr == ""
    assert {path.name for path in logdir.iterdir()} == {
        "checkpoints", "config.yaml", "export.npz", "metrics.jsonl", "replay",
        "report.html", "scores.jsonl", "tensorboard", "versions.txt", "videos",
    }  # fmt: skip
    assert re.search(r"parameters: world_model [\d,]+, actor [\d,]+", done.stdout)
    assert "compiling the update ... " in done.stdout
    names = {re.sub(r"-\d+", "", path.name) for path in (logdir / "videos").iterdir()}
    assert names == {"eval_policy.mp4", "open_loop_image.mp4"}


def test_metrics_of_dreamer(trained):
    logdir, _ = trained
    records = list(read_jsonl(logdir / "metrics.jsonl"))
    merged = {key: value for record in records for key, value in record.items()}
    for name in (
        "random/return_mean", "eval/return_mean", "episode/return", "episode/length",
        "episode/count", "world_model/loss", "world_model/kl", "world_model/image_loss",
        "world_model/count_loss", "world_model/reward_loss", "actor/loss", "actor/entropy",
        "critic/loss", "time/frames_per_s", "time/updates_per_s", "time/elapsed_s",
    ):  # fmt: skip
        assert np.isfinite(merged[name]), name
    # Rewards of Counter are 1 + 2 + ... + 6, whoever acts.
    assert merged["eval/return_mean"] == merged["random/return_mean"] == 21
    assert merged["episode/length"] == 6


def test_the_same_command_says_that_the_run_is_complete(trained, monkeypatch, capsys):
    logdir, _ = trained
    monkeypatch.chdir(logdir.parent.parent)
    words = f"train --configs gym debug --task {COUNTER} --env.amount 2 --seed 3 --frames 400"
    assert main([*words.split(), "--run.eval_episodes", "2"]) == 0
    assert "this run is complete at frame 400; raise --run.frames" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_eval_prints_returns_and_films(suffix, trained, tmp_path, capsys):
    film = tmp_path / "new" / f"film.{suffix}"
    words = ["eval", "--logdir", str(trained[0]), "--episodes", "2", "--video", str(film)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "returns: 21.0, 21.0\nreturn 21.0 ± 0.0 over 2 episodes of 6 agent steps" in printed
    assert f"video: {film}" in printed and film.stat().st_size > 100


def test_eval_takes_an_exported_file(trained, tmp_path, capsys):
    export = shutil.copy(trained[0] / "export.npz", tmp_path / "given.npz")
    words = ["eval", "--logdir", str(export), "--episodes", "1"]
    assert main(words) == 2  # What a file names is not imported unless it is repeated.
    assert f"repeat it on the command line: --task {COUNTER}\n" in capsys.readouterr().err
    assert main([*words, "--task", COUNTER]) == 0
    assert "return 21.0" in capsys.readouterr().out


def test_the_best_checkpoint_is_chosen(trained, tmp_path, capsys):
    """Of a run that has kept two, and of its exported file; with code of others, if it is named."""
    run = shutil.copytree(trained[0], tmp_path / "run")
    shutil.copytree(run / "checkpoints" / f"{400:012d}", run / "checkpoints" / f"{300:012d}")
    shutil.copy(run / "export.npz", tmp_path / "given.npz")
    words = f"select --runs {run} {tmp_path}/given.npz --checkpoints --out {tmp_path}/out"
    words = [*words.split(), "--episodes", "3"]
    assert benchmark(words) == 2
    assert f"repeat it on the command line: --task {COUNTER}\n" in capsys.readouterr().err
    assert benchmark([*words, "--task", COUNTER]) == 0
    found = json.loads((tmp_path / "out" / "selection.json").read_text())
    names, marks = zip(*found["candidates"], strict=True)
    assert names == ("run@300", "run", "given.npz")
    assert len(set(marks)) == 1  # What a checkpoint holds is what was exported.
    assert found["returns"] == [21, 21, 21] and found["choice"] in names
    choice = tmp_path / "out" / "choice.npz"
    assert f"exported to {choice}" in capsys.readouterr().out
    assert dreamer.load(choice).config.task == COUNTER


def test_report(trained, capsys):
    page = trained[0] / "report.html"
    page.unlink()
    assert main(["report", "--logdir", str(trained[0])]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    assert "eval" in page.read_text()


def test_loaded_agent_acts_in_the_environment(trained):
    agent = dreamer.load(str(trained[0]), seed=1)
    env = Counter()
    observation, _ = env.reset(seed=0)
    carry, total, over = None, 0.0, False
    while not over:
        action, carry = agent.act(observation, carry)
        assert env.action_space.contains(action), action
        observation, reward, over, _, _ = env.step(action)
        total += reward
    assert total == 21
    explored, _ = agent.act(observation, carry, mode="train")
    assert set(explored) == {"jump", "keys", "move"}


def test_loaded_world_model_imagines(trained):
    model, params = common.load_world_model(trained[0])
    actions = np.zeros((1, 4, model.actions.size), np.float32)
    states = model.imagine(params, jax.random.key(0), model.initial(1), actions)
    decoded = model.decode(params, states)
    assert decoded["image"].shape == (1, 4, 32, 40, 1)
    assert model.reward(params, model.feature(params, states)).mean().shape == (1, 4)


def test_check_env(capsys):
    assert main(["check-env", "--task", COUNTER]) == 0
    printed = capsys.readouterr().out
    assert "image: uint8 (32, 40, 1)" in printed and "keys/1: one of 3 choices" in printed


def test_help_of_every_command(capsys):
    for word in (*cli.COMMANDS, *COMMANDS):
        assert main([word, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: dreamer {word} ")


CARTPOLE = "--configs gym debug --task gym_CartPole-v1 --run.frames 200 --frames 200"
ATARI = "--configs atari debug --task atari_pong --env.image_size 32 --env.time_limit 240"
MEMORY = "--configs gym debug --task memory_recall --env.kwargs.delay 3 --run.frames 200"
PIXELS = "--configs dmc_vision debug --task dmc_cartpole_balance --env.image_size 32"


@pytest.mark.parametrize(
    "words, images",
    [
        (CARTPOLE, []),
        (f"{MEMORY} --world_model.dynamics s5 --replay.latents true", []),
        (f"{ATARI} --run.frames 1200 --noops 0", ["image"]),
        (f"{PIXELS} --env.render fast --env.time_limit 60 --run.frames 300", ["image"]),
    ],
    ids=["cartpole", "memory", "atari", "pixels"],
)
def test_every_family_trains(words, images, tmp_path, capsys):
    if "dmc" in words and not (egl_starts() or choose_backend() in ("osmesa", "glfw", "cgl")):
        pytest.skip("there is no OpenGL renderer")
    logdir = tmp_path / "run"
    assert main(["train", *words.split(), "--logdir", str(logdir)]) == 0, capsys.readouterr()
    records = list(read_jsonl(logdir / "metrics.jsonl"))
    merged = {key: value for record in records for key, value in record.items()}
    assert np.isfinite(merged["world_model/loss"]) and merged["actor/grad_skipped"] == 0
    films = {re.sub(r"-\d+", "", path.stem) for path in (logdir / "videos").glob("open_loop*")}
    assert films == {f"open_loop_{name}" for name in images}
    agent = dreamer.load(str(logdir))
    first = {key: np.zeros(spec.shape, spec.dtype) for key, spec in agent.observations.items()}
    action, _ = agent.act(first)
    assert np.isfinite(action).all()


def test_factory_in_the_users_folder(tmp_path):
    """``module:factory`` of a file beside which the command runs; arguments by flags."""
    (tmp_path / "mine.py").write_text(
        "import gymnasium\n\n"
        "def make_mine(slippery):\n    assert slippery == 3\n"
        "    return gymnasium.make('CartPole-v1', max_episode_steps=20)\n"
    )
    words = "dreamer check-env --task mine:make_mine --env.kwargs.slippery 3"
    done = python(*words.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine:make_mine" in done.stdout


def test_program_is_dreamers():
    program = load_program()
    assert program.name == "dreamer"
    space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    assert callable(program.make_agent) and space.contains(np.zeros(3, np.float32))
