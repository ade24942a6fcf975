"""``dreamer doctor``: what a machine has, what it lacks, and the remedy.

Whatever may crash or hang (drivers, OpenGL, the emulator) is probed in a process of its
own: ``python -m common.command.doctor <probe>`` prints one line, or fails with one.
"""

from __future__ import annotations

import os
import pathlib
import platform
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from common.command.memory import available_memory
from common.errors import to_install
from common.run.versions import DISTRIBUTION, LIBRARIES, ROOT, version_of

PROBE_SECONDS = 120
SCENE = """
<mujoco><worldbody>
  <light pos="0 0 3"/><camera name="front" pos="0 -2 1" xyaxes="1 0 0 0 1 2"/>
  <geom type="sphere" size="0.5" rgba="1 0 0 1"/>
</worldbody></mujoco>
"""


PROCESSORS = pathlib.Path("/proc/cpuinfo")
BFLOAT16 = (
    "it has AMX, which multiplies bfloat16: with --precision bfloat16_products large networks "
    "learn faster on it"
)


class Finding(NamedTuple):
    """One line of the diagnosis.

    Attributes:
        name: What was looked at.
        status: "ok", "note" (works, but not as well as it might) or "problem".
        detail: What was found.
        remedy: What to do about it; empty where all is well.
    """

    name: str
    status: Literal["ok", "note", "problem"]
    detail: str
    remedy: str = ""


def run() -> int:
    """Prints the diagnosis; returns 0, or 1 where there is a problem."""
    problems = 0
    for finding in findings():
        problems += finding.status == "problem"
        print(_layout(finding), flush=True)
    plural = "" if problems == 1 else "s"
    print(f"\n{problems} problem{plural} found." if problems else "\nReady to train.")
    return int(problems > 0)


def _layout(finding: Finding) -> str:
    """Sets a finding in columns; the remedy, which people copy, is not broken."""
    head = f"{finding.status:<8} {finding.name:<10} "
    indent = " " * len(head)
    lines = textwrap.wrap(finding.detail, 100 - len(head), break_on_hyphens=False)
    text = head + f"\n{indent}".join(lines)
    return f"{text}\n{indent}-> {finding.remedy}" if finding.remedy else text


def findings() -> Iterator[Finding]:
    """Yields what is found, piece by piece, the quick things first."""
    yield check_python(sys.version_info[:3])
    yield from check_libraries(version_of)
    yield check_memory(available_memory() / 2**30, len(os.sched_getaffinity(0)))
    yield check_disk(shutil.disk_usage(pathlib.Path.cwd()).free / 2**30)
    gpus = _gpus()
    if gpus:
        yield Finding("driver", "ok", gpus)
    elif multiplies_bfloat16():
        yield Finding("processor", "ok", BFLOAT16)
    yield check_jax(*probe("jax"), has_gpu=bool(gpus))
    yield check_renderer(*probe("renderer"))
    yield check_probe("atari", *probe("atari"), remedy="pip install --upgrade ale-py")
    yield check_probe("video", *probe("video"), remedy="pip install --upgrade imageio-ffmpeg")


def check_python(version: tuple[int, ...]) -> Finding:
    """Judges the version of Python."""
    shown = f"{'.'.join(map(str, version))} on {platform.platform(terse=True)}"
    if version < (3, 11):
        return Finding("python", "problem", shown, "install Python 3.11, 3.12 or 3.13")
    return Finding("python", "ok", shown)


