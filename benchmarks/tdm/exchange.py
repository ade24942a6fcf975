"""Collections as Minari datasets and back: what ``export-data`` and ``import`` of an agent do, with
the names that a collection gives to its folders.
"""

from __future__ import annotations

import pathlib
import re

from common.command.exporting import export_data
from common.errors import UserError
from common.replay.minari import open_minari
from common.run.recorded import write_collection


def export_minari(folder: pathlib.Path, name: str, task: str | None = None) -> str:
    """Writes the episodes of one body as a Minari dataset; see ``export_data``."""
    return export_data(folder, "minari", name, task)


def import_minari(name: str, data: pathlib.Path, task: str, policy: str | None = None) -> str:
    """Writes the episodes of a Minari dataset into a collection.

    Args:
        name: Of the dataset.
        data: Folder of the collection.
        task: Name of the body.
        policy: Name of the folder; None for that of the dataset.

    Returns:
        What was done, in one line.

    Raises:
        UserError: The folder is there already, or as ``open_minari``.
    """
    policy = policy or re.sub(r"[^\w.-]+", "_", name)
    for word in (task, policy):
        if "/" in word:
            raise UserError(f"{word!r} cannot be the name of a folder; choose another")
    found = open_minari(name)
    folder = data / task / policy
    if folder.exists():
        raise UserError(f"{folder} is there already; delete it, or choose another --policy")
    record = {"task": task, "policy": policy, "minari": name}
    returns, _ = write_collection(folder, found.episodes, record, found.amount)
    return f"{len(returns)} episodes of the Minari dataset {name} are in {folder}"
