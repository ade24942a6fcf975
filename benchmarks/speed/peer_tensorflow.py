"""Times the public DreamerV2 on TensorFlow at the shapes of our table, on this machine.

It needs an environment of its own, since it does not run beside today's packages:

    python3.11 -m venv /tmp/peer
    /tmp/peer/bin/pip install tensorflow-cpu==2.15.1 tensorflow-probability==0.23.0 \
        'numpy<2' ruamel.yaml gym
    /tmp/peer/bin/pip install --no-deps dreamerv2==2.2.0
    /tmp/peer/bin/python benchmarks/speed/peer_tensorflow.py dmc_vision 7

Every call is one whole update in float32 on a batch of 16x50, as ours. Run the two in
turn, several times, and compare medians: a shared machine changes by a fifth from minute
to minute.
"""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import sys
from types import SimpleNamespace

import numpy as np
import tensorflow as tf
from peer_timing import print_timed
from ruamel.yaml import YAML

BATCH, LENGTH = 16, 50
SMALL = {
    "rssm.stoch": 8,
    "rssm.discrete": 8,
    "rssm.deter": 128,
    "rssm.hidden": 128,
    "encoder.cnn_depth": 7,
    "decoder.cnn_depth": 7,
    **{f"{head}.layers": 2 for head in ("reward_head", "actor", "critic")},
    **{f"{head}.units": 128 for head in ("reward_head", "actor", "critic")},
}
SHAPES = {"dmc_vision": ("dmc_vision", {}), "small": ("dmc_vision", SMALL), "atari": ("atari", {})}


def main(shape: str, repeats: int) -> None:
    """Prints one JSON line: seconds of each update, their median, peak memory."""
    agent, atari = _agent(shape), shape == "atari"
    data = _batch(channels=1 if atari else 3, discrete=atari)
    state = None

    def update() -> None:
        nonlocal state
        state, metrics = agent.train(data, state)
        for value in metrics.values():
            float(value)

    package = f"dreamerv2 2.2.0, TensorFlow {tf.__version__}"
    print_timed(update, repeats, package=package, workload=f"{shape}/update")


def _agent(shape: str):
    """Builds its agent; its modules import each other by bare names."""
    spec = importlib.util.find_spec("dreamerv2")
    root = pathlib.Path(spec.submodule_search_locations[0])
    sys.path.insert(0, str(root))
    precision = tf.keras.mixed_precision
    precision.experimental = precision  # Its name when the package was written.
    sys.modules["tensorflow.keras.mixed_precision.experimental"] = precision
    agent, common = importlib.import_module("agent"), importlib.import_module("common")
    preset, options = SHAPES[shape]
    presets = YAML(typ="safe").load((root / "configs.yaml").read_text())
    config = common.Config(presets["defaults"]).update(presets[preset])
    config = config.update({"precision": 32, **options})
    atari = shape == "atari"
    observations = {
        "image": SimpleNamespace(shape=(64, 64, 1 if atari else 3)),
        "reward": SimpleNamespace(shape=()),
    }
    actions = SimpleNamespace(shape=(18,), n=18) if atari else SimpleNamespace(shape=(6,))
    return agent.Agent(config, observations, {"action": actions}, common.Counter(0))


def _batch(channels: int, discrete: bool) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(0)
    leading = BATCH, LENGTH
    action = rng.uniform(-1, 1, (*leading, 6))
    if discrete:
        action = np.eye(18)[rng.integers(0, 18, leading)]
    rows = {
        "image": rng.integers(0, 256, (*leading, 64, 64, channels), dtype=np.uint8),
        "reward": rng.standard_normal(leading).astype(np.float32),
        "action": action.astype(np.float32),
        **{name: np.zeros(leading, bool) for name in ("is_first", "is_last", "is_terminal")},
    }
    return {name: tf.constant(value) for name, value in rows.items()}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
