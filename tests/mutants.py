"""Small mistakes put into the code, one at a time, and whether the tests notice.

``make mutants`` draws some of all that cosmic-ray knows to make in the rooms that join the
parts, tries each in a copy of the working tree, and writes the share that was noticed, with
every mistake that was not, to ``benchmarks/results/reliability/mutants.json``. The same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import importlib.metadata
import itertools
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

from common.errors import UserError, exit_code
from common.files import replacing
from common.logging.terminal import format_seconds
from common.run.versions import describe

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "reliability" / "mutants.json"
ROOMS = {
    "common/run": (
        "tests/run",
        "tests/model/test_save.py",
        "tests/integration/test_command_line.py",
    ),
    "dreamer": ("tests/dreamer", "tests/configs", "tests/integration/test_known_optimum.py"),
    "planet": ("tests/planet", "tests/configs"),
    "benchmarks/tdm": ("tests/benchmarks",),
}
"""The rooms, and the tests that are to notice; those of a module's name come before the others."""
LOOKS = ("plots.py",)
"""Modules whose numbers are colours and sizes."""
_ORDER = re.compile(r"ReplaceComparisonOperator_(Eq|NotEq)_(Lt|LtE|Gt|GtE)\b")
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
TIMEOUT = 900
"""Seconds after which a mistake is given up, and counts as not tried: whether the tests hang or
the machine is busy can't be told."""


def possible(room: str) -> list[MutationSpec]:
    """Returns the mistakes that can be made in a room, one for every place of the code.

    Of several at one place, such as all other operators, one stands for them. Mistakes in an
    annotation, or in a test for TYPE_CHECKING, are left out, since they change nothing that runs;
    so are those in how a picture looks, and an order in the place of a word's equality, since of
    the few words that may stand there it mostly changes nothing either.
    """
    modules = sorted(path for path in (ROOT / room).glob("*.py") if path.name not in LOOKS)
    with tempfile.TemporaryDirectory() as folder:
        with use_db(pathlib.Path(folder) / "mutants.sqlite", WorkDB.Mode.create) as database:
            init(modules, database, {})
            found = [item.mutations[0] for item in database.work_items]
    unions = {path: set(_annotations(path)) for path in modules}
    places: dict[tuple[Any, ...], MutationSpec] = {}
    for one in random.Random(0).sample(sorted(found, key=_name), len(found)):
        lines = range(one.start_pos[0], one.end_pos[0] + 1)
        in_annotation = not unions[one.module_path].isdisjoint(lines)
        if "BitOr" in one.operator_name and in_annotation:
            continue
        if one.start_pos[0] in _tests_for_checking(one.module_path):
            continue
        if _ORDER.search(one.operator_name) and one.start_pos[0] in _words(one.module_path):
            continue
        kind = one.operator_name.partition("_")[0]
        places.setdefault((one.module_path, one.start_pos, one.end_pos, kind), one)
    return list(places.values())


def _annotations(path: pathlib.Path) -> Iterator[int]:
    """Yields the lines of a module on which an annotation stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield from range(part.lineno, part.end_lineno + 1)


@functools.cache
def _words(path: pathlib.Path) -> set[int]:
    """Returns the lines of a module on which something is compared with a word."""
    found = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Compare)
    ]
    return {
        node.lineno
        for node in found
        if any(isinstance(getattr(x, "value", None), str) for x in (node.left, *node.comparators))
    }


@functools.cache
def _tests_for_checking(path: pathlib.Path) -> set[int]:
    """Returns the lines of a module that say ``if TYPE_CHECKING``."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return {number for number, line in lines if line.strip() == "if TYPE_CHECKING:"}


def _name(one: MutationSpec) -> str:
    path = one.module_path.relative_to(ROOT)
    return f"{path}:{one.start_pos[0]}:{one.start_pos[1]} {one.operator_name} {one.occurrence}"


def draw(rooms: Sequence[str], number: int, seed: int) -> list[tuple[str, MutationSpec]]:
    """Draws so many mistakes of every room, in turn."""
    drawn = []
    for room in rooms:
        all_of_them = possible(room)
        chosen = random.Random(seed).sample(all_of_them, min(number, len(all_of_them)))
        drawn.append([(room, one) for one in chosen])
    return [one for turn in itertools.zip_longest(*drawn) for one in turn if one]


