"""PlaNet: planning in the latent space of a world model."""

from __future__ import annotations

import pathlib
import runpy

runpy.run_path(str(pathlib.Path(__file__).resolve().parent.parent / "common" / "guard.py"))


def load(path: str, seed: int = 0):
    """Loads a trained agent from a run folder or an exported file; see ``dreamer.load``."""
    from common.run.loading import LoadedAgent
    from planet.__main__ import load_program

    return LoadedAgent(load_program(), path, seed)
