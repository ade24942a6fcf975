"""The wheel and the source distribution install in an environment of their own, and train there."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

from common.trained import trained_agents

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(*words, cwd, **options):
    """Runs a command without this repository on its path; returns what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory):
    """Both files, made of a copy of what git has here, the wheel out of the source distribution."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("built")
    names = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in names:
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=folder / "source")
    return {path.suffix: path for path in (folder / "source" / "dist").iterdir()}


@pytest.mark.parametrize("suffix", [".whl", ".gz"])
def test_it_installs_and_trains_in_another_folder(suffix, built, tmp_path):
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    # Libraries are those of the tests' environment, its own copy of the package is not.
    (pathlib.Path(own.strip()) / "below.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    words = "--no-deps", "--no-index", "--no-build-isolation", "--quiet"
    run(python, "-m", "pip", "install", *words, built[suffix], cwd=tmp_path)
    where = run(python, "-c", "import common; print(common.__file__)", cwd=tmp_path)
    assert pathlib.Path(where.strip()).is_relative_to(venv)
    dreamer = venv / "bin" / "dreamer"
    words = "--configs", "dmc_proprio", "debug", "--task", "dmc_cartpole_swingup"
    run(dreamer, "train", *words, "--run.video", "false", "--logdir", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "report.html").stat().st_size > 0
    assert all(f"zoo:{name} " in run(dreamer, "zoo", cwd=tmp_path) for name in trained_agents())
    name = next(name for name, one in trained_agents().items() if one.agent == "dreamer")
    assert "returns:" in run(
        dreamer, "eval", "--logdir", f"zoo:{name}", "--episodes", "1", cwd=tmp_path
    )
    help_text = run(python, "-m", "benchmarks", "atari", "score", "--help", cwd=tmp_path)
    assert "--published" in help_text
