"""The house rules, read from the source: import directions, sizes, docstrings, no pickle."""

from __future__ import annotations

import ast
import functools
import importlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("common", "dreamer", "planet", "configs", "benchmarks")
MAY_IMPORT = {
    "common": set(),
    "configs": set(),
    "dreamer": {"common"},
    "planet": {"common"},
    "benchmarks": {"common", "dreamer", "planet"},
}
GROUND = (
    "types", "errors", "checks", "files", "spaces", "rows", "config", "agent", "npz", "export",
    "guard", "planner", "cluster", "trained",
)  # fmt: skip
"""Modules of ``common`` beside its rooms; they import nothing but each other."""
CORE = ("distributions", "nets", "dynamics", "tokens", "learning", "model")
"""Rooms of ``common`` that are usable without the runtime, lowest first."""
RUNTIME = (
    "envs", "replay", "logging", "run", "published", "report", "watch", "launch",
    "command",
)  # fmt: skip
"""The other rooms, lowest first. A room imports only rooms that stand before it."""
SIMULATORS = (
    "mujoco", "dm_control", "ale_py", "shimmy", "crafter", "minigrid", "vizdoom", "metaworld",
    "deepmind_lab",
)  # fmt: skip
RUNTIME_LIBRARIES = ("orbax", "tensorboardX", "matplotlib", "imageio", "rich", "PIL", "ray")
UNSAFE = ("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib")
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 80


def sources(*folders: str) -> list[pathlib.Path]:
    """Every Python file of some top-level folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def parse(path: pathlib.Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


def imports(path: pathlib.Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, at its top or inside functions."""
    yield from imported_names(parse(path), path.relative_to(ROOT).parent.parts)


def imported_names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of what a tree imports; ``package`` resolves relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def module_name(path: pathlib.Path) -> str:
    """The dotted name of a file; that of a package for its ``__init__.py``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def module_names() -> frozenset[str]:
    """Dotted names of all modules and packages of this repository."""
    return frozenset(map(module_name, sources(*PACKAGES)))


def imported_modules(path: pathlib.Path) -> set[str]:
    """Modules of this repository that a file imports, also for annotations only."""
    found = set()
    for name in imports(path):
        while name and name not in module_names():
            name = name.rpartition(".")[0]
        if name:
            found.add(name)
    return found - {module_name(path)}


def room(module: str) -> str:
    """The room of ``common`` that a module stands in; "" on the ground floor."""
    part = (module.split(".") + [""])[1]
    return part if (ROOT / "common" / part).is_dir() else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_in_one_direction(package):
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}
    for path in sources(package):
        wrong = [name for name in imports(path) if name.split(".")[0] in forbidden]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_common_has_these_rooms_and_this_ground_floor():
    folders = {path.parent.name for path in (ROOT / "common").glob("*/__init__.py")}
    assert folders == {*CORE, *RUNTIME}
    files = {path.stem for path in (ROOT / "common").glob("*.py")}
    assert files == {*GROUND, "__init__"}


def test_rooms_import_only_what_stands_below_them():
    order = ["", *CORE, *RUNTIME]
    for path in sources("common"):
        if path == ROOT / "common" / "__init__.py":  # The face of the package.
            continue
        mine = order.index(room(module_name(path)))
        names = [name for name in imported_modules(path) if name.startswith("common.")]
        wrong = [name for name in names if order.index(room(name)) > mine]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_modules_import_each_other_in_a_circle():
    waiting = {module_name(path): imported_modules(path) for path in sources(*PACKAGES)}
    while waiting:
        free = {name for name, needs in waiting.items() if not needs & waiting.keys()}
        assert free, f"a circle among {sorted(waiting)}"
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_nobody_imports_a_command():
    """A ``__main__`` is run; what others use stands in a module of its own."""
    for path in sources(*PACKAGES):
        wrong = [name for name in imports(path) if "__main__" in name.split(".")]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_module_has_the_name_of_what_its_package_exports():
    for path in sources(*PACKAGES):
        if path.name != "__init__.py":
            continue
        names = {n.name for n in parse(path).body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        names |= {n.rpartition(".")[2] for n in imports(path)}
        names |= set(getattr(importlib.import_module(module_name(path)), "__all__", ()))
        here = {other.stem for other in path.parent.glob("*.py")}
        taken = {n for n in names & here if callable(_attribute(path, n))}
        assert not taken, f"{path.relative_to(ROOT)}: {taken} are modules and functions"


def _attribute(path: pathlib.Path, name: str) -> object:
    return getattr(importlib.import_module(module_name(path)), name, None)


def test_the_reader_of_imports_sees_every_form():
    code = "import a.b\nfrom c import d\ndef f():\n  from .e import g\n  from .. import h\n"
    found = list(imported_names(ast.parse(code), ("common", "envs")))
    assert found == ["a.b", "c.d", "common.envs.e.g", "common.h"]


def test_nothing_unpickles():
    for path in sources(*PACKAGES):
        wrong = [name for name in imports(path) if name.split(".")[0] in UNSAFE]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert getattr(node.value, "value", True) is False, f"{path}:{node.value.lineno}"


@pytest.mark.parametrize("module", ["common", "common.model.imagine", "dreamer", "dreamer.agent"])
def test_component_imports_load_no_runtime(module):
    code = f"import {module}, sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "common" in loaded or module == "dreamer"
    assert not loaded & {*SIMULATORS, *RUNTIME_LIBRARIES}


def test_files_and_functions_are_short():
    for path in sources(*PACKAGES, "tests"):
        lines = path.read_text().count("\n")
        assert lines <= MOST_LINES_OF_A_FILE, f"{path.relative_to(ROOT)} has {lines} lines"
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                assert length <= MOST_LINES_OF_A_FUNCTION, f"{place} has {length} lines"


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public classes, functions and methods of a module's body."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def test_everything_public_is_documented():
    for path in sources(*PACKAGES):
        tree = parse(path)
        place = path.relative_to(ROOT)
        assert ast.get_docstring(tree) or not tree.body, f"{place} has no docstring"
        missing = [name for name, node in public(tree.body) if not ast.get_docstring(node)]
        assert not missing, f"{place}: no docstring on {missing}"
