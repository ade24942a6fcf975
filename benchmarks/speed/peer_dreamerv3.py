"""Times the DreamerV3 of PyPI on JAX at the sizes of our shape ``dmc_vision``, on this machine.

The newest that was published there, 1.5.0 of 2023, needs an environment of its own:

    python3.11 -m venv /tmp/peer_dreamerv3
    /tmp/peer_dreamerv3/bin/pip install jax==0.4.33 jaxlib==0.4.33 \
        tensorflow-probability==0.24.0 'numpy<2' optax==0.2.3 rich ruamel.yaml cloudpickle \
        'setuptools<80' wheel
    /tmp/peer_dreamerv3/bin/pip install --no-deps --no-build-isolation dreamerv3==1.5.0
    /tmp/peer_dreamerv3/bin/python benchmarks/speed/peer_dreamerv3.py 3

Every call is one whole update in float32 on a batch of 16x50, as ours; its algorithm is V3 at
the sizes of V2, so that two-hot heads, norms and unimix are in it. Run the two in turn, several
times, and compare medians: a shared machine changes by a fifth from minute to minute.
"""

from __future__ import annotations

import contextlib
import sys
from importlib.metadata import version

import dreamerv3
import embodied
import jax
import numpy as np
from peer_timing import print_timed

BATCH, LENGTH, ACTION = 16, 50, 6
MLP = {"layers": 4, "units": 400}
CODER = {"mlp_keys": "$^", "cnn_keys": "image", "cnn_depth": 48}
SIZES = {
    "batch_size": BATCH,
    "batch_length": LENGTH,
    "jax": {"platform": "cpu", "precision": "float32", "metrics_every": 1},
    "rssm": {"deter": 200, "units": 200, "stoch": 32, "classes": 32},
    "encoder": CODER,
    "decoder": CODER,
    **{name: MLP for name in ("reward_head", "cont_head", "actor", "critic")},
}


def main(repeats: int) -> None:
    """Prints one JSON line: seconds of each update, their median, peak memory."""
    config = embodied.Config(dreamerv3.configs["defaults"]).update(SIZES)
    space = embodied.Space
    observations = {
        "image": space(np.uint8, (64, 64, 3)),
        "reward": space(np.float32),
        **{name: space(bool) for name in ("is_first", "is_last", "is_terminal")},
    }
    actions = {"action": space(np.float32, (ACTION,), -1, 1), "reset": space(bool)}
    # What it prints would stand among the results.
    with contextlib.redirect_stdout(sys.stderr):
        agent = dreamerv3.Agent(observations, actions, embodied.Counter(), config)
    batch = jax.device_put(_batch())
    state = None

    def update() -> None:
        nonlocal state
        with contextlib.redirect_stdout(sys.stderr):
            _, state, _ = agent.train(batch, state)
        jax.block_until_ready((state, agent.varibs))

    package = f"danijar/dreamerv3 {version('dreamerv3')}, JAX {jax.__version__}"
    print_timed(update, repeats, package=package, workload="dmc_vision/update")


def _batch() -> dict[str, np.ndarray]:
    """Rows ``[B, T, ...]``."""
    rng = np.random.default_rng(0)
    leading = BATCH, LENGTH
    return {
        "image": rng.integers(0, 256, (*leading, 64, 64, 3), dtype=np.uint8),
        "reward": rng.standard_normal(leading).astype(np.float32),
        "action": rng.uniform(-1, 1, (*leading, ACTION)).astype(np.float32),
        **{name: np.zeros(leading, bool) for name in ("is_first", "is_last", "is_terminal")},
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
