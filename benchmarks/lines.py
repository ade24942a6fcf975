"""Files of JSON lines that records grow by."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, BinaryIO

from common.files import cannot_write


def append_line(file: BinaryIO, path: pathlib.Path, line: Mapping[str, Any]) -> None:
    """Appends a line, and returns when it is on the disk.

    Args:
        file: Open for writing, at its end.
        path: Its name, for the message.
        line: What to write.

    Raises:
        common.files.WriteError: It could not be written.
    """
    try:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error
