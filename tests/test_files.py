"""Files that are complete or absent."""

from __future__ import annotations

import errno
import os
import pathlib
import re
import subprocess
import sys

import pytest

from benchmarks.tdm.work import Cell
from common import files
from common.errors import UserError, exit_code
from tests.full_disk import full_disk

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_a_file_gets_its_name_when_it_is_complete_and_kept(tmp_path, monkeypatch):
    path, kept = tmp_path / "a.txt", []
    monkeypatch.setattr(files, "keep_on_disk", lambda place: kept.append(place.read_text()))
    path.write_text("old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and kept == ["new"]
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyError("x")])
def test_whatever_fails_leaves_the_file_of_before(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")
    expected = files.WriteError if isinstance(failure, OSError) else KeyError
    with pytest.raises(expected) as raised:
        with files.replacing(path) as temporary:
            temporary.write_text("ne")
            raise failure
    if expected is files.WriteError:
        assert str(raised.value) == (
            f"cannot write {path}: No space left on device; free space on the disk, or choose "
            "another folder"
        )
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_what_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(files.WriteError, match="cannot write .*: No such file or directory; make"):
        with files.replacing(tmp_path / "none" / "a.txt") as temporary:
            temporary.write_text("new")
    (tmp_path / "file").write_text("")
    with pytest.raises(
        files.WriteError, match="cannot write .*file/x: Not a directory; a file has"
    ):
        files.make_folder(tmp_path / "file" / "x")
    with full_disk(), pytest.raises(files.WriteError, match="cannot write .*: File too large; f"):
        with files.replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
    assert "\n" not in str(files.cannot_write("x", RuntimeError("two\nlines")))


def test_a_place_is_checked_before_anything_is_made_for_it(tmp_path):
    files.check_place("onnx", tmp_path / "a.onnx")
    (tmp_path / "file").write_text("")
    for path, said in [
        (tmp_path / "none" / "a.onnx", "none does not exist; make it"),
        (tmp_path / "file" / "a.onnx", "file is a file, not a folder"),
        (tmp_path, "it is a folder"),
    ]:
        with pytest.raises(UserError, match=f"--onnx: cannot write .*{said}"):
            files.check_place("onnx", path)
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_system_that_cannot_be_asked_is_written_to_all_the_same(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    files.keep_on_disk(tmp_path)


def test_a_full_disk_that_nobody_foresaw_is_one_line_too(tmp_path, capsys):
    def fail(number):
        raise OSError(number, os.strerror(number), "x.txt")

    assert exit_code(lambda: fail(errno.ENOSPC)) == 2
    expected = "error: No space left on device (x.txt); free space on the disk\n"
    assert capsys.readouterr().err == expected
    with pytest.raises(PermissionError):
        exit_code(lambda: fail(errno.EACCES))


def test_a_command_prints_a_warning_in_one_line_without_code():
    script = (
        "import warnings\nfrom common.errors import exit_code\nbefore = warnings.formatwarning\n"
        "exit_code(lambda: warnings.warn('two\\nlines', stacklevel=1))\n"
        "assert warnings.formatwarning is before\n"
    )
    words = [sys.executable, "-c", script]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr == "warning: two lines\n"


def test_every_name_of_a_file_is_one_that_all_systems_and_archives_take():
    words = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = found.strip("\0").split("\0")
    assert "setup.cfg" in names
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9._@/-]+", name)] == []
    cell = Cell("collect", "dmc_walker_walk@1", "simulator:0.5/a", 12, 0)
    assert cell.path(ROOT).name == "dmc_walker_walk@1-simulator_0.5_a-12-0.json"
