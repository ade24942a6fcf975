"""Training from Python: environments, loggers and a callback handed in; threads; the example."""

from __future__ import annotations

import pathlib
import re
import runpy
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import dreamer
import planet
from common.config import update
from common.envs import EnvConfig, make
from common.errors import UserError
from common.logging import Sink, read_jsonl
from common.run import checkpoint, folder
from common.run import train as training
from common.run.progress import Result
from tests import fake_agent
from tests.envs.known import Echo
from tests.fake_agent import EVAL_ACTION

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
ALONE = {"run.eval_episodes": 0, "run.random_episodes": 0}


def run(logdir, options=None, **handed):
    """Trains the tiny agent."""
    program = fake_agent.load_program()
    config = update(program.default_config, options or {})
    return training.train(program, config, logdir, **handed)


class Closing:
    """Environments that remember how they were built and whether they were closed."""

    def __init__(self, seed, amount):
        self.seed, self.amount, self.open = seed, amount, True
        self.envs = make(Echo, EnvConfig(workers="none"), seed, amount)

    def __getattr__(self, name):
        return getattr(self.envs, name)

    def close(self):
        assert self.open
        self.open = False
        self.envs.close()


class Kept(Sink):
    """Keeps what it is given."""

    def __init__(self):
        self.points, self.videos, self.rewound, self.closed = [], [], [], False

    def scalars(self, frames, scalars):
        self.points.append((frames, scalars))

    def video(self, frames, name, video):
        self.videos.append((frames, name))

    def rewind(self, frames):
        self.rewound.append(frames)

    def close(self):
        self.closed = True


