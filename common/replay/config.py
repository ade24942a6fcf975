"""Options of the replay."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from common.checks import Count, Options, Positive, Range, Whole


@dataclasses.dataclass(frozen=True)
class ReplayConfig(Options):
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
        prefetch: Batches that are drawn ahead and prepared in the background; a run is
            reproducible with any number, and 0 learns from the newest rows.
    """

    capacity: Count = 2_000_000
    memory: Positive = 8.0
    sampling: Literal["steps", "episodes"] = "steps"
    prioritize_ends: bool = False
    batch: Count = 16
    length: Annotated[int, Range(2)] = 50
    prefetch: Whole = 2
