"""What the run loop knows of what learns, and of what remembers; what a run is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from common.agent import OpenLoop
from common.logging import Sink
from common.replay import Windows
from common.rows import Specs
from common.run.driver import Policy
from common.run.environments import Environments
from common.run.processes import Processes
from common.run.progress import Watch
from common.types import Params, Rows


class ActingPolicy(Policy, Protocol):
    """A policy that infers latent states of the rows that it acts on."""

    @property
    def latents(self) -> dict[str, np.ndarray]:
        """What the replay keeps of those of the newest rows, by name ``[N, ...]``."""
        ...


class Learner(Protocol):
    """One agent or a fleet of them, on one device or on many.

    Attributes:
        policy: Acts in the training environments with the newest parameters.
        latent_specs: What the replay keeps of a row's latent states, and notes; empty for nothing.
        latents: What the newest update inferred of its rows ``[B, T, ...]``, by the same names.
        explores_until: Frames after which the policy is told that exploring is over; 0 for never.
    """

    policy: ActingPolicy
    latent_specs: Specs
    latents: Rows
    explores_until: int

    @property
    def params(self) -> Params:
        """Parameters for acting and reporting, by the name of the part."""
        ...

    @property
    def where(self) -> str:
        """Says in some words what it learns on."""
        ...

    def place(self, rows: Rows) -> Rows:
        """Returns rows ``[B, T, ...]`` where ``update`` wants them; any thread may call it."""
        ...

    def update(self, batch: Rows) -> dict[str, Any]:
        """Makes one update on rows of ``place``; returns scalar metrics."""
        ...

    def wait(self) -> None:
        """Waits for the newest update to be made."""
        ...

    def report(self, batch: Rows) -> dict[str, OpenLoop]:
        """Returns what the model imagines of the batch, as NumPy arrays."""
        ...

    def evaluation_policy(self, num_envs: int, seed: int) -> Policy:
        """Returns a policy without exploration, with the parameters of now."""
        ...

    def tree(self) -> Any:
        """Returns all arrays, for a checkpoint."""
        ...

    def load(self, tree: Any) -> None:
        """Continues from ``tree``."""
        ...


class Replay(Protocol):
    """Kept experience, in the memory of the host or of the device."""

    @property
    def episodes(self) -> int:
        """Episodes that it holds, whole or in part."""
        ...

    def __len__(self) -> int:
        """Rows that it holds."""
        ...

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Appends one row ``[N, ...]`` per environment."""
        ...

    def annotate(self, latents: Mapping[str, np.ndarray]) -> None:
        """Keeps latent states ``[N, ...]`` with the newest row of every environment."""
        ...

    def write_back(self, windows: Windows, latents: Mapping[str, np.ndarray]) -> None:
        """Keeps newer latent states ``[B, T, ...]`` with the rows that were drawn."""
        ...

    def can_sample(self, length: int) -> bool:
        """Whether it holds ``length`` rows in sequence."""
        ...

    def draw(self, batch: int, length: int) -> Windows:
        """Draws which rows ``[batch, length, ...]`` to learn from."""
        ...

    def gather(self, windows: Windows) -> Rows:
        """Returns rows that were drawn; called from another thread than ``add`` and ``draw``."""
        ...

    def sample(self, batch: int, length: int, rng: np.random.Generator) -> Rows:
        """Draws rows ``[batch, length, ...]`` to look at, by another generator than ``draw``."""
        ...

    def memory_estimate(self) -> str:
        """Says in one line how much it can hold."""
        ...

    def flush(self) -> None:
        """Writes what a resumed run needs besides the checkpoint."""
        ...

    def state(self, ahead: Windows | None = None) -> dict[str, Any]:
        """Returns what a checkpoint keeps, as JSON can hold it.

        Args:
            ahead: What was drawn first of all that nothing was learned from yet.
        """
        ...

    def join(self, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the state of the replays of all processes."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from ``state``."""
        ...


class Parts(NamedTuple):
    """What a run is given.

    Attributes:
        environments: What it plays in.
        learner: New, or restored from the checkpoint.
        loggers: Where metrics and videos go besides the run's own log.
        watch: Told of every line of the log, and may stop the run; None for nobody.
        processes: Those that make the run; the first of them writes, evaluates and films.
        told: Asked at every step whether the run should stop.
    """

    environments: Environments
    learner: Learner
    loggers: Sequence[Sink] = ()
    watch: Watch | None = None
    processes: Processes = Processes()
    told: Callable[[], bool] = lambda: False
