"""Measures of a run by the returns of its episodes, as the Real-World RL suite defines them.

Over windows of W successive episodes, y_i is the mean return of the i-th and l_i the lower end of
its 95% interval (Student's t). With y and l of the last window (arXiv:2003.11881, section 4):

    final return        y
    convergence         the first episode i >= 1 with y_i >= l
    regret              Σ_{e < convergence} (y - return_e), divided by y
    instability         share of the episodes after the convergence that return less than l

The suite's W is 101. Runs of fewer than 404 episodes have windows of a quarter of their episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

WINDOW = 101
SHARE = 4
LEAST = 5
_CONFIDENCE = 0.95


class Measures(NamedTuple):
    """What the returns of a run say.

    Attributes:
        final: Final return.
        convergence: Episodes until it is reached.
        regret: What was lost until then, in final returns; None where the final return is 0.
        instability: Share of later episodes that fell short; None where there are none.
        window: W.
    """

    final: float
    convergence: int
    regret: float | None
    instability: float | None
    window: int


def measure(returns: Sequence[float]) -> Measures | None:
    """Returns the measures of a run; None of fewer than 20 episodes.

    Args:
        returns: Of its episodes, in their order.
    """
    values = np.asarray(returns, float)
    window = min(WINDOW, len(values) // SHARE)
    if window < LEAST:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    means = windows.mean(-1)
    error = windows[-1].std(ddof=1) / np.sqrt(window)
    lower = means[-1] - error * scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, window - 1)
    convergence = max(int(np.argmax(means >= lower)), 1)
    final, later = means[-1], values[convergence + 1 :]
    return Measures(
        final=float(final),
        convergence=convergence,
        regret=float((final - values[:convergence]).sum() / final) if final else None,
        instability=float((later < lower).mean()) if len(later) else None,
        window=window,
    )
