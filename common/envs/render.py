"""MuJoCo pictures without a display: which OpenGL backend to use, and the camera.

MuJoCo and dm_control choose their backend from ``MUJOCO_GL`` when they are first
imported, so ``choose_backend`` has to run before that.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import ctypes.util
import importlib
import os
import sys
import weakref
from typing import Any

import numpy as np

from common.errors import UserError

REMEDY = (
    "install a software renderer (apt install libegl1 libgl1-mesa-dri, or libosmesa6), "
    "or train from state (--env.pixels False --env.state True)"
)
_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT


def choose_backend() -> str:
    """Sets ``MUJOCO_GL`` where the user did not and there is no display.

    EGL is taken where it starts, else OSMesa, else "disable", with which training
    from state still works. Systems with a display, and those that are not Linux,
    keep MuJoCo's own choice.

    Returns:
        The value of ``MUJOCO_GL``; empty for MuJoCo's own choice.
    """
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if os.environ.get("MUJOCO_GL") or display or not sys.platform.startswith("linux"):
        return os.environ.get("MUJOCO_GL", "")
    if egl_starts():
        backend = "egl"
    elif ctypes.util.find_library("OSMesa"):
        backend = "osmesa"
        print("EGL does not start here; rendering with OSMesa instead", file=sys.stderr)
    else:
        backend = "disable"
    os.environ["MUJOCO_GL"] = backend
    return backend


def egl_starts() -> bool:
    """Whether some EGL device, a GPU or Mesa's software renderer, can be initialised."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    addresses = [
        egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")
    ]
    if not all(addresses):
        return False
    pointers, integer = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointers, integer)(addresses[0])
    display_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(
        addresses[1]
    )
    devices, found = (ctypes.c_void_p * 16)(), ctypes.c_int()
    if not query(len(devices), devices, ctypes.byref(found)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    displays = [display_of(_PLATFORM_DEVICE, device, None) for device in devices[: found.value]]
    return any(display and egl.eglInitialize(display, None, None) for display in displays)


class Camera:
    """Draws one fixed camera of a MuJoCo model.

    Args:
        model: A ``mujoco.MjModel``.
        size: Height and width of the pictures, in pixels.
        camera: Index of a camera of the model, or -1 for the free camera.
        fast: Leave out shadows, reflections and multisampling.

    Raises:
        UserError: There is no OpenGL renderer, or the model has no such camera.
    """

    def __init__(self, model: Any, size: int, camera: int, fast: bool = False):
        import mujoco

        if not -1 <= camera < model.ncam:
            raise UserError(f"camera {camera} does not exist; choose from 0 to {model.ncam - 1}")
        self._mujoco, self._model = mujoco, model
        self._gl = _gl_context(size)
        self._gl.make_current()
        quality, buffers = model.vis.quality, model.vis.global_
        buffers.offwidth, buffers.offheight = (
            max(size, buffers.offwidth),
            max(size, buffers.offheight),
        )
        samples, shadows = quality.offsamples, quality.shadowsize
        if fast:
            quality.offsamples, quality.shadowsize = 0, 0
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        quality.offsamples, quality.shadowsize = samples, shadows
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        if fast:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
            self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option, self._view = mujoco.MjvOption(), mujoco.MjvCamera()
        self._view.fixedcamid = camera
        if camera >= 0:
            self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        else:
            mujoco.mjv_defaultFreeCamera(model, self._view)
        self._rect = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        # The EGL display ends at exit; a context that is freed after it prints errors.
        reference = weakref.ref(self)
        self._at_exit = lambda: (camera := reference()) and camera.close()
        atexit.register(self._at_exit)

    def draw(self, data: Any) -> np.ndarray:
        """Returns the picture ``[size, size, 3]`` uint8 of a ``mujoco.MjData``."""
        mujoco = self._mujoco
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            None,
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        return self._pixels[::-1].copy()  # OpenGL's first row is the bottom one.

    def close(self) -> None:
        """Frees the OpenGL context; a second call does nothing."""
        if self._gl is not None:
            atexit.unregister(self._at_exit)
            with contextlib.suppress(Exception):
                self._gl.make_current()
                self._context.free()
                self._gl.free()
            self._gl = None

    def __del__(self) -> None:
        if getattr(self, "_at_exit", None):
            self.close()


def _gl_context(size: int) -> Any:
    backend = choose_backend().lower()
    if backend in ("disable", "disabled", "off", "false", "0"):
        raise UserError(f"there is no OpenGL renderer (MUJOCO_GL={backend}); {REMEDY}")
    if backend not in ("egl", "osmesa", "glfw", "cgl"):
        backend = "cgl" if sys.platform == "darwin" else "glfw"
    try:
        if backend == "glfw" and not importlib.import_module("glfw").init():
            raise OSError("the display does not open; set MUJOCO_GL=egl to render without one")
        return importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
    except Exception as error:  # PyOpenGL fails with many types, AttributeError among them.
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"the OpenGL renderer {backend!r} failed ({reason}); {REMEDY}") from error
