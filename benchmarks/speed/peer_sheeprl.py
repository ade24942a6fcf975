"""Times SheepRL's DreamerV2 on PyTorch at the shapes of our table, on this machine.

It needs an environment of its own:

    python3.11 -m venv /tmp/peer_sheeprl
    /tmp/peer_sheeprl/bin/pip install torch==2.13.0 sheeprl==0.8.4
    /tmp/peer_sheeprl/bin/python benchmarks/speed/peer_sheeprl.py dmc_vision 5

Every call is one whole update in float32 on a batch of 16x50, as ours. ``--compile`` takes
its own option ``algo.compile``, which is off by default. Run the two in turn, several times,
and compare medians: a shared machine changes by a fifth from minute to minute.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import gymnasium
import hydra
import numpy as np
import sheeprl
import torch
from lightning import Fabric
from peer_timing import print_timed
from sheeprl.algos.dreamer_v2.agent import build_agent
from sheeprl.algos.dreamer_v2.dreamer_v2 import train
from sheeprl.algos.dreamer_v2.utils import build_optimizer

BATCH, LENGTH, ACTION = 16, 50, 6


def _sizes(deter: int, classes: int, depth: int, layers: int, units: int) -> list[str]:
    """Its options for the sizes of a shape."""
    model = "algo.world_model"
    return [
        f"{model}.recurrent_model.recurrent_state_size={deter}",
        f"{model}.transition_model.hidden_size={deter}",
        f"{model}.representation_model.hidden_size={deter}",
        f"{model}.stochastic_size={classes}",
        f"{model}.discrete_size={classes}",
        f"{model}.encoder.cnn_channels_multiplier={depth}",
        f"algo.mlp_layers={layers}",
        f"algo.dense_units={units}",
    ]


SHAPES = {
    "dmc_vision": _sizes(deter=200, classes=32, depth=48, layers=4, units=400),
    "small": _sizes(deter=128, classes=8, depth=7, layers=2, units=128),
}


def main() -> None:
    """Prints one JSON line: seconds of each update, their median, peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("repeats", type=int)
    parser.add_argument("--compile", action="store_true", help="with algo.compile.enabled")
    arguments = parser.parse_args()
    update = _updater(arguments.shape, arguments.compile)
    compiled = " compiled" if arguments.compile else ""
    print_timed(
        update,
        arguments.repeats,
        package=f"SheepRL {sheeprl.__version__} dreamer_v2, PyTorch {torch.__version__}{compiled}",
        workload=f"{arguments.shape}/update",
        threads=torch.get_num_threads(),
    )


def _updater(shape: str, compiled: bool) -> Callable[[], Any]:
    """Builds agent and optimizers as its ``main`` does; returns one update of a batch."""
    folder = pathlib.Path(sheeprl.__file__).parent / "configs"
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        config = hydra.compose(
            "config",
            overrides=[
                "exp=dreamer_v2",
                "env=dummy",
                "env.num_envs=1",
                f"algo.per_rank_batch_size={BATCH}",
                f"algo.per_rank_sequence_length={LENGTH}",
                "algo.mlp_keys.encoder=[]",
                f"algo.compile.enabled={compiled}",
                *SHAPES[shape],
            ],
        )
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    fabric.seed_everything(0, verbose=False)
    image = gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8)
    observations = gymnasium.spaces.Dict({"rgb": image})
    *networks, _ = build_agent(fabric, [ACTION], True, config, observations)
    optimizers = [
        build_optimizer(options.optimizer, network.parameters())
        for options, network in zip(
            (config.algo.world_model, config.algo.actor, config.algo.critic), networks, strict=False
        )
    ]
    optimizers = [fabric.setup_optimizers(one) for one in optimizers]
    batch = _batch()
    # It writes into what it is given.
    return lambda: train(fabric, *networks, *optimizers, dict(batch), None, config, [ACTION])


def _batch() -> dict[str, torch.Tensor]:
    """Rows ``[T, B, ...]``."""
    generator = torch.Generator().manual_seed(0)
    flat = LENGTH, BATCH, 1
    images = torch.randint(0, 256, (LENGTH, BATCH, 3, 64, 64), generator=generator)
    return {
        "rgb": images.float(),
        "actions": torch.rand(LENGTH, BATCH, ACTION, generator=generator) * 2 - 1,
        "rewards": torch.randn(flat, generator=generator),
        **{name: torch.zeros(flat) for name in ("is_first", "terminated", "truncated")},
    }


if __name__ == "__main__":
    main()
