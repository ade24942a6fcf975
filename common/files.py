"""Files that are complete or absent, on the disk before they are relied on.

Whoever writes a file of a run says a full disk in the words of ``cannot_write``: the run then
tries to leave a checkpoint behind before it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from common.errors import UserError

_NOT_KEPT = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EROFS)
"""Errors of file systems that cannot be asked to keep a folder, or need not be."""


_REMEDIES = {
    errno.ENOENT: "make the folder, or choose another",
    errno.ENOTDIR: "a file has the name of a folder of it; choose another",
    errno.EISDIR: "choose a name that no folder has",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
}
"""What mends an error of the system; space on the disk mends the others."""


class WriteError(UserError):
    """A file could not be written; most often the disk is full."""


def cannot_write(path: str | pathlib.Path, error: BaseException) -> WriteError:
    """Returns the one line that says which file could not be written, and why.

    Args:
        path: The file, or what else it is called.
        error: What the system said.
    """
    words = str(getattr(error, "strerror", None) or error or type(error).__name__)
    remedy = _REMEDIES.get(
        getattr(error, "errno", None), "free space on the disk, or choose another folder"
    )
    return WriteError(f"cannot write {path}: {words.splitlines()[0]}; {remedy}")


def check_place(option: str, path: pathlib.Path, *, made: bool = False) -> None:
    """Raises a UserError where a file could not be written, before anything is made for it.

    Args:
        option: The option that names it, without dashes.
        path: The file; one that is there would be replaced.
        made: Whether folders that are not there will be made.
    """
    folder = path.parent
    if made:
        folder = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError(
            f"--{option}: cannot write {path}: the folder {folder} {what}; make it, or choose "
            "another"
        )
    if path.is_dir():
        raise UserError(f"--{option}: cannot write {path}: it is a folder; choose another name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"--{option}: cannot write {path}: {folder} may not be written to; choose another"
        )


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields where to write a file, which gets its name when it is complete.

    Readers see the file of before, or the new one, and never a part of one. Whatever is raised
    leaves the file of before, and nothing beside it.

    Raises:
        WriteError: It could not be written.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        keep_on_disk(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def make_folder(path: pathlib.Path) -> None:
    """Makes a folder, and those that it lies in; one that is there stays.

    Raises:
        WriteError: It could not be made.
        FileExistsError: A file has its name, which no room on the disk would mend.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def keep_on_disk(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, would survive a loss of power.

    Raises:
        OSError: The disk does not take it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_KEPT:
            raise
    finally:
        os.close(descriptor)
