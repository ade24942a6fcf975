"""TD-MPC2 with the sizes, weights and batches of a golden file, shared by its tests."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

from common.learning.optimizers import OptimizerConfig
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.learn import Learner
from planet.tdmpc2.losses import Noise
from planet.tdmpc2.networks import make_networks
from planet.tdmpc2.tasks import Tasks
from tests import golden_weights

OPTIONS = {
    "latent_dim": "latent", "simnorm_dim": "simnorm", "enc_dim": "encoder_units",
    "mlp_dim": "units", "num_enc_layers": "encoder_layers", "num_q": "num_q", "num_bins": "bins",
    "vmin": "low", "vmax": "high", "log_std_min": "min_log_std", "log_std_max": "max_log_std",
    "dropout": "dropout", "episodic": "terminations", "horizon": "horizon", "rho": "rho",
    "consistency_coef": "consistency", "reward_coef": "reward", "value_coef": "value",
    "termination_coef": "termination", "entropy_coef": "entropy", "tau": "tau",
    "num_channels": "channels", "pad": "shift", "task_dim": "task_size",
}  # fmt: skip
"""Our options by their golden names."""
EMBEDDING = "task.task.embedding"
"""Our name of "task_emb"."""


def config(g, **given):
    """Options as a golden file names them; those of optimizers only where it has them."""
    kinds = {name: type(value) for name, value in vars(TDMPC2Config()).items()}
    options = {ours: kinds[ours](g[f"cfg.{name}"])
               for name, ours in OPTIONS.items() if f"cfg.{name}" in g}  # fmt: skip
    if "cfg.lr" in g:
        common = {"lr": float(g["cfg.lr"]), "clip": float(g["cfg.grad_clip_norm"])}
        rates = {"encoder": float(g["cfg.enc_lr_scale"])}
        common |= {"weight_decay": 0, "adam": "standard"}
        options["model_opt"] = OptimizerConfig(**common, eps=1e-8, rates=rates)
        options["policy_opt"] = OptimizerConfig(**common, eps=1e-5)
    return TDMPC2Config(**options | given)


def action_spec(size):
    """A continuous action of some entries."""
    low, high = (-1.0,) * size, (1.0,) * size
    return ActionSpec((ActionPart((), "continuous", size, low, high, (size,)),))


def networks_of(config, observation, actions, tasks=None):
    """Networks that read one observation of a shape, and a task where there are several."""
    kind = "image" if len(observation) == 3 else "vector"
    specs = {"obs": ObservationSpec(observation, kind)}
    if tasks:
        specs[tasks.key] = ObservationSpec((len(tasks.actions),), "vector")
    return make_networks(config, specs, action_spec(actions), tasks)


class Golden:
    """Networks of a golden file, and its weights."""

    def __init__(self, g, config, observation, actions, tasks=None):
        """Builds the networks.

        Args:
            g: The arrays.
            config: Options.
            observation: Shape of the one observation.
            actions: Entries of an action.
            tasks: Of several tasks.
        """
        self.g, self.config, self.actions = g, config, actions
        self.tasks = len(tasks.actions) if tasks else 0
        self.networks = networks_of(config, observation, actions, tasks)
        self.like = jax.eval_shape(self.networks.init, jax.random.key(0))

    @classmethod
    def of_file(cls, g, obs="in.obs", axes=2):
        """Builds them of a file's settings and an array of observations with some leading axes."""
        sizes = g["cfg.action_dims"].tolist() if "cfg.action_dims" in g else None
        tasks = Tasks("task", tuple(sizes)) if sizes else None
        return cls(g, config(g), g[obs].shape[axes:], int(g["cfg.action_dim"]), tasks)

    def load(self, prefix, only=None):
        """Weights under a prefix: parameters by component, and the target ensemble."""
        found = golden_weights.weights(self.g, prefix)
        found = {_ours(name): value for name, value in found.items()}
        target = {name.removeprefix("target_"): x for name, x in found.items() if "target_" in name}
        rest = {name: x for name, x in found.items() if "target_" not in name}
        pick = lambda names: {name: self.like[name] for name in names}  # noqa: E731
        params = golden_weights.load(rest, pick(only or self.like))
        return params, golden_weights.load(target, pick(["q"]))["q"] if target else None


def named(params):
    """Golden names of weights or gradients by component."""
    flat = golden_weights.dump(params)
    flat = {re.sub(r"^policy\.", "pi.", name): value for name, value in flat.items()}
    return {"task_emb" if name == EMBEDDING else name: value for name, value in flat.items()}


def _ours(name):
    return EMBEDDING if name == "task_emb" else re.sub(r"^pi\.", "policy.", name)


def rows(g, prefix, tasks=0):
    """A recorded batch as the package's rows ``[B, H + 1, ...]``."""
    obs, first = g[f"{prefix}obs"], np.zeros((1, *g[f"{prefix}reward"].shape[1:2]), np.float32)
    action = g[f"{prefix}action"]
    batch = {
        "obs": obs,
        "action": np.concatenate([np.zeros_like(action[:1]), action]),
        "reward": np.concatenate([first, g[f"{prefix}reward"][..., 0]]),
        "is_terminal": np.concatenate([first, g[f"{prefix}terminated"][..., 0]]) > 0,
    }
    if tasks:
        task = np.eye(tasks, dtype=np.float32)[g[f"{prefix}task"]]
        batch["task"] = np.broadcast_to(task, (len(obs), *task.shape))
    batch |= {"is_last": batch["is_terminal"], "is_first": np.zeros_like(batch["is_terminal"])}
    return {key: jnp.asarray(np.swapaxes(x, 0, 1)) for key, x in batch.items()}


def noise(g, prefix):
    """The recorded draws of an update."""
    pair = g[f"{prefix}perm_pi"]
    shifts = [g[f"{prefix}shift_{name}"] if f"{prefix}shift_{name}" in g else None
              for name in ("first", "next")]  # fmt: skip
    return Noise(
        *shifts,
        target=g[f"{prefix}eps_td"],
        target_pair=g[f"{prefix}perm_td"],
        keep=g[f"{prefix}keep_value"],
        policy=g[f"{prefix}eps_pi"],
        policy_pair=pair,
        policy_keep=g[f"{prefix}keep_pi"][pair],
    )


def no_noise(**given):
    """Noise of which only the given draws are needed."""
    return Noise(**dict.fromkeys(Noise._fields) | given)


def learner(golden):
    """The learner of a golden file of updates."""
    discount = golden.g["cfg.discount"].tolist()
    return Learner(golden.networks, golden.config, discount, golden.actions)