def copy_tree(folder: pathlib.Path) -> None:
    """Copies what git knows, or would know, of the working tree."""
    words = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def attempt(room: str, one: MutationSpec, folder: pathlib.Path) -> dict[str, Any]:
    """Makes one mistake in the copy, runs the tests, and takes it back.

    Raises:
        UserError: The test that noticed it fails without it, too.
    """
    path = one.module_path.relative_to(ROOT)
    own = sorted((folder / "tests").glob(f"*/test_{path.stem}.py"))
    tests = [str(test.relative_to(folder)) for test in own] + list(ROOMS[room])
    words = [*PYTEST, "-x", *tests]
    moved = attrs.evolve(one, module_path=folder / path)
    begin = time.monotonic()
    result = mutate_and_test([moved], shlex.join(words), TIMEOUT)
    outcome = str(result.test_outcome.value if result.test_outcome else result.worker_outcome)
    noticed_by = _failed(result.output or "")
    outcome = "timeout" if noticed_by == "timeout" else outcome
    if outcome == "killed":
        _check_passes(noticed_by)
    changed = [line for line in (result.diff or "").splitlines() if line[:1] in ("+", "-")]
    return {
        "mistake": _name(one),
        "room": room,
        "outcome": outcome,
        "seconds": round(time.monotonic() - begin, 1),
        "change": [line for line in changed if not line.startswith(("+++", "---"))],
        "noticed_by": noticed_by,
    }


def _check_passes(test: str) -> None:
    if "::" not in test:
        return  # It could not be imported.
    done = subprocess.run([*PYTEST, test], capture_output=True)
    if done.returncode:
        raise UserError(f"{test} fails without any mistake too; mend it, or what it needs, first")


def _failed(output: str) -> str:
    """Returns the first test that failed, by pytest's summary."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].split(" - ")[0].split(" ", 1)[1] if lines else output[-200:].strip()


def record(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the shares that were noticed, by room and in all, and every attempt."""
    rooms = list(dict.fromkeys(one["room"] for one in tried))
    return {
        "versions": describe(),
        "cosmic_ray": importlib.metadata.version("cosmic-ray"),
        "rooms": {room: _share([one for one in tried if one["room"] == room]) for room in rooms},
        **_share(tried),
        "survived": [one for one in tried if one["outcome"] == "survived"],
        "others": [one for one in tried if one["outcome"] != "survived"],
    }


def _share(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts outcomes; where the tests could not be run, nothing was tried."""
    outcomes = [one["outcome"] for one in tried]
    noticed, survived = outcomes.count("killed"), outcomes.count("survived")
    both = noticed + survived
    return {"tried": both, "noticed": noticed, "share": noticed / both if both else None}


def main() -> int:
    """Runs the command line; returns the exit code."""
    return exit_code(_run)


def _run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=50, help="mistakes of every room (50)")
    parser.add_argument("--seed", type=int, default=0, help="which are drawn (0)")
    parser.add_argument("--rooms", nargs="+", choices=list(ROOMS), default=list(ROOMS))
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    drawn = draw(given.rooms, given.number, given.seed)
    before = json.loads(given.results.read_text()) if given.results.exists() else {}
    tried = [*before.get("survived", ()), *before.get("others", ())]
    known = {one["mistake"] for one in tried}
    left = [(room, one) for room, one in drawn if _name(one) not in known]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, contextlib.chdir(folder):
        copy_tree(pathlib.Path(folder))
        for number, (room, one) in enumerate(left, 1):
            result = attempt(room, one, pathlib.Path(folder))
            tried.append(result)
            each = (time.monotonic() - begin) / number
            rest = format_seconds(each * (len(left) - number))
            place = f"{number} of {len(left)}, {rest} left: {_name(one)}"
            print(f"{place}: {result['outcome']}", flush=True)
            with replacing(given.results) as path:
                path.write_text(json.dumps(record(tried), indent=1) + "\n")
    total = _share(tried)
    print(f"noticed: {total['noticed']} of {total['tried']}; {given.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
