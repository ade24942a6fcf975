"""A configuration of two levels, for tests of what reads, changes and explains configurations."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Inner:
    """A part.

    Attributes:
        size: How large it is,
            told on two lines.
        rate: How fast.
    """

    size: int = 2
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    """The whole.

    Attributes:
        first: One part.
        second: Another.
        name: What it is called.
        flag: Whether.
        mode: Which.
        limits: Between what.
        where: Perhaps somewhere.
        kwargs: Whatever else.
    """

    first: Inner = Inner()
    second: Inner = Inner(size=3)
    name: str = "x"
    flag: bool = False
    mode: Literal["fast", "slow"] = "fast"
    limits: tuple[float, ...] = (0.0, 1.0)
    where: str | None = None
    kwargs: dict = dataclasses.field(default_factory=dict)
