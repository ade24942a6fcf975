"""Weights & Biases, which draws the curves of many runs in a browser."""

from __future__ import annotations

import importlib
import io
import os
import pathlib
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from common.errors import UserError
from common.files import make_folder, replacing
from common.logging.video import encode_gif

FINISH_SECONDS = 60
"""How long a run waits at its end for what the service has not taken yet."""


def check_wandb() -> Any:
    """Returns the package wandb.

    Raises:
        UserError: It is not installed.
    """
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise _missing(str(error)) from error
    if not hasattr(wandb, "init"):  # A run's own folder of that name is found as well.
        raise _missing(f"found only the folder {list(wandb.__path__)[0]}")
    return wandb


def _missing(reason: str) -> UserError:
    return UserError(
        f"run.loggers wandb needs the package ({reason}): "
        "run pip install 'world-model-agents[track]'"
    )


class WandbSink:
    """Writes scalars and videos to a run of Weights & Biases.

    Its x axis is the run's clock, so that a run that goes on from an older checkpoint draws
    over what it had drawn. ``WANDB_MODE``, ``WANDB_ENTITY`` and the like count as ever.

    The service never ends a training: the first call that fails is named in one warning, and
    the session goes on without. Where nobody is logged in it does not begin.

    Args:
        directory: The folder "wandb", made if missing: the package keeps its files there, and
            so does this sink the run's id, by which a later session goes on.
        project: Name of the project, if ``WANDB_PROJECT`` names none.
        name: Name of the run, if ``WANDB_NAME`` names none.
        config: The configuration as nested plain values.
        clock: "frames" or "updates".
        fps: Pictures of a video in a second.

    Raises:
        UserError: The package is not installed, or nobody is logged in.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        project: str,
        name: str,
        config: Mapping[str, Any],
        clock: str = "frames",
        fps: int = 20,
    ) -> None:
        self._wandb, self._clock, self._fps = check_wandb(), clock, fps
        self._run: Any = None
        identity = _identity(directory)
        try:
            self._run = self._wandb.init(
                dir=str(directory.parent),
                project=os.environ.get("WANDB_PROJECT", project),
                name=os.environ.get("WANDB_NAME", name),
                id=identity,
                resume="allow",
                config=dict(config),
                settings=self._wandb.Settings(console="off", finish_timeout=FINISH_SECONDS),
            )
            self._run.define_metric("*", step_metric=clock)
        except self._wandb.errors.UsageError as error:
            raise UserError(
                f"wandb does not begin ({_line(error)}); run wandb login, or set "
                "WANDB_MODE=offline, or leave --run.loggers out"
            ) from error
        except Exception as error:  # Whatever the service raises, training is worth more.
            self._give_up(error)

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Adds one point to the curve of every name."""
        self._try(lambda run: run.log({self._clock: int(frames), **scalars}))

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Adds an animation ``[T, H, W, C]`` uint8."""

        def log(run: Any) -> None:
            picture = io.BytesIO(encode_gif(video, self._fps))
            film = self._wandb.Video(picture, format="gif")
            run.log({self._clock: int(frames), name: film})

        self._try(log)

    def rewind(self, frames: int) -> None:
        """Does nothing: the service forgets nothing, and draws over it."""

    def flush(self) -> None:
        """Does nothing: another process sends what it is given."""

    def close(self) -> None:
        """Ends the session, and waits a while for what is not sent yet."""
        self._try(lambda run: run.finish())

    def _try(self, action: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        print(
            f"warning: wandb failed ({_line(error)}); this session goes on without it, and the "
            "run folder has everything",
            file=sys.stderr,
            flush=True,
        )


def _identity(directory: pathlib.Path) -> str:
    """Returns the run's id, drawn when it is first asked for."""
    path = directory / "id.txt"
    if not path.exists():
        make_folder(directory)
        with replacing(path) as temporary:
            temporary.write_text(f"{uuid.uuid4().hex[:12]}\n")
    return path.read_text().strip()


def _line(error: Exception) -> str:
    """Returns the first line of what an error says."""
    return (str(error) or type(error).__name__).splitlines()[0]
