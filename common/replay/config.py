"""Options of the replay."""

from __future__ import annotations

import dataclasses

from common.errors import UserError, check_least, nearest

SAMPLING = ("steps", "episodes")


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """How experience is kept and sampled.

    Attributes:
        capacity: Rows kept; the oldest are dropped first.
        memory: Gigabytes of memory that the rows may take; the oldest are dropped first.
        sampling: "steps" draws windows uniformly over rows; "episodes" first draws an
            episode, then a window in it, as DreamerV2 did.
        prioritize_ends: With "episodes", whether the last window of an episode is drawn
            more often, so that rewards at the end are seen.
        batch: Sequences in a batch.
        length: Rows in a sequence, at least 2.
        prefetch: Batches prepared in the background; 0 samples when asked, which makes a
            run reproducible bit by bit.
    """

    capacity: int = 2_000_000
    memory: float = 8.0
    sampling: str = "steps"
    prioritize_ends: bool = False
    batch: int = 16
    length: int = 50
    prefetch: int = 2

    def __post_init__(self) -> None:
        """Raises a UserError where a value is out of its range."""
        check_least(self, "replay.", capacity=1, batch=1, length=2, prefetch=0)
        if not 0 < self.memory < float("inf"):
            raise UserError(f"replay.memory is {self.memory}; expected gigabytes above 0")
        if self.sampling not in SAMPLING:
            hint = nearest(self.sampling, SAMPLING)
            raise UserError(f"unknown replay.sampling {self.sampling!r}{hint}")