def check_libraries(version_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Judges the versions of libraries.

    Args:
        version_of: From the name of a distribution to its version; None where missing.
    """
    versions = {name: version_of(name) for name in LIBRARIES}
    missing = [name for name, version in versions.items() if version is None]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if missing:
        remedy = to_install(*missing)
        yield Finding("libraries", "problem", f"missing: {', '.join(missing)}; {shown}", remedy)
    else:
        yield Finding("libraries", "ok", shown)
    mujoco = _numbers(versions["mujoco"] or "3.17")
    if not (3, 17) <= mujoco < (4,):
        remedy = "pip install 'mujoco>=3.17,<4'"
        yield Finding("mujoco", "problem", "dm_control needs 3.17 or later, below 4", remedy)
    if version_of("tensorflow-probability"):
        yield Finding(
            "tfp",
            "problem",
            "tensorflow-probability lies over tfp-nightly in the same folder and is too old",
            "pip uninstall -y tensorflow-probability && pip install --force-reinstall "
            "--no-deps tfp-nightly",
        )


def multiplies_bfloat16() -> bool:
    """Whether the processor has AMX, by which products of bfloat16 are faster than of float32."""
    try:
        return "amx_bf16" in PROCESSORS.read_text()
    except OSError:
        return False


def check_memory(gigabytes: float, cores: int) -> Finding:
    """Judges the memory that is free, in GiB."""
    shown = f"{gigabytes:.1f} GiB free, {cores} cores"
    if gigabytes < 4:
        remedy = "close other programs, or shrink the replay: --replay.memory 1"
        return Finding("memory", "note", shown, remedy)
    return Finding("memory", "ok", shown)


def check_disk(gigabytes: float) -> Finding:
    """Judges the room in the working directory, in GiB."""
    shown = f"{gigabytes:.1f} GiB free in the working directory"
    if gigabytes < 5:
        return Finding("disk", "note", shown, "make room, or put --logdir on another disk")
    return Finding("disk", "ok", shown)


def check_jax(passed: bool, line: str, has_gpu: bool) -> Finding:
    """Judges the outcome of compiling and running a matrix product."""
    if not passed:
        extra = "gpu" if has_gpu else ""
        package = f"'{DISTRIBUTION}[{extra}]'" if extra else "jax jaxlib"
        remedy = f"pip install --upgrade {package}; JAX_PLATFORMS=cpu runs without the accelerator"
        return Finding("jax", "problem", line, remedy)
    if has_gpu and line.startswith("cpu"):
        remedy = f"pip install '{DISTRIBUTION}[gpu]', and unset JAX_PLATFORMS"
        return Finding("jax", "note", f"the GPU is not used: {line}", remedy)
    return Finding("jax", "ok", line)


def check_renderer(passed: bool, line: str) -> Finding:
    """Judges the outcome of drawing a small scene."""
    if passed:
        return Finding("renderer", "ok", line)
    remedy = (
        "apt-get install libegl1 libgl1 libopengl0 libgl1-mesa-dri (or libosmesa6), and unset "
        "MUJOCO_GL; without one, train from state: --configs dmc_proprio --run.video false"
    )
    return Finding("renderer", "problem", line, remedy)


def check_probe(name: str, passed: bool, line: str, remedy: str) -> Finding:
    """Judges a probe that has one remedy."""
    return Finding(name, "ok", line) if passed else Finding(name, "problem", line, remedy)


def probe(name: str, seconds: float = PROBE_SECONDS) -> tuple[bool, str]:
    """Runs a probe in a process of its own.

    Returns:
        Whether it passed, and its last line: the result, or the error.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "common.command.doctor", name]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {seconds:g} s"
    printed = done.stdout if done.returncode == 0 else done.stderr
    lines = [line for line in printed.splitlines() if line.strip()]
    if done.returncode < 0:
        lines.append(f"killed by signal {-done.returncode}")
    return done.returncode == 0, lines[-1].strip() if lines else f"exit code {done.returncode}"


def _probe_jax() -> str:
    import jax
    import jax.numpy as jnp

    size = 1024
    device = jax.devices()[0]
    matrix = jnp.ones((size, size))
    product = jax.jit(lambda x: x @ x)
    start = time.perf_counter()
    product(matrix).block_until_ready()
    compiled = time.perf_counter() - start
    start = time.perf_counter()
    product(matrix).block_until_ready()
    seconds = time.perf_counter() - start
    kinds = f"{len(jax.devices())} x {device.device_kind}"
    speed = 2 * size**3 / seconds / 1e9
    return f"{device.platform} ({kinds}), compiles in {compiled:.2f} s, {speed:.0f} GFLOP/s"


def _probe_renderer() -> str:
    from common.envs import render

    render.choose_backend()
    import mujoco

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = render.Camera(model, 64, 0)
    camera.draw(data)
    start = time.perf_counter()
    image = camera.draw(data)
    milliseconds = 1000 * (time.perf_counter() - start)
    if image[32, 32, 0] < 30 or image[32, 32, 0] < 2 * int(image[32, 32, 1]):
        raise RuntimeError(f"the red ball in the middle is drawn as {image[32, 32].tolist()}")
    backend = os.environ.get("MUJOCO_GL") or "MuJoCo's own choice"
    return f"{backend}, 64x64 in {milliseconds:.1f} ms"


def _probe_atari() -> str:
    import ale_py
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulator = ale_py.ALEInterface()
    emulator.loadROM(roms.get_rom_path("pong"))
    emulator.act(0)
    return f"ale-py {ale_py.__version__}, {len(roms.get_all_rom_ids())} games"


def _probe_video() -> str:
    import imageio_ffmpeg

    return f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}"


PROBES = {
    "jax": _probe_jax,
    "renderer": _probe_renderer,
    "atari": _probe_atari,
    "video": _probe_video,
}


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


def _gpus() -> str:
    """Names and driver of the NVIDIA devices; empty where there are none."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else ""


if __name__ == "__main__":
    print(PROBES[sys.argv[1]]())
