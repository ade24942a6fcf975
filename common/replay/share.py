"""Which part of a training's experience one of its processes keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.replay.config import ReplayConfig


class Share(NamedTuple):
    """The environments of a training are divided among its processes, in their order.

    So a file belongs to the process whose environment wrote it; a training goes on with another
    number of processes, each of which then has other environments.

    Attributes:
        index: Which process.
        amount: How many there are.
    """

    index: int = 0
    amount: int = 1

    def limits(self, config: ReplayConfig) -> ReplayConfig:
        """Returns the options of this part: rows are those of all processes, memory is its own."""
        least = -(-config.minimum // self.amount)
        return dataclasses.replace(config, capacity=config.capacity // self.amount, minimum=least)

    def streams(self, num_envs: int) -> range:
        """Returns the numbers of its ``num_envs`` environments among all."""
        return range(self.index * num_envs, (self.index + 1) * num_envs)

    def owns(self, stream: int, num_envs: int) -> bool:
        """Whether a stream is one of ``num_envs`` of its own, or nobody's, and left to it.

        Streams that no environment continues go to the last part, those of others to the first.
        """
        return self.index == min(max(stream // num_envs, 0), self.amount - 1)

    def join(self, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the state of all parts, of which every process knows its own."""
        if self.amount == 1:
            return dict(states[0])
        rows = [end for state in states for end in state["rows"]]
        samplers = [{key: state[key] for key in ("rng", "fresh")} for state in states]
        return {**states[0], "rows": rows, "samplers": samplers}

    def sampler(self, state: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Returns the sampler's state of this part; None where there were other parts."""
        samplers = state.get("samplers", [state])
        return samplers[self.index] if len(samplers) == self.amount else None


WHOLE = Share()
"""That of a process which is the only one."""
