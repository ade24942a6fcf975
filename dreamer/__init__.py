"""Dreamer V1 and V2: an actor and a critic that learn in the imagination of a world model."""

from __future__ import annotations

import importlib.util
import pathlib


def _check_common() -> None:
    """Makes sure that ``common`` is this package's and not a folder of the user's.

    Python looks into the working directory first, where ``common`` is a usual name.

    Raises:
        ImportError: Another ``common`` hides ours.
    """
    ours = pathlib.Path(__file__).resolve().parent.parent / "common"
    spec = importlib.util.find_spec("common")  # Runs nothing of what may be the user's.
    if spec is None:
        raise ImportError(f"{ours} is missing; install world-model-agents again")
    # A folder without __init__.py has no origin, only places.
    origin = pathlib.Path(spec.origin or list(spec.submodule_search_locations or ["?"])[0])
    found = origin.parent if origin.name == "__init__.py" else origin
    if found.resolve() != ours:
        raise ImportError(
            f"{found} hides the package 'common' of world-model-agents, which is {ours}; "
            "run from another folder, or rename the one that hides it"
        )


_check_common()


def load(path: str, seed: int = 0):  # noqa: ANN201 - the type would import the whole runtime.
    """Loads a trained agent from a run folder or an exported file.

    ``action, carry = agent.act(observation, carry)`` takes an environment's observation and
    returns its action; the carry is None at the start of an episode.

    Args:
        path: Run folder or exported file.
        seed: Seed of the draws.

    Returns:
        A ``common.loading.LoadedAgent``.

    Raises:
        common.errors.UserError: There is no trained Dreamer at that path.
    """
    from common.loading import LoadedAgent
    from dreamer.__main__ import load_program

    return LoadedAgent(load_program(), path, seed)
