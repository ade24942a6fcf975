"""The spread of a stream against the numbers of DreamerV3, setting by setting."""

from __future__ import annotations

import numpy as np
import pytest

from common.learning.normalize import (
    SpreadConfig,
    initial_spread,
    offset_and_scale,
    update_spread,
)
from tests.golden_data import FOLDER_V3, assert_elementwise, every_array, load

ARRAYS = load("normalize", FOLDER_V3)
METHODS = {"none": "none", "perc": "percentiles", "meanstd": "mean_std"}
PARTS = {"lo": "first", "mean": "first", "hi": "second", "sqrs": "second", "corr": "weight"}


@pytest.mark.parametrize("name", sorted({name.split(".")[0] for name in ARRAYS}))
def test_spread(name):
    with every_array(ARRAYS.case(name)) as case:
        given = {key: case[f"cfg.{key}"].item() for key in ("rate", "limit", "debias")}
        for ours, theirs in (("low", "perclo"), ("high", "perchi")):
            given |= {ours: case[f"cfg.{theirs}"].item()} if f"cfg.{theirs}" in case else {}
        config = SpreadConfig(method=METHODS[case["cfg.impl"].item()], **given)
        spread = initial_spread()
        stats = lambda: np.stack(offset_and_scale(spread, config))  # noqa: E731
        assert_elementwise(stats(), case["stats_before"], "stats_before")
        steps = sorted({key.split(".")[0] for key in case if ".in.x" in key})
        for step in steps:
            spread = update_spread(spread, case[f"{step}.in.x"], config)
            assert_elementwise(stats(), case[f"{step}.stats"], step)
            for part, field in PARTS.items():
                if f"{step}.state.{part}" in case:
                    want = case[f"{step}.state.{part}"]
                    assert_elementwise(getattr(spread, field), want, f"{step} {part}")
        assert_elementwise(stats(), case["stats_no_update"], "stats_no_update")
