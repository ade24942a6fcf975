"""Options of the replay."""

from __future__ import annotations

import dataclasses


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
        length: Rows in a sequence.
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