def test_a_function_builds_fresh_environments_for_everything_and_all_are_closed(tmp_path):
    made = []

    def make_envs(seed, amount):
        made.append(Closing(seed, amount))
        return made[-1]

    result = run(tmp_path / "run", {"task": "mine", "env.amount": 2}, envs=make_envs)
    assert result == Result(True, 100, 3 + (98 - 20) // 2, tmp_path / "run")
    built = [(envs.seed, envs.amount) for envs in made]
    assert built == [(0, 2), (10_000, 2), (20_000, 2), (21_000, 2)]  # Two episodes each.
    assert not any(envs.open for envs in made)
    evaluations = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    returns = [x["eval/return_mean"] for x in evaluations if "eval/return_mean" in x]
    assert returns == [5 * EVAL_ACTION] * 2
    assert "task: mine" in (tmp_path / "run" / "config.yaml").read_text()
    run(tmp_path / "run", {"task": "mine", "env.amount": 2, "run.frames": 120}, envs=make_envs)
    assert made[4].seed == 100  # Not the first episodes again.


def test_open_environments_stay_open_and_play_no_evaluations(tmp_path):
    envs = Closing(3, 1)
    with pytest.raises(UserError, match="evaluations need fresh environments; hand in a function"):
        run(tmp_path / "run", envs=envs)
    assert envs.open and not (tmp_path / "run").exists()
    assert run(tmp_path / "run", ALONE, envs=envs).finished
    assert envs.open
    envs.close()


def test_a_function_that_builds_something_else(tmp_path):
    with pytest.raises(UserError, match="returned Echo, asked for 1; expected common.envs.Envs"):
        run(tmp_path / "run", envs=lambda seed, amount: Echo())
    with pytest.raises(UserError, match="returned 3, asked for 1"):
        run(tmp_path / "run", envs=lambda seed, amount: Closing(seed, 3))


def test_loggers_get_everything_and_stay_open(tmp_path):
    kept = Kept()
    options = {"run.video": True, "env.kwargs": {"pixels": True}}
    run(tmp_path / "run", options, loggers=[kept])
    lines = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert [frames for frames, _ in kept.points] == [line["frames"] for line in lines]
    assert all(line == {"frames": f, **x} for line, (f, x) in zip(lines, kept.points, strict=True))
    assert ("eval/policy", "open_loop/image") == tuple(sorted({name for _, name in kept.videos}))
    assert not kept.closed and kept.rewound == [-1]
    run(tmp_path / "run", options | {"run.frames": 120}, loggers=[kept])
    assert kept.rewound == [-1, 100] and kept.points[-1][0] == 120


def test_a_logger_that_fails_ends_the_run_after_a_checkpoint(tmp_path):
    failure = RuntimeError("no more room")

    class Failing(Kept):
        def scalars(self, frames, scalars):
            super().scalars(frames, scalars)
            if frames >= 40:
                raise failure

    kept = Failing()
    with pytest.raises(RuntimeError) as raised:
        run(tmp_path, loggers=[kept])
    assert raised.value is failure and kept.points[-1][0] == 40
    assert checkpoint.latest(tmp_path / folder.CHECKPOINTS) == 40
    assert run(tmp_path).frames == 100


@pytest.mark.parametrize("envs", ["dmc_walker_walk", lambda: None, lambda seed: None])
def test_what_builds_no_environments_is_refused(envs, tmp_path):
    with pytest.raises(UserError, match=r"neither .* nor a function \(seed, amount\)"):
        run(tmp_path / "run", envs=envs)
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_keep_one_run_in_the_folder(tmp_path, monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = {"run.loggers": "wandb", **ALONE}
    run(tmp_path / "run", logged)
    identity = (tmp_path / "run" / folder.WANDB / "id.txt").read_text()
    run(tmp_path / "run", {**logged, "run.frames": 120})
    assert (tmp_path / "run" / folder.WANDB / "id.txt").read_text() == identity
    files = {path.name for path in (tmp_path / "run" / folder.WANDB).glob("offline-run-*/*.wandb")}
    assert files == {f"run-{identity.strip()}.wandb"}
    with pytest.raises(UserError, match="run.loggers"):
        run(tmp_path / "other", {"run.loggers": "wand"})


def test_a_missing_package_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"run pip install 'world-model-agents\[track\]'"):
        run(tmp_path / "run", {"run.loggers": "wandb"})
    assert not (tmp_path / "run").exists()


def test_progress_at_every_line_and_evaluation(tmp_path):
    told = []
    run(tmp_path / "run", progress=told.append)
    assert [(now.kind, now.now) for now in told] == [
        ("random", 0), ("metrics", 20), ("metrics", 40), ("evaluation", 50), ("metrics", 60),
        ("metrics", 80), ("metrics", 100), ("evaluation", 100),
    ]  # fmt: skip
    assert {(now.clock, now.total) for now in told} == {("frames", 100)}
    assert all(now.now == now.frames for now in told)
    assert told[-1].updates == 3 + 39 and told[-1].metrics["eval/return_mean"] == 5 * EVAL_ACTION
    assert "model/loss" in told[2].metrics and "random/return_mean" in told[0].metrics


def test_progress_stops_the_run_and_the_same_call_goes_on(tmp_path, capsys):
    result = run(tmp_path, progress=lambda now: "stop" if now.now >= 40 else None)
    assert (result.finished, result.frames) == (False, 40)
    assert "stopped at frame 40; the same command goes on" in capsys.readouterr().out
    result = run(tmp_path)
    assert (result.finished, result.frames, result.updates) == (True, 100, 3 + 39)
    assert run(tmp_path) == result  # Complete already.


def test_a_stop_after_the_last_evaluation_is_no_stop(tmp_path):
    last = lambda now: "stop" if now[:3] == ("evaluation", "frames", 100) else None  # noqa: E731
    assert run(tmp_path, progress=last).finished


@pytest.mark.parametrize(
    "failure", [ZeroDivisionError("mine"), UserError("x"), SystemExit(3), KeyboardInterrupt()]
)
@pytest.mark.parametrize("at", [0, 50])
def test_what_the_callback_raises_comes_out_after_a_checkpoint(tmp_path, failure, at):
    calls = []

    def progress(now):
        calls.append(now.now)
        if now.now == at:
            raise failure

    with pytest.raises(type(failure)) as raised:
        run(tmp_path, progress=progress)
    assert raised.value is failure and calls[-1] == at
    assert checkpoint.latest(tmp_path / folder.CHECKPOINTS) == at
    assert run(tmp_path).frames == 100


def test_in_a_thread_signals_are_left_alone(tmp_path):
    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)]
    seen, stop = [], threading.Event()

    def progress(now):
        seen.append([signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)])
        stop.set()
        return "stop" if stop.is_set() else None

    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(run, tmp_path, progress=progress).result().finished
        assert pool.submit(run, tmp_path).result().finished
    assert seen == [before]


def test_both_agents_train_in_one_call(tmp_path, monkeypatch):
    calls = []
    record = lambda *args, **handed: calls.append((*args, handed))  # noqa: E731
    monkeypatch.setattr(training, "train", record)
    options = {"task": "x", "world_model.rssm.deter": 7}
    for package in (dreamer, planet):
        package.train("a/b", presets="debug", options=options, progress=print)
        program, config, logdir, handed = calls[-1]
        assert program.name == package.__name__ and logdir == "a/b"
        assert (config.task, config.world_model.rssm.deter, config.run.frames) == ("x", 7, 600)
        assert handed == {"envs": None, "loggers": (), "progress": print}
    dreamer.train("c", presets=["debug", "gym"])
    assert calls[-1][1].run.frames == 1_000_000
    with pytest.raises(UserError, match="unknown preset 'debugg'; did you mean 'debug'"):
        dreamer.train("c", presets="debugg")


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    section = README.read_text().split("## Train from Python\n")[1].split("\n## ")[0]
    (script,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "script.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    result = runpy.run_path("script.py")["result"]
    printed = capsys.readouterr().out
    assert result.finished and result.frames == 600
    assert "evaluation at 300 of 600 frames" in printed and "finished after 600 frames" in printed
    assert (tmp_path / "runs" / "mine" / "export.npz").exists()
