"""Builds configurations from presets, and reads them by short names."""

from __future__ import annotations

from common.command import presets
from common.command.flags import find_option
from common.config import options, update
from dreamer.config import Config


def load(*names: str) -> Config:
    """Builds Dreamer's configuration from presets."""
    return update(Config(), presets.load_presets(names, "dreamer"))


def values(config: Config, wanted: dict) -> dict:
    """Reads options by the short names of the tables above."""
    found = {option.path: option.value for option in options(config)}
    return {name: found[find_option(name, list(found))] for name in wanted}
