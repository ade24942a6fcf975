"""The names in a run folder have one owner."""

from __future__ import annotations

import ast
import pathlib

import pytest

from common.errors import UserError
from common.run import folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = {
    folder.CONFIG, folder.VERSIONS, folder.METRICS, folder.SCORES, folder.CHECKPOINTS,
    folder.TENSORBOARD, folder.VIDEOS, folder.EXPORT, folder.REPORT,
}  # fmt: skip
OTHERS = {
    ("benchmarks/speed/peer_torch.py", "config.yaml"),  # The public code's own.
    ("benchmarks/page/command.py", folder.REPORT),  # The pages of the benchmarks are named
    ("benchmarks/rwrl/command.py", folder.REPORT),
    ("benchmarks/tdm/report.py", folder.REPORT),  # alike, and lie in no run folder.
    ("benchmarks/tune/page.py", folder.REPORT),
    ("common/export.py", folder.EXPORT),
}


def test_nobody_else_spells_a_name_of_a_run_folder():
    found = set()
    for top in ("common", "dreamer", "planet", "benchmarks"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in NAMES:
                    found.add((path.relative_to(ROOT).as_posix(), node.value))
    assert found == OTHERS | {("common/run/folder.py", name) for name in NAMES - {folder.EXPORT}}


@pytest.mark.parametrize("name", [folder.CHECKPOINTS, folder.REPLAY])
def test_a_file_where_a_folder_belongs_is_a_mistake(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=f"{name} is a file where a folder belongs"):
        folder.check(tmp_path, "dreamer", None)


def test_who_was_turned_away_undoes_nothing(tmp_path):
    """Two runs begin in one new folder; the second notices when the first has written."""
    logdir = tmp_path / "run"
    first, second = folder.Lock(logdir), folder.Lock(logdir)
    with pytest.raises(UserError, match="another process trains"):
        with folder.undone_on_error(logdir, second, lambda: False):
            folder.make(logdir)
            first.acquire()
            (logdir / folder.CONFIG).write_text("agent: first\n")
            second.acquire()
    assert (logdir / folder.CONFIG).read_text() == "agent: first\n"
    with pytest.raises(UserError, match="mistake"):
        with folder.undone_on_error(logdir, first, lambda: False):
            (logdir / folder.METRICS).write_text("")
            raise UserError("a mistake")
    assert [path.name for path in logdir.iterdir()] == [folder.CONFIG]
    first.release()
