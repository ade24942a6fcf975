"""``record``: episodes of chance, of a run, and of whoever sits at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pty
import subprocess
import sys
import termios
import threading

import gymnasium
import numpy as np
import pytest

from common.command import keyboard
from common.command import line as cli
from common.envs import EnvConfig, make_one
from common.errors import UserError
from common.replay import read_episodes
from common.spaces import action_spec
from tests import fake_agent

ECHO = ["--task", "tests.envs.known:Echo"]
MAZE = ["--task", "maze_goal", "--env.kwargs.size", 5, "--env.time_limit", 3]
PENDULUM = ["--task", "gym_Pendulum-v1", "--env.time_limit", 4]


def run(*words):
    """The command line of the tiny agent."""
    return cli.main("fake", fake_agent.load_program, list(map(str, words)))


class Sat(contextlib.AbstractContextManager):
    """A terminal whose keys are pressed beforehand, and whose screen is read by a thread."""

    def __init__(self, monkeypatch, keys):
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, 100))
        os.write(self._ours, keys.encode())
        self._before = termios.tcgetattr(theirs)
        self._in, self._out = os.fdopen(theirs, "r"), os.fdopen(os.dup(theirs), "w")
        self._screen, self._read = b"", os.read
        self._reader = threading.Thread(target=self._watch, daemon=True)
        self._reader.start()
        monkeypatch.setattr(sys, "stdin", self._in)
        monkeypatch.setattr(sys, "stdout", self._out)

    def _watch(self):
        with contextlib.suppress(OSError):  # Which Linux raises where the other side is closed.
            while part := self._read(self._ours, 1 << 16):
                self._screen += part

    def unchanged(self):
        """Whether the terminal is as it was."""
        return termios.tcgetattr(self._in) == self._before

    def close(self):
        """Ends it; returns what was written on the screen."""
        for file in (self._in, self._out):
            file.close()
        self._reader.join()
        return self._screen.decode()

    def __exit__(self, *error):
        self.close()
        os.close(self._ours)


def test_chance_plays_what_is_learned_from(tmp_path, capsys):
    out = tmp_path / "data"
    words = ("--policy", "random", "--episodes", 3, "--seed", 5)
    assert run("record", *PENDULUM, *words, "--out", out) == 0
    assert "3 episodes of gym_Pendulum-v1, 12 agent steps, returns" in capsys.readouterr().out
    env = make_one("gym_Pendulum-v1", EnvConfig(time_limit=4), 0)
    for one in read_episodes(out):
        assert one["is_first"].tolist() == [True] + 4 * [False] and one["is_last"][-1]
        assert not one["action"][0].any() and one["action"][1:].std() > 0
        assert one["vector"].shape == (5, 3) and set(one) == {
            *env.observation_specs, "action", "reward", "is_first", "is_last", "is_terminal",
        }  # fmt: skip
    record = json.loads((out / "collection.json").read_text())
    assert record["policy"] == "random" and record["agent_steps"] == [4, 4, 4]
    assert record["actions"][0]["low"] == [-2.0] and record["action_repeat"] == 1
    learn = ("--data", out, "--run.updates", 3, "--logdir", tmp_path / "run")
    assert run("train", *PENDULUM, *learn) == 0
    assert run("record", *PENDULUM, *words, "--out", tmp_path / "again") == 0
    for one, other in zip(read_episodes(out), read_episodes(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(one["action"], other["action"])
    assert run("record", *PENDULUM, *words, "--out", out) == 2
    assert "is there already" in capsys.readouterr().err


def test_keys_become_choices(tmp_path, monkeypatch):
    """Every key that is bound is one step; others are passed over; the rest is for nobody."""
    with Sat(monkeypatch, "0x130" + "2" * 30) as terminal:
        words = ("--policy", "human", "--episodes", 2, "--out", tmp_path / "data")
        assert run("record", *MAZE, *words) == 0
        assert terminal.unchanged()
        shown = terminal.close()
    one, two = read_episodes(tmp_path / "data")
    assert one["action"][1:].argmax(1).tolist() == [0, 1, 3] and not one["action"][0].any()
    assert two["action"][1:].argmax(1).tolist() == [0, 2, 2]
    assert "▀" in shown and "0: up, 1: right, 2: down, 3: left, q: end" in shown
    assert "episode 2, step 1, return 0" in shown and "2 episodes of maze_goal" in shown


def test_arrows_become_numbers_and_space_lets_go(tmp_path, monkeypatch):
    """Ended in the second episode, of which nothing is kept."""
    with Sat(monkeypatch, "\x1b[C\x1b[D \x1bOC\x1b[Cq") as terminal:
        words = ("--policy", "human", "--episodes", 5, "--out", tmp_path / "data")
        assert run("record", *PENDULUM, *words) == 0
        assert "left/right: -2/2, space: the middle" in terminal.close()
    (one,) = read_episodes(tmp_path / "data")
    assert one["action"][:, 0].tolist() == [0, 1, -1, 0, 1]


def test_with_a_rate_a_key_holds_until_another(tmp_path, monkeypatch):
    with Sat(monkeypatch, "\x1b[D") as terminal:
        words = ("--policy", "human", "--rate", 500, "--episodes", 1, "--out", tmp_path / "data")
        assert run("record", *PENDULUM, *words) == 0
        assert terminal.unchanged()
    (one,) = read_episodes(tmp_path / "data")
    assert one["action"][:, 0].tolist() == [0, -1, -1, -1, -1]


@pytest.mark.parametrize("keys", ["q", ""])
def test_nothing_finished_is_nothing_written(keys, tmp_path, monkeypatch, capsys):
    """Also where the terminal goes away."""
    with Sat(monkeypatch, keys + "\x04") as terminal:
        if not keys:
            monkeypatch.setattr(keyboard.os, "read", lambda *of: b"")
        assert run("record", *MAZE, "--policy", "human", "--out", tmp_path / "data") == 2
        monkeypatch.undo()
        assert "\x1b[?1049l" in terminal.close()
    assert "no episode was played to its end; nothing is kept" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_ctrl_c_gives_the_terminal_back(tmp_path, monkeypatch, capsys):
    def interrupted(*of):
        raise KeyboardInterrupt

    with Sat(monkeypatch, "") as terminal:
        monkeypatch.setattr(keyboard.select, "select", interrupted)
        assert run("record", *MAZE, "--policy", "human", "--out", tmp_path / "data") == 130
        assert terminal.unchanged()
    assert not any(tmp_path.iterdir()) and capsys.readouterr().err == "interrupted\n"


@pytest.mark.slow
def test_ctrl_c_in_a_real_terminal_gives_it_back(tmp_path):
    """The command as a process of its own, which owns the terminal."""
    ours, theirs = pty.openpty()
    root = pathlib.Path(__file__).resolve().parents[2]
    words = ["record", *map(str, MAZE), "--policy", "human", "--out", str(tmp_path / "data")]
    before = termios.tcgetattr(theirs)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fake_agent", *words],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, cwd=root, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # Its own terminal.
    ) as process:  # fmt: skip
        seen = b""
        while b"q: end" not in seen:
            seen += os.read(ours, 1 << 16)
        os.write(ours, b"1")
        while b"step 1," not in seen:
            seen += os.read(ours, 1 << 16)
        os.write(ours, b"\x03")
        assert process.wait() == 130
        assert process.stderr.read() == b"interrupted\n"
    assert termios.tcgetattr(theirs) == before and not any(tmp_path.iterdir())


def test_a_trained_agent_plays_its_own_task(tmp_path, monkeypatch, capsys):
    """Also one of another package, by its file; here there is only the tiny one."""
    monkeypatch.setattr("common.run.program.AGENTS", ("tests.fake",))
    monkeypatch.setattr(
        "common.command.recording.find_program", lambda name: fake_agent.load_program()
    )
    logdir = tmp_path / "run"
    assert run("train", *ECHO, "--run.frames", 30, "--logdir", logdir) == 0
    out = tmp_path / "data"
    words = ("--policy", logdir, "--episodes", 2, "--out", out)
    assert run("record", *words) == 0
    episodes = read_episodes(out)
    assert len(episodes) == 2
    assert all((one["action"][1:] == fake_agent.EVAL_ACTION).all() for one in episodes)
    capsys.readouterr()
    for more, message in [
        (("--configs", "debug"), "--configs is for other policies"),
        (("--run.frames", 5), "--run.frames cannot change once an agent is trained"),
        (("--task", "gym_CartPole-v1"), "names the task 'tests.envs.known:Echo', not"),
    ]:
        assert run("record", *words[:-1], tmp_path / "new", *more) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "x"), "name who plays: --policy ..."),
        (("--policy", "random"), "name the new folder: --out ..."),
        (("--policy", "robot", "--out", "x"), "unknown --policy 'robot'; expected human, random"),
        (("--policy", "human", "--out", "x"), "needs a terminal for its keys"),
        (("--policy", "random", "--out", "x", "--episodes", "0"), "--episodes must be at least 1"),
        (("--policy", "random", "--out", "x", "--rate", "5"), "--rate is for --policy human"),
        (("--policy", "human", "--out", "x", "--rate", "-1"), "--rate must be 0 to 1000"),
        (("--policy", "human", "--out", "x", "--rate", "many"), "--rate"),
        (("--policy", "random", "--out", "file/x"), "choose another"),
        (("--policy", "random", "--out", "x", "--task", "gym_None-v0"), "unknown task"),
    ],
)
def test_mistakes_leave_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run("record", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (gymnasium.spaces.Discrete(36), "is one of 36 choices"),
        (gymnasium.spaces.Box(-1, 1, (5,)), "is 5 numbers"),
        (gymnasium.spaces.MultiDiscrete([2, 2]), "is one of 2 choices, one of 2 choices"),
    ],
)
def test_what_keys_cannot_play_is_refused(space, message):
    with pytest.raises(UserError, match=message):
        keyboard.bindings(action_spec(space))


def test_every_number_has_two_keys():
    keys = keyboard.bindings(action_spec(gymnasium.spaces.Box(-1, 1, (4,))))
    assert list(keys) == [" ", "left", "right", "down", "up", "a", "d", "s", "w"]
    assert keys["w"].tolist() == [0, 0, 0, 1] and keys["down"].tolist() == [0, -1, 0, 0]
    choices = keyboard.bindings(action_spec(gymnasium.spaces.Discrete(35)))
    assert keyboard.QUIT not in choices and len(choices) == 35
    assert choices["a"].argmax() == 10 and choices["z"].argmax() == 34
    two = action_spec(gymnasium.spaces.Discrete(2, start=3))
    assert keyboard.explained(two) == "0 to 1: choices 3 to 4"
    assert keyboard.explained(two, ["noop", "fire"]) == "0: noop, 1: fire"
    assert keyboard.explained(two, ["one"]) == "0 to 1: choices 3 to 4"


def test_a_picture_is_drawn_in_two_pixels_a_character():
    picture = np.zeros((4, 2, 3), np.uint8)
    picture[1, 0] = 10, 20, 30
    drawn = keyboard.blocks(picture, 80, 24)
    assert drawn.count("▀") == 4 and drawn.count("\r\n") == 2
    assert drawn.startswith("\x1b[38;2;0;0;0;48;2;10;20;30m▀")
    flat = keyboard.blocks(np.full((20, 90, 3), 7, np.uint8), 90, 10)  # A colour is sent once.
    assert flat.count("▀") == 900 and flat.count("\x1b[38") == flat.count("7;7;7m") == 10
    small = keyboard.blocks(np.zeros((400, 600, 3), np.uint8), 60, 10)
    assert small.count("\r\n") == 10 and small.count("▀") == 10 * 30
