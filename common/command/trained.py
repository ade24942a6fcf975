"""What the command ``zoo`` prints."""

from __future__ import annotations

from common.trained import FOLDER, PREFIX, trained_agents


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
    return "\n".join(
        [
            *lines,
            f"play one: dreamer eval --logdir {rows[-1][0]} --video it.mp4 (planet for its own); "
            "in Python, dreamer.load or planet.load takes the name",
        ]
    )
