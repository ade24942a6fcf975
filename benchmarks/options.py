"""Command lines of the benchmarks: a mistake is one line, and exit code 2."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from common.errors import UserError, nearest
from common.files import make_folder


class Parser(argparse.ArgumentParser):
    """Reports a user's mistake as such, with the nearest option."""

    def __init__(self, prog: str, **kwargs: Any):
        """Takes what ``argparse.ArgumentParser`` takes; options cannot be shortened."""
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, allow_abbrev=False, formatter_class=formatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises a UserError."""
        raise UserError(f"{message}; see {self.prog} --help")

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Reads a command line; None for the process's own.

        Raises:
            UserError: An unknown option, or a wrong or missing value.
        """
        values, unknown = self.parse_known_args(list(sys.argv[1:] if argv is None else argv))
        if unknown:
            choices = [name for action in self._actions for name in action.option_strings]
            raise UserError(f"unknown option {unknown[0]}{nearest(unknown[0], choices)}")
        return values


def make_results(folder: pathlib.Path, option: str) -> None:
    """Makes the folder of results before anything is measured.

    Args:
        folder: To be made; one that is there stays.
        option: The option that names it.

    Raises:
        UserError: It cannot be made.
    """
    try:
        make_folder(folder)
    except FileExistsError as error:
        raise UserError(f"{option} {folder} is a file; choose a folder") from error
