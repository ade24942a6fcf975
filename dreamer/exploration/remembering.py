"""How acting fills episodic curiosity's memory: with what the world model's encoder sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from common.model.vectors import Statistics
from common.model.world_model import WorldModel
from common.types import Array, Params, Rows
from dreamer.exploration.config import CuriosityConfig
from dreamer.exploration.explorer import INTRINSIC, Explorer
from dreamer.exploration.memory import EpisodicMemory, empty_episodes, remember


class Remembering(NamedTuple):
    """Pure functions of an episodic memory.

    Attributes:
        initial: ``(num_envs) -> memory``, before the first row.
        remember: ``(explorer, world, statistics, memory, rows, noise) -> memory`` with the newest
            rows ``[N, ...]``; the parameters are those of the explorer and of the world model.
    """

    initial: Callable[[int], EpisodicMemory]
    remember: Callable[..., EpisodicMemory]


def make_remembering(
    model: WorldModel, explorer: Explorer, config: CuriosityConfig
) -> Remembering | None:
    """Returns how an explorer remembers episodes; None where it does not."""
    comparator = explorer.comparator
    if comparator is None:
        return None

    def fill(
        params: Params,
        world: Params,
        statistics: Statistics | None,
        memory: EpisodicMemory,
        rows: Rows,
        noise: Array,
    ) -> EpisodicMemory:
        own = params[INTRINSIC]["comparator"]
        compare = lambda x, y: comparator.compare(own, x, y)  # noqa: E731
        embed = model.embed(world, rows, statistics)
        return remember(config, compare, memory, embed, rows, noise)

    return Remembering(lambda amount: empty_episodes(config, amount, explorer.embed), fill)
