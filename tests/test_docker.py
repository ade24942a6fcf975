"""The Dockerfiles name what there is: instructions, paths, extras, libraries and commands."""

from __future__ import annotations

import configparser
import fnmatch
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "docker").iterdir())
KNOWN = {"FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "VOLUME", "CMD"}


def instructions(path: pathlib.Path) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile and their words, lines that are continued joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in text.split("\n") if line]


def words_of(path: pathlib.Path, name: str) -> str:
    """Everything that all instructions of a name say."""
    return "\n".join(words for one, words in instructions(path) if one == name)


def test_there_is_one_for_a_cpu_and_one_for_a_card():
    assert [path.name for path in FILES] == ["Dockerfile", "Dockerfile.cuda"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestDockerfile:
    def test_is_made_of_known_instructions(self, path):
        found = [name for name, _ in instructions(path)]
        assert found[0] == "FROM" and found[-1] == "CMD" and set(found) == KNOWN

    def test_shell_commands_are_well_formed(self, path):
        for name, words in instructions(path):
            if name == "RUN":
                subprocess.run([shutil.which("sh"), "-n", "-c", words], check=True)

    def test_installs_extras_that_exist_and_what_mujoco_draws_with(self, path):
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        run = words_of(path, "RUN")
        extras = re.findall(r"/source\[(\w+)\]", run)
        assert extras == (["gpu"] if path.suffix else [])
        assert all(extra in setup["options.extras_require"] for extra in extras)
        assert "libegl1" in run and "MUJOCO_GL=egl" in words_of(path, "ENV")

    def test_runs_as_a_user_whose_folder_outlasts_the_container(self, path):
        folder = words_of(path, "WORKDIR")
        assert words_of(path, "USER") == "1000" and words_of(path, "VOLUME") == folder
        assert f"mkdir {folder} && chown agent {folder}" in words_of(path, "RUN")

    def test_its_first_lines_show_commands_that_fit(self, path):
        text = " ".join(line[2:] for line in path.read_text().splitlines() if line[:2] == "# ")
        build, run = re.search(r"`docker build ([^`]*)`.*`(docker run [^`]*)`", text).groups()
        assert f"-f {path.relative_to(ROOT)} " in build and build.endswith(" .")
        assert "`mkdir -p runs`" in text and "$PWD/runs:/runs" in run
        configs = re.search(r"--configs (\w+)", run)[1]
        assert (ROOT / "configs" / f"{configs}.yaml").exists()

    def test_shows_the_help_of_a_command_that_is_installed(self, path):
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        command = re.match(r'\["(\w+)", "--help"\]', words_of(path, "CMD"))[1]
        assert f"{command} = " in setup["options.entry_points"]["console_scripts"]


def test_an_image_gets_what_a_wheel_is_made_of():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().split() if line != "#"]
    needed = ["setup.cfg", "pyproject.toml", "README.md", "LICENSE", "common", "dreamer", "planet"]
    for name in [*needed, "configs", "benchmarks"]:
        assert (ROOT / name).exists()
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), name
    assert "tests" in ignored
