"""Options of the replay."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from common.checks import AT, Count, Options, Positive, Range, Whole, refuse


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
        minimum: Windows that it holds before learning starts, counted by their first rows.
        latents: Whether the latent state of every row is kept with it, as the agent inferred it
            last, so that a window begins with that of the row before it (V3). Otherwise windows
            begin with an empty state.
        burn_in: Rows before each window that only serve to infer the state in which it begins.
        online: Whether newly collected windows, one after another, are learned from first of all,
            so that every row is seen soon and once (V3); the rest of a batch is drawn.
        prefetch: Batches that are drawn ahead and prepared in the background; a run is
            reproducible with any number, and 0 learns from the newest rows.
    """

    capacity: Count = 2_000_000
    memory: Positive = 8.0
    sampling: Literal["steps", "episodes"] = "steps"
    prioritize_ends: bool = False
    batch: Count = 16
    length: Annotated[int, Range(2)] = 50
    minimum: Whole = 0
    latents: bool = False
    burn_in: Whole = 0
    online: bool = False
    prefetch: Whole = 2

    def __post_init__(self) -> None:
        """Raises an OptionError where a window would begin in two ways."""
        super().__post_init__()
        if self.latents and self.burn_in:
            refuse(self, f"{AT}latents true needs {AT}burn_in 0: a window begins in one way")

    @property
    def window(self) -> int:
        """Rows that an update looks at: those to learn from, and those before them."""
        return self.burn_in + self.length

    @property
    def rows(self) -> int:
        """Rows of a sequence that one window takes out of the replay."""
        return self.latents + self.window
