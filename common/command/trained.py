"""Trained agents on the command line: what ``zoo`` lists, and whose command reads which."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from common.errors import OtherAgent, UserError
from common.trained import FOLDER, PREFIX, trained_agents


@contextlib.contextmanager
def by_its_own_command(command: str, logdir: str) -> Iterator[None]:
    """Names the program whose agent a file holds, where it is that of another one.

    Args:
        command: What was asked of this program.
        logdir: The file or folder, as the user wrote it.

    Raises:
        UserError: It is.
    """
    try:
        yield
    except OtherAgent as error:
        name = error.agent
        raise UserError(
            f"{logdir} holds a {name} agent; {name} {command} --logdir {logdir} reads it"
        ) from None


def listing() -> str:
    """Returns a table of the trained agents that come with the package, and how to play one."""
    rows = [("agent", "of", "task", "return", "random", "frames", "KiB", "ms an action")]
    for name, one in trained_agents().items():
        size = (FOLDER / f"{name}.npz").stat().st_size / 1024
        random = "" if one.random is None else f"{one.random:.0f}"
        task = ", ".join([one.task, *one.challenges])
        rows.append(
            (f"{PREFIX}{name}", one.agent, task, f"{one.mean:.0f} ± {one.deviation:.0f}",
             random, f"{one.frames:,}", f"{size:.0f}", f"{one.milliseconds:.1f}")
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    name, agent = rows[-1][:2]
    others = sorted({row[1] for row in rows[1:]} - {agent})
    also = "".join(f"; those of {other}: {other} eval, {other}.load" for other in others)
    played = f"play one: {agent} eval --logdir {name} --video it.mp4"
    return "\n".join([*lines, f'{played}; in Python {agent}.load("{name}"){also}'])
