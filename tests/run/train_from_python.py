import threading
from concurrent.futures import ThreadPoolExecutor

import gymnasium

import dreamer
from common.envs import EnvConfig, make
from common.logging import Sink


def make_envs(seed, amount):
    """Builds the environments to learn in, and fresh ones for every evaluation."""
    return make(lambda: gymnasium.make("CartPole-v1"), EnvConfig(workers="none"), seed, amount)


class Returns(Sink):
    """A logger of your own: keeps the returns of evaluations."""

    def __init__(self):
        self.points = []

    def scalars(self, frames, scalars):
        if "eval/return_mean" in scalars:
            self.points.append((frames, scalars["eval/return_mean"]))


stop, returns = threading.Event(), Returns()


def progress(now):
    print(f"{now.kind} at {now.now:,} of {now.total:,} {now.clock}")
    return "stop" if stop.is_set() else None


with ThreadPoolExecutor(1) as pool:  # A plain call works too; there Ctrl-C stops it.
    run = pool.submit(
        dreamer.train, "runs/cartpole", presets=["gym", "debug"], options={"task": "cartpole"},
        envs=make_envs, loggers=[returns], progress=progress,
    )  # fmt: skip
    print(run.result(), returns.points)  # stop.set() would end it; the same call goes on.
