"""Makes sure that ``common`` is this package's and not a folder of the user's.

Python looks into the working directory first, where ``common`` is a usual name. The agents'
packages run this file by its place before they import anything, so that it imports nothing
of ours itself.
"""

from __future__ import annotations

import importlib.util
import pathlib


def check_common() -> None:
    """Looks where ``import common`` would lead, and runs nothing of what may be the user's.

    Raises:
        ImportError: Another ``common`` hides ours.
    """
    ours = pathlib.Path(__file__).resolve().parent
    spec = importlib.util.find_spec("common")
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


check_common()
