"""Dreamer V1 and V2: an actor and a critic that learn in the imagination of a world model."""

from __future__ import annotations

import pathlib
import runpy

runpy.run_path(str(pathlib.Path(__file__).resolve().parent.parent / "common" / "guard.py"))


def load(path: str, seed: int = 0):
    """Loads a trained agent from a run folder or an exported file.

    ``action, carry = agent.act(observation, carry)`` takes an environment's observation and
    returns its action; the carry is None at the start of an episode.

    Args:
        path: Run folder or exported file.
        seed: Seed of the draws.

    Returns:
        A ``common.run.loading.LoadedAgent``.

    Raises:
        common.errors.UserError: There is no trained Dreamer at that path.
    """
    from common.run.loading import LoadedAgent
    from dreamer.__main__ import load_program

    return LoadedAgent(load_program(), path, seed)
