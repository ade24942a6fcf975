"""The one exception that users see, warnings, and the hint that names the nearest choice."""

from __future__ import annotations

import difflib
import errno
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterable

MISTAKE = 2
"""Exit code after a user's mistake, which no repetition mends."""
STOPPED = os.EX_TEMPFAIL
"""Exit code of a run that was stopped before its end: the same command goes on with it."""
LONGEST = 2000
"""Characters of a message that are shown whole."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(ValueError):
    """A mistake that the user can mend.

    The message is one line: what is wrong, and what would be right. The command
    line prints it after ``error:`` and exits with code 2. Of a message that quotes
    something long, the begin and the end are kept.
    """

    def __init__(self, message: str) -> None:
        """Takes the message."""
        begin, end = LONGEST // 2, LONGEST // 4
        if len(message) > LONGEST:
            message = f"{message[:begin]} ... {message[-end:]}"
        super().__init__(message)


class OtherAgent(UserError):
    """A file holds the agent of another program.

    Attributes:
        agent: That program's name.
    """

    def __init__(self, path: object, agent: str) -> None:
        """Takes the file, or the run's folder, and names what reads it in Python."""
        super().__init__(f"{path} holds a {agent} agent; load it with {agent}.load")
        self.agent = agent


class Lost(Exception):
    """Another process of a training is gone; the same command goes on from the checkpoint.

    The message is one line. The command line prints it and exits with code 1, so that whoever
    started the process starts it again.
    """


def exit_code(command: Callable[[], int]) -> int:
    """Runs a command; says in one line a user's mistake, or that a process is gone, or a warning.

    Args:
        command: Does the work and returns its exit code.

    Returns:
        The command's exit code, 1 where another process of a training is gone, 2 after a user's
        mistake or on a full disk, 130 after an interrupt.
    """
    before, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        return command()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return MISTAKE
    except Lost as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # The reader, such as "head", has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{where}; free space on the disk", file=sys.stderr)
        return MISTAKE
    finally:
        warnings.formatwarning = before


def _one_line(message: Warning | str, *where: object, **line: object) -> str:
    """What Python prints of a warning: without the place in the code, which no user can mend."""
    del where, line
    return f"warning: {' '.join(str(message).split())}\n"


@functools.cache
def warn_once(message: str) -> None:
    """Prints a warning, unless this process has printed the same one before."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def to_install(*names: str, python: tuple[int, ...] = sys.version_info[:2]) -> str:
    """Returns the commands that install libraries, for the end of a message.

    dm_control names labmaze, which the control suite does not need and of which there is no wheel
    for Python 3.13 and later: there it is installed without what it names.

    Args:
        names: What pip is told.
        python: Major and minor version.
    """
    alone = [name for name in names if name == "dm_control" and python >= (3, 13)]
    others = [name for name in names if name not in alone]
    commands = [f"pip install {' '.join(others)}"] if others else []
    return " && ".join([*commands, *(f"pip install --no-deps {name}" for name in alone)])


def nearest(name: str, choices: Iterable[str], limit: int = 12) -> str:
    """Returns a hint that completes the sentence "unknown x 'name'".

    Args:
        name: What the user wrote.
        choices: What would have been valid.
        limit: How many choices to list where none is near.

    Returns:
        "; did you mean 'a'?" where a choice is near, else the list of choices; "" where there
        is none.
    """
    choices = sorted(str(choice) for choice in choices)
    if not choices:
        return ""
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    shown = ", ".join(choices[:limit])
    more = f", ... ({len(choices)} in all)" if len(choices) > limit else ""
    return f"; choose from: {shown}{more}"
