"""What the options of a launcher come to."""

from __future__ import annotations

import pathlib
import sys

import pytest

from common.command import line as cli
from common.errors import UserError
from common.launch.request import OPTIONS, Request
from dreamer.program import load_program

LOGDIR = pathlib.Path("/shared/run")


def read(*argv: str) -> Request:
    """The request of a command line."""
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    given = {name[2:]: value for name, value in given.items() if name[2:] in OPTIONS}
    return Request.read("dreamer", argv, given, LOGDIR)


def test_the_command_is_that_of_the_user_without_the_launcher():
    found = read("--launcher", "ray", "--configs", "debug", "--nodes", "4", "--run.frames", "1e4")
    own = ["--configs", "debug", "--run.frames", "1e4", "--logdir", str(LOGDIR)]
    assert found.command == [sys.executable, "-u", "-m", "dreamer", "train", *own]
    assert found[3:] == (4, 0, 1, 2, "", 1440)
    assert str(found) == "4 process(es) of 1 core(s)"
    assert found.log(3) == LOGDIR / "processes" / "3.log"


def test_words_with_an_equals_sign_go_too():
    argv = ["--launcher=slurm", "--seed=3", "--logdir=x", "--time=10", "--env.amount", "2"]
    found = Request.read("planet", argv, {"launcher": "slurm", "time": "10"}, LOGDIR)
    assert found.command[3:] == [
        "planet", "train", "--seed=3", "--env.amount", "2", "--logdir", str(LOGDIR)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "devices"),
    [
        (("--gpus", "4"), ["--run.devices", "4"]),
        (("--gpus", "1"), []),
        (("--gpus", "4", "--run.devices", "2"), []),
        (("--gpus", "4", "--devices=0", "x"), []),
    ],
)
def test_all_gpus_of_a_process_are_used(words, devices):
    given = {"launcher": "ray", "gpus": words[1]}
    command = Request.read("dreamer", words, given, LOGDIR).command
    assert command[5:-2] == [*words[2 * (words[0] == "--gpus") :], *devices]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--nodes", "2"), "--nodes needs --launcher ray or slurm"),
        (("--launcher", "rya"), "unknown --launcher 'rya'; did you mean 'ray'"),
        (("--launcher", "ray", "--nodes", "0"), "--nodes must be at least 1, not 0"),
        (("--launcher", "ray", "--cores", "x"), "--cores must be an integer, not 'x'"),
        (("--launcher", "ray", "--gpus", "-1"), "--gpus must be at least 0, not -1"),
        (("--launcher", "ray", "--time", "3"), "--time is for --launcher slurm"),
        (("--launcher", "ray", "--partition", "p"), "--partition is for --launcher slurm"),
    ],
)
def test_mistakes(words, fault):
    with pytest.raises(UserError, match=fault):
        read(*words)


def test_mistakes_on_the_command_line_leave_nothing(tmp_path, capsys):
    command = ["train", "--configs", "debug", "--logdir", str(tmp_path / "run"), "--launcher"]
    assert cli.main("dreamer", load_program, [*command, "x"]) == 2
    there = ["ray", "--run.coordinator", "h:1,2,0"]
    assert cli.main("dreamer", load_program, [*command, *there]) == 2
    assert "--launcher sets run.coordinator itself" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_fault_is_that_of_the_process_which_failed_by_itself(tmp_path):
    wanted = Request.read("dreamer", [], {"launcher": "ray", "nodes": "3"}, tmp_path)
    assert wanted.fault() == f"see {tmp_path / 'processes'}"
    wanted.log(0).parent.mkdir()
    wanted.log(0).write_text(
        "frames 3\nerror: process 1 of this training is gone, see what it says\n"
    )
    wanted.log(1).write_text("frames 3\n")
    wanted.log(2).write_text("compiling\nerror: no such thing; take another\n")
    assert wanted.fault() == "no such thing; take another"
