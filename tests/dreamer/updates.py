"""What tests ask of an update that something beside the agent, an explorer or so, takes part in."""

from __future__ import annotations

import jax
import numpy as np

from common.report.page import GROUPS

LEARNER = ("world_model", "actor", "critic", "slow_critic")
"""Parameters of a Dreamer alone."""


def moved(before, after):
    """Whether each array changed."""
    return [(np.asarray(x) != np.asarray(y)).any() for x, y in
            zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]  # fmt: skip


def close(x, y):
    """Equal up to the order of sums."""
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def check_update(state, after, metrics):
    """The state keeps its shape, and the report knows all metrics, finite scalars."""
    kind = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)  # noqa: E731
    assert kind(state) == kind(after) and after.updates == 1
    assert all(np.isfinite(x) and np.shape(x) == () for x in metrics.values())
    assert {name.partition("/")[0] for name in metrics} - {"joint"} <= GROUPS.keys()


def check_same(found, plain, name):
    """The agent learned as if nobody were beside it.

    Args:
        found: State and metrics after an update.
        plain: The same without whoever is beside it.
        name: What belongs to that one.
    """
    (after, metrics), (alone, expected) = found, plain
    for part in LEARNER:
        jax.tree.map(close, after.params[part], alone.params[part])
    for one, other in zip(after[1:3], alone[1:3], strict=True):
        for part in other:
            jax.tree.map(close, one[part], other[part])
    for metric, value in expected.items():
        close(metrics[metric], value)
    assert all(name not in part for part in alone[:3])
