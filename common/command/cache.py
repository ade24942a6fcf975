"""Where the command line keeps what it can do without."""

from __future__ import annotations

import os
import pathlib

from common.run.versions import DISTRIBUTION


def cache_folder() -> pathlib.Path:
    """Returns this user's folder, which need not exist: in XDG_CACHE_HOME, or in ~/.cache."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return home / DISTRIBUTION
