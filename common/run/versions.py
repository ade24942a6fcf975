"""Versions of the package, of its libraries and of what they run on."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys

DISTRIBUTION = "world-model-agents"
ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARIES = (
    "jax",
    "jaxlib",
    "dm-haiku",
    "chex",
    "optax",
    "tfp-nightly",
    "jmp",
    "numpy",
    "gymnasium",
    "dm_control",
    "mujoco",
    "ale-py",
    "orbax-checkpoint",
    "tensorboardX",
    "ruamel.yaml",
    "rich",
    "matplotlib",
    "imageio",
    "imageio-ffmpeg",
)
"""What the package needs to train, and what that computes with."""


def version_of(distribution: str) -> str | None:
    """Returns the version of an installed distribution, None where it is missing."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """Returns the commit of the source tree, with "+" where files differ from it.

    "installed" where the package does not run from a source tree of its own.
    """
    if not (ROOT / ".git").exists():
        return "installed"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run([*command, "--abbrev=40"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """Returns the name of this machine's processor."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def device() -> str:
    """Returns the kind of device that JAX computes on, and how many there are."""
    import jax

    devices = jax.devices()
    return f"{devices[0].device_kind} x {len(devices)}"


def command() -> str:
    """Returns this process's command line, without the folder of the program."""
    program = pathlib.Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Returns the versions of this package and of what it computes with, by name."""
    found = {name: version_of(name) for name in (DISTRIBUTION, *LIBRARIES)}
    return {name: version for name, version in found.items() if version}


def describe() -> str:
    """Describes what this process runs with, one line each: name, then version."""
    lines = [
        f"command {command()}",
        f"commit {commit()}",
        f"python {platform.python_version()}",
        f"platform {platform.platform()}",
        f"processor {processor()}, {len(os.sched_getaffinity(0))} cores",
        f"device {device()}",
    ]
    lines += [f"{name} {version}" for name, version in versions().items()]
    return "\n".join(lines) + "\n"
