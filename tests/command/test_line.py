"""The command line: words in, exit code and one clear line out."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

import common.run.evaluation
import common.run.train
from common import config as configs
from common.command import line as cli
from common.command import training
from common.config import update
from common.errors import STOPPED, UserError
from common.run import folder as run_folder
from common.run.program import Model, Program
from common.run.progress import Result
from dreamer import program as dreamer_program
from dreamer.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[2]


def program() -> Program:
    """Dreamer's options without its agent."""
    return Program("dreamer", Config(), None)


def run(*words: str) -> int:
    """Runs a command line in this process."""
    return cli.main("dreamer", program, words)


@pytest.fixture(autouse=True)
def _keep_environment(monkeypatch, tmp_path):
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", ""))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "words, message",
    [
        ("trian", "error: unknown command 'trian'; did you mean 'train'?"),
        ("train --configs atri", "error: unknown preset 'atri'; did you mean 'atari'?"),
        ("train --rssm.detr 3", "error: unknown option --rssm.detr; did you mean '--rssm.deter'?"),
        ("train --deter big", "error: world_model.rssm.deter must be an integer, not 'big'"),
        ("train --lr 1e-3", "write one of: --model_opt.lr, --actor_opt.lr, --critic_opt.lr"),
        ("train --latent gausian", "rssm.latent cannot be 'gausian'; did you mean 'gaussian'?"),
        ("train --seed", "error: --seed needs a value"),
        ("eval", "error: name the run's folder: --logdir"),
        ("eval --logdir nowhere", "error: there is no run in nowhere; expected a folder with"),
        ("eval --logdir x --episodes none", "error: there is no run in x"),
        ("report --logdir nowhere", "error: there is no run in nowhere"),
        ("eval --lodgir x", "error: unknown option --lodgir; did you mean '--logdir'?"),
        ("doctor --logdir x", "error: unknown option --logdir; this command has no options"),
        ("train --logdir zoo:cup_catch", "error: --logdir zoo:cup_catch names a trained agent of"),
        ("report --logdir zoo:x", "error: --logdir zoo:x names a trained agent of the package"),
        ("watch --logdir zoo:x", "here name a run's folder"),
        ("compare --logdir zoo:x", "here name a run's folder"),
        (
            "eval --logdir zoo:cup_catch --video /dev/null/x.mp4",
            "/dev/null is a file, not a folder",
        ),
        ("export --logdir zoo:cup_catch --onnx no/x.onnx", "the folder no does not exist; make"),
        ("check-env --task atary_pong", "error: unknown task 'atary_pong'"),
        ("presets --diff dreamer_v2", "error: --diff takes two presets, not 1: --diff A B"),
        ("presets --diff dreamer_v2 dreamer_v33", "unknown preset 'dreamer_v33'; did you mean"),
    ],
)
def test_mistakes_are_one_line_and_code_2(words, message, capsys, tmp_path):
    assert run(*words.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1 and captured.err.startswith("error: ")
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_help_explains_commands_presets_and_every_option(capsys):
    assert run("--help") == 0
    overview = capsys.readouterr().out
    for word in (*cli.COMMANDS, "dmc_vision", "size_xs"):
        assert f"  {word}" in overview
    assert run("train", "--help") == 0
    text = capsys.readouterr().out
    for option in configs.options(Config()):
        assert f"--{option.path}" in text
    assert "--logdir" in text and "--configs" in text and "atari_paper" in text
    assert run("eval", "--help") == 0
    assert "--episodes" in capsys.readouterr().out
    assert run() == 2


def test_presets_are_listed_and_compared(capsys):
    assert run("presets") == 0
    assert "  dreamer_v3 " in capsys.readouterr().out
    assert run("presets", "--diff", "dreamer_v2", "dreamer_v3") == 0
    header, *rows, total = capsys.readouterr().out.splitlines()
    assert header.split() == ["dreamer_v2", "dreamer_v3"]
    shown = {row.split()[0]: row.split()[1:] for row in rows}
    assert shown["world_model.rssm.cell"] == ["layer_norm_gru", "block_gru"]
    assert shown["joint"] == ["false", "true"]
    assert "world_model.rssm.stoch" not in shown  # 32 in both.
    same = sum(1 for _ in configs.options(Config())) - len(rows)
    assert total == f"{len(rows)} options of dreamer differ, {same} do not"
    assert run("presets", "--diff", "dreamer_v3", "dreamer_v3") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("0 options of dreamer differ")


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("dreamer ")


def test_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted(load_program, parsed):
        raise KeyboardInterrupt

    command = cli.COMMANDS["doctor"]._replace(run=interrupted)
    monkeypatch.setitem(cli.COMMANDS, "doctor", command)
    assert run("doctor") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_flags_win_over_presets_and_later_presets_over_earlier_ones(monkeypatch, tmp_path):
    calls = []

    def train(*args):
        calls.append(args)
        return Result(False, 0, 0, args[2])

    monkeypatch.setattr(common.run.train, "train", train)
    words = "train", "--configs", "atari", "dmc_vision", "--deter", "7", "--seed=3"
    assert run(*words) == STOPPED  # As the result says, unlike a run that is complete.
    ((made, config, logdir),) = calls
    assert made.name == "dreamer"
    assert config.world_model.rssm.deter == 7
    assert config.world_model.rssm.hidden == 200  # dmc_vision's, not atari's 600
    assert logdir == pathlib.Path("runs/dreamer-dmc_walker_walk-3")
    task = "my.module:make_maze"
    assert run("train", "--task", task, "--logdir", "~/x") == STOPPED
    assert calls[1][2] == pathlib.Path.home() / "x"
    config = update(Config(), {"task": task})
    assert training.default_logdir(program(), config).name == "dreamer-my.module_make_maze-0"


class TestModels:
    """An agent may act with models that no run has learned; they speak for themselves."""

    def program(self) -> Program:
        fit = lambda config: dataclasses.replace(config, seed=7)  # noqa: E731
        models = {"oracle": Model("which knows all", fit, lambda *given: given)}
        return Program("dreamer", Config(), None, acting="actor", models=models)

    def run(self, *words: str) -> int:
        return cli.main("dreamer", self.program, words)

    def test_help(self, capsys):
        assert self.run("eval", "--help") == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "or instead of a run oracle, which knows all. [one of learned, oracle; " in text
        assert "are for --model oracle; of a run, only those of actor can change" in text
        assert "--world_model.rssm.deter" in text
        assert run("eval", "--help") == 0  # Without such models there is nothing to choose.
        text = capsys.readouterr().out
        assert "--model" not in text and "--configs" not in text

    @pytest.mark.parametrize(
        "words, message",
        [
            ("--model orakel", "unknown --model 'orakel'; did you mean 'oracle'?"),
            ("--model oracle --logdir x", "--model oracle needs no run; leave --logdir out"),
            ("--model oracle --seed -1", "--seed must be at least 0, not -1"),
            ("--model oracle --rssm.deter 0", "world_model.rssm.deter is 0; expected at least 1"),
            ("--model learned", "name the run's folder"),
        ],
    )
    def test_mistakes(self, words, message, capsys):
        assert self.run("eval", *words.split()) == 2
        assert message in capsys.readouterr().err

    def test_it_acts_under_the_options_that_it_needs(self, monkeypatch):
        calls = []

        def play(task, env, episodes, seed, make_policy, film):
            calls.append((task, env, episodes, seed, film))
            config, envs, seed = make_policy("environments")
            assert (config.seed, config.behavior.horizon) == (7, 4)
            assert (envs, seed) == ("environments", 3)
            raise UserError("played")

        monkeypatch.setattr(common.run.evaluation, "play", play)
        words = "--model oracle --task gym_X-v0 --horizon 4 --seed 3 --episodes 2 --amount 5"
        assert self.run("eval", *words.split()) == 2
        env = dataclasses.replace(Config().env, amount=5)
        assert calls == [("gym_X-v0", env, 2, 3, False)]


class TestRunFolder:
    """A folder belongs to one configuration."""

    def test_reads_back_what_was_written(self, tmp_path):
        values = {"env.kwargs": {"a": [1]}, "seed": 4, "world_model.kl.free": 0.1}
        config = update(Config(), values)
        logdir = tmp_path / "deep" / "run"
        assert not run_folder.check(logdir, "dreamer", config)
        assert not logdir.exists()
        run_folder.write(logdir, "dreamer", config)
        assert run_folder.read(logdir, "dreamer", Config()) == config
        assert run_folder.agent_name(logdir) == "dreamer"
        assert run_folder.check(logdir, "dreamer", config)
        assert sorted(p.name for p in logdir.iterdir()) == ["config.yaml", "versions.txt"]
        assert "jax " in (logdir / "versions.txt").read_text()

    def test_another_configuration_is_refused_and_nothing_changes(self, tmp_path):
        run_folder.write(tmp_path, "dreamer", Config())
        before = (tmp_path / "config.yaml").read_bytes()
        with pytest.raises(UserError, match=r"another configuration: seed \(0, now 1\); repeat"):
            run_folder.check(tmp_path, "dreamer", update(Config(), {"seed": 1}))
        assert (tmp_path / "config.yaml").read_bytes() == before

    def test_length_and_logging_may_change(self, tmp_path):
        run_folder.write(tmp_path, "dreamer", Config())
        names = ("run.checkpoint_every", "run.checkpoints", "run.frames", "run.eval_every")
        assert set(names) <= set(run_folder.MAY_CHANGE)
        longer = update(Config(), {**dict.fromkeys(names, 77), "run.coordinator": "host:1,2,0"})
        assert run_folder.check(tmp_path, "dreamer", longer)
        paths = {option.path for option in configs.options(Config())}
        assert set(run_folder.MAY_CHANGE) <= paths

    def test_another_agent_is_refused(self, tmp_path):
        run_folder.write(tmp_path, "planet", Config())
        with pytest.raises(UserError, match="holds a run of planet, not of dreamer"):
            run_folder.check(tmp_path, "dreamer", Config())

    def test_a_missing_run_is_looked_for_nearby(self, tmp_path):
        run_folder.write(tmp_path / "walker", "dreamer", Config())
        with pytest.raises(UserError, match="did you mean 'walker'"):
            run_folder.agent_name(tmp_path / "waker")
        with pytest.raises(UserError, match="did you mean '.*/walker'"):
            run_folder.agent_name(tmp_path)

    def test_a_damaged_or_foreign_config_is_refused(self, tmp_path):
        run_folder.write(tmp_path, "dreamer", Config())
        (tmp_path / "config.yaml").write_text("agent: dreamer\nseeds: 1\n")
        with pytest.raises(UserError, match="unknown option 'seeds'; did you mean 'seed'"):
            run_folder.check(tmp_path, "dreamer", Config())
        (tmp_path / "config.yaml").write_text("seed: 1\n")
        with pytest.raises(UserError, match="does not name its agent"):
            run_folder.agent_name(tmp_path)

    def test_a_place_without_rights_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run_folder.os, "access", lambda path, mode: path != tmp_path)
        with pytest.raises(UserError, match="may not write"):
            run_folder.check(tmp_path / "a" / "b", "dreamer", Config())

    def test_a_file_is_no_folder(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("")
        with pytest.raises(UserError, match="is a file"):
            run_folder.check(path, "dreamer", Config())


def test_prepare_leaves_the_users_choice_alone(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    cli.prepare()
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"


def python(*words: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    """Runs Python in a folder, with the package importable."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_module_and_exit_code(tmp_path):
    done = python("-m", "dreamer", "train", "--configs", "atri", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: unknown preset 'atri'; did you mean 'atari'?\n"


def test_train_refuses_bad_input_before_it_writes(tmp_path):
    words = "train --configs dmc_proprio debug --task dmc_cartpole_balanc --logdir run"
    done = python("-m", "dreamer", *words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "balance" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["folder", "package", "module"])
def test_a_users_own_common_is_named(kind, tmp_path):
    own = tmp_path / "common"
    if kind == "module":
        own = tmp_path / "common.py"
        own.write_text("raise RuntimeError('must not run')")
    else:
        own.mkdir()
        if kind == "package":
            (own / "__init__.py").write_text("raise RuntimeError('must not run')")
    # Every package comes after the working directory on the path.
    code = f"import sys; sys.path.insert(1, {str(ROOT)!r}); import dreamer"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    if kind == "folder":  # A bare folder never hides a package on the path.
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and str(own) in last
    assert "rename" in last and str(ROOT / "common") in last


def test_console_script_and_module_are_one_function():
    text = (ROOT / "setup.cfg").read_text()
    assert "dreamer = dreamer.program:main" in text
    assert callable(dreamer_program.main)
