"""What a wheel would hold, and whether metadata and folders agree."""

from __future__ import annotations

import configparser
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import setuptools

from benchmarks.jobs.plan import AGENTS
from common.command import presets
from common.run import versions
from tests.test_layering import PACKAGES

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", name="setup")
def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def listed(text: str) -> list[str]:
    """Lines of a multi-line value without comments."""
    return [line for line in text.split("\n") if line.strip() and not line.startswith("#")]


def requirement_name(line: str) -> str:
    """Name of a requirement, normalised."""
    return re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")


def test_every_folder_with_code_is_a_package(setup):
    include = listed(setup["options.packages.find"]["include"])
    packages = set(setuptools.find_packages(str(ROOT), include=include))
    for top in PACKAGES:
        folders = {path.parent for path in (ROOT / top).rglob("*.py")}
        expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
        assert expected <= packages, sorted(expected - packages)
    assert not any(name.startswith("tests") for name in packages)


def test_every_package_is_held_to_the_house_rules():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(PACKAGES)


def test_every_agent_has_a_command_and_is_benchmarked():
    assert {path.parent.name for path in ROOT.glob("*/program.py")} == set(AGENTS)


def test_presets_are_package_data(setup):
    pattern = setup["options.package_data"]["configs"]
    found = {path.stem for path in (ROOT / "configs").glob(pattern)}
    assert found == set(presets.preset_names())


def test_published_data_and_trained_agents_are_package_data(setup):
    patterns = setup["options.package_data"]["common"].split(", ")
    installed = {path for pattern in patterns for path in (ROOT / "common").glob(pattern)}
    folders = ROOT / "common" / "published" / "data", ROOT / "common" / "zoo"
    assert installed == {path for folder in folders for path in folder.iterdir()}


def test_requirements_are_ranges_and_complete(setup):
    needed = listed(setup["options"]["install_requires"])
    for line in [*needed, *listed("\n".join(setup["options.extras_require"].values()))]:
        assert "==" not in line, f"{line} is pinned"
    names = set(map(requirement_name, needed))
    assert "mujoco>=3.17,<4" in needed  # dm_control fails with older and with newer ones.
    # Of labmaze, which it names, there is no wheel for Python 3.13; `.ci/setup` installs it alone.
    assert 'dm_control>=1.0.48; python_version < "3.13"' in needed
    assert "--no-deps 'dm_control>=1.0.48'" in (ROOT / ".ci" / "setup").read_text()
    computed_with = {"jaxlib"}  # It comes with jax.
    assert {name.lower().replace("_", "-") for name in versions.LIBRARIES} - names == computed_with
    extras = "dmc atari gpu cluster tune track onnx minari lerobot docs dev"
    for extra in extras.split():
        assert setup["options.extras_require"][extra].strip()
    site, own = (set(listed(setup["options.extras_require"][name])) for name in ("docs", "dev"))
    assert site <= own  # Its tests build the site.


def test_name_scripts_and_python(setup):
    assert setup["metadata"]["name"] == versions.DISTRIBUTION
    assert setup["options"]["python_requires"] == ">=3.11"
    scripts = listed(setup["options.entry_points"]["console_scripts"])
    for line in scripts:
        module = line.split("=")[1].split(":")[0].strip()
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()
    assert {line.split("=")[0].strip() for line in scripts} == set(AGENTS)  # Of benchmarks too.


def test_installed_tree_runs_from_another_folder(tmp_path):
    """What an installation would copy, and nothing else, is enough for the command line."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    ignore = shutil.ignore_patterns("__pycache__", "results")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    words = ["build_py", "--build-lib", str(installed)]
    code = f"import setuptools; setuptools.setup(script_args={words})"
    run = functools.partial(subprocess.run, capture_output=True, text=True)
    built = run([sys.executable, "-c", code], cwd=source)
    assert built.returncode == 0, built.stderr
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    words = ["-m", "dreamer", "train", "--configs", "dmc_vision", "--help"]
    done = run([sys.executable, *words], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "--world_model.rssm.deter" in done.stdout and "size_xl" in done.stdout


def test_project_files_are_there_and_parse():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci/run"):
        assert (ROOT / name).stat().st_size > 0, name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["build-system"]["build-backend"] == "setuptools.build_meta"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
