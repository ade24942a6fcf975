"""Times the public TD-MPC2 on PyTorch at the sizes of our shape ``tdmpc2``, on this machine.

It needs an environment of its own and the public code, whose hard-coded GPU becomes the CPU:

    python3.11 -m venv /tmp/peer_torch
    /tmp/peer_torch/bin/pip install torch==2.13.0 tensordict==0.8.3 ruamel.yaml
    git clone https://github.com/nicklashansen/tdmpc2 /tmp/tdmpc2_public
    cd /tmp/tdmpc2_public && git checkout e9f59321933cbc8e11a002b842adc7d4ffae8ff1
    sed -i "s/cuda:0/cpu/; s/'cuda'/'cpu'/; s/capturable=True/capturable=False/" \
        tdmpc2/tdmpc2.py tdmpc2/common/scale.py
    cd -
    taskset -c 0 /tmp/peer_torch/bin/python benchmarks/speed/peer_torch.py /tmp/tdmpc2_public
    taskset -c 0 python -m benchmarks.speed tdmpc2

Everything is float32. With ``--compile`` it runs under ``torch.compile``, which is the public
default. Run the two in turn, several times, and compare medians; give both the same cores.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import tensordict
import torch
from peer_timing import print_timed
from ruamel.yaml import YAML

OBSERVATION, ACTION = 24, 6
"""A walker's: entries of its state and of an action."""
MODEL_SIZE = 5
"""Millions of parameters, by which the public code names its sizes."""
EPISODE = 500
"""Decisions of an episode, of which the discount 0.99 follows."""


def main() -> None:
    """Prints one JSON line for one update, one action, and one action in each of eight."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="clone of the public code")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each (7)")
    parser.add_argument("--pieces", nargs="+", help="update, policy-1, policy-8 (all)")
    parser.add_argument("--compile", action="store_true", help="under torch.compile")
    arguments = parser.parse_args()
    agent = _agent(arguments.folder / "tdmpc2", arguments.compile)
    buffer = SimpleNamespace(sample=_sampler(agent.cfg))
    observations = torch.randn(8, OBSERVATION)
    agent.act(observations[0], t0=True)
    pieces: dict[str, Callable[[], Any]] = {
        "update": lambda: agent.update(buffer),
        "policy-1": lambda: agent.act(observations[0]),
        # It knows one environment only, so that eight take one call each.
        "policy-8": lambda: [agent.act(one) for one in observations],
    }
    compiled = " compiled" if arguments.compile else ""
    for piece in arguments.pieces or pieces:
        call = pieces[piece]
        print_timed(
            call,
            arguments.repeats,
            package=f"nicklashansen/tdmpc2, PyTorch {torch.__version__}{compiled}",
            tensordict=tensordict.__version__,
            workload=f"tdmpc2/{piece}",
            threads=torch.get_num_threads(),
        )


def _agent(folder: pathlib.Path, compiled: bool) -> Any:
    """Builds its agent; its modules import each other by bare names."""
    sys.path.insert(0, str(folder))
    sizes = importlib.import_module("common").MODEL_SIZE[MODEL_SIZE]
    config = YAML(typ="safe").load((folder / "config.yaml").read_text())
    # What its parser and its environments fill in.
    config |= sizes | {
        "compile": compiled,
        "multitask": False,
        "task_dim": 0,
        "obs_shape": {"state": (OBSERVATION,)},
        "action_dim": ACTION,
        "episode_length": EPISODE,
        "bin_size": (config["vmax"] - config["vmin"]) / (config["num_bins"] - 1),
    }
    torch.manual_seed(0)
    # What it prints would stand among the results.
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        return importlib.import_module("tdmpc2").TDMPC2(SimpleNamespace(**config))
    finally:
        sys.stdout = stdout


def _sampler(config: Any) -> Callable[[], tuple[Any, ...]]:
    """Returns what draws from a replay: always the same batch, so that drawing takes no time."""
    leading = config.horizon, config.batch_size
    observation = torch.randn(config.horizon + 1, config.batch_size, OBSERVATION)
    action = torch.rand(*leading, ACTION) * 2 - 1
    reward, terminated = torch.randn(*leading, 1), torch.zeros(*leading, 1)
    return lambda: (observation, action, reward, terminated, None)


if __name__ == "__main__":
    main()
