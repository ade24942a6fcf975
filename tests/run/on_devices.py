"""Updates on eight virtual devices beside one; run by ``test_devices`` in a process of its own.

``python -m tests.run.on_devices SHAPE`` prints one line of JSON.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import sys
from typing import Any

import jax
import numpy as np

from benchmarks.speed.shapes import SHAPES
from common.nets import conv
from common.run.devices import Devices
from common.run.learner import AgentLearner
from tests.tiny import random_batch

DEVICES = 8
UPDATES = 5
MOVED = r" (all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


def compare(name: str) -> dict[str, Any]:
    """Returns how far the parameters are from those of one device, and what devices exchange."""
    shape = SHAPES[name]
    options = {**shape.options, "replay.batch": DEVICES}
    presets = (*shape.presets, "debug")
    if name.startswith("tdmpc2"):  # Whose networks no preset makes tiny.
        options["tdmpc2"] = {"latent": 32, "units": 32, "encoder_units": 32}
        presets = shape.presets
    elif "model" not in shape.options:
        options["replay.length"] = 6
    if name.endswith("_v3"):  # Whose first steps are next to none, so that nothing could differ.
        options["model_opt.lr_schedule"] = "1"
    shape = dataclasses.replace(shape, presets=presets, options=options)
    config = shape.config()
    sizes = {"batch": DEVICES, "time": config.replay.length}
    rows = [random_batch(shape.observations, shape.actions, i, **sizes) for i in range(UPDATES)]
    found = []
    for amount in (1, DEVICES):
        devices = Devices(amount, config.replay.batch)
        learner = AgentLearner(shape.agent(), 1, 0, devices)
        begin = jax.tree.leaves(jax.device_get(learner.params))
        for batch in rows:
            learner.update(learner.place(batch))
        found.append(jax.tree.leaves(jax.device_get(learner.params)))
    texts = learner.compiled_update(learner.place(rows[0]))
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in zip(*found, strict=True)])
    steps = [np.abs(a - b).max() for a, b in zip(begin, found[0], strict=True) if a.size]
    return {
        "way": float(max(steps)),
        "most": float(apart.max()),
        "beyond": float((apart > 1e-6).mean()),
        "moved": collections.Counter(re.findall(MOVED, texts)),
        "sums": len(re.findall(r" all-reduce(?:-start)?\(", texts)),
        "largest": max(map(_size, re.findall(rf"\w+\[([\d,]*)\]\S*{MOVED}", texts)), default=0),
    }


def _size(match: tuple[str, str]) -> int:
    return int(np.prod([int(n) for n in match[0].split(",") if n]))


if __name__ == "__main__":
    conv.CHUNK_BYTES = 3000  # So that the products are made in several chunks.
    print(json.dumps(compare(sys.argv[1])))
