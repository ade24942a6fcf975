"""The names in a run folder have one owner."""

from __future__ import annotations

import ast
import pathlib

from common.run import folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = {
    folder.CONFIG, folder.VERSIONS, folder.METRICS, folder.SCORES, folder.CHECKPOINTS,
    folder.TENSORBOARD, folder.VIDEOS, folder.EXPORT, folder.REPORT,
}  # fmt: skip
OTHERS = {
    ("benchmarks/page/command.py", folder.REPORT),  # The pages of the benchmarks are named
    ("benchmarks/tdm/report.py", folder.REPORT),  # alike, and lie in no run folder.
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
