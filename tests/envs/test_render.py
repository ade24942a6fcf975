import pytest

from common.envs import render


@pytest.fixture
def bare(monkeypatch):
    """A Linux machine without display and without MUJOCO_GL; undone afterwards."""
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(render.sys, "platform", "linux")
    return monkeypatch


@pytest.mark.parametrize(
    ("egl", "osmesa", "expected"),
    [(True, None, "egl"), (False, "libOSMesa.so.8", "osmesa"), (False, None, "disable")],
)
def test_egl_then_osmesa_then_none(bare, capsys, egl, osmesa, expected):
    bare.setattr(render, "egl_starts", lambda: egl)
    bare.setattr(render.ctypes.util, "find_library", lambda name: osmesa)
    assert render.choose_backend() == expected == render.os.environ["MUJOCO_GL"]
    assert ("OSMesa instead" in capsys.readouterr().err) == (expected == "osmesa")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("MUJOCO_GL", "osmesa", "osmesa"), ("DISPLAY", ":0", ""), ("WAYLAND_DISPLAY", "w", "")],
)
def test_what_the_user_has_set_stays(bare, name, value, expected):
    bare.setattr(render, "egl_starts", lambda: True)
    bare.setenv(name, value)
    assert render.choose_backend() == expected == render.os.environ["MUJOCO_GL"]


def test_other_systems_keep_their_own_choice(bare):
    bare.setattr(render.sys, "platform", "darwin")
    assert render.choose_backend() == ""


def test_no_egl_library_means_no_egl(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(render.ctypes, "CDLL", missing)
    assert not render.egl_starts()
