"""Maps golden weights and settings to our parameters and configuration, and back.

A golden weight is named ``component.layer.leaf``, such as ``rssm.gru.kernel``. Ours is
``params["rssm"]["rssm/~/gru"]["kernel"]``: the last part of the module's path is the layer's
name, and all layouts, those of convolutions too, are the same. The one difference is
the order of vector observations, which we sort by key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from common.dynamics.kl import KLConfig
from common.dynamics.rssm import RSSMConfig
from common.learning.normalize import StreamNormConfig
from common.learning.optimizers import OptimizerConfig
from common.model.config import WorldModelConfig
from common.model.world_model import world_model
from common.nets.coders import DecoderConfig, EncoderConfig
from common.nets.heads import HeadConfig
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from dreamer.agent import Dreamer
from dreamer.config import ActorConfig, BehaviorConfig, Config
from dreamer.networks import make_networks

BEHAVIOR = ("actor", "critic", "slow_critic")


def weights(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Looks up all arrays under a prefix; returns them by the rest of their name."""
    names = [name for name in arrays if name.startswith(f"{prefix}.")]
    return {name[len(prefix) + 1 :]: arrays[name] for name in names}


def flatten(params: Any) -> dict[str, Any]:
    """Names the leaves of nested parameters as golden weights are named."""
    flat = {}
    for component, modules in params.items():
        for path, leaves in modules.items():
            layer = path.split("/")[-1]
            flat |= {f"{component}.{layer}.{leaf}": value for leaf, value in leaves.items()}
    return flat


def load(
    golden: Mapping[str, np.ndarray], like: Any, order: Mapping[str, int] | None = None
) -> Any:
    """Returns parameters like ``like`` with all golden weights put in.

    Args:
        golden: Weights by golden name; each of them must have a place of its shape.
        like: Parameters by component.
        order: Sizes of the vector observations in the golden order of their keys.
    """
    golden = {name: _sort_vectors(name, value, order) for name, value in golden.items()}
    shapes = {name: value.shape for name, value in flatten(like).items()}
    for name, value in golden.items():
        assert shapes.get(name) == value.shape, f"{name}: ours {shapes.get(name)}, {value.shape}"

    def place(component: str, path: str, leaves: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{component}.{path.split('/')[-1]}"
        return {leaf: jax.numpy.asarray(golden.get(f"{name}.{leaf}", value))
                for leaf, value in leaves.items()}  # fmt: skip

    return {
        component: {path: place(component, path, leaves) for path, leaves in modules.items()}
        for component, modules in like.items()
    }


def dump(params: Any, order: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """The inverse of ``load``: golden weights, or gradients, of nested parameters."""
    return {
        name: _sort_vectors(name, np.asarray(value), order, inverse=True)
        for name, value in flatten(params).items()
    }


def components(params: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens an agent's parameters to one mapping by component."""
    return {**params["world_model"], **{name: params[name] for name in BEHAVIOR}}


def agent_params(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``components``."""
    model = {name: part for name, part in parts.items() if name not in BEHAVIOR}
    return {"world_model": model, **{name: parts[name] for name in BEHAVIOR}}


def vector_order(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns sizes of the vector observations in the order in which their outputs are listed."""
    outputs = weights(arrays, "w.decoder")
    found = {name: re.fullmatch(r"dense_(.+)\.bias", name) for name in outputs}
    return {match[1]: len(outputs[name]) for name, match in found.items() if match}


def _sort_vectors(
    name: str, value: np.ndarray, order: Mapping[str, int] | None, inverse: bool = False
) -> np.ndarray:
    """Moves the rows of the weights that read vectors from the given to the sorted order."""
    if name != "encoder.dense0.kernel" or not order:
        return value
    ends = np.cumsum(list(order.values()))
    rows = {key: range(end - order[key], end) for key, end in zip(order, ends, strict=True)}
    permutation = np.concatenate([rows[key] for key in sorted(order)])
    return value[np.argsort(permutation) if inverse else permutation]


def rssm_config(
    arrays: Mapping[str, np.ndarray], prefix: str = "cfg", **changes: Any
) -> RSSMConfig:
    """Reads ``prefix.deter``, ``prefix.stoch`` and so on."""
    classes = int(arrays[f"{prefix}.discrete"])
    names = {"std": "std_act", "norm": "norm"}
    given = {ours: str(arrays[f"{prefix}.{name}"]) for ours, name in names.items()
             if f"{prefix}.{name}" in arrays}  # fmt: skip
    options = {
        "latent": "categorical" if classes else "gaussian",
        "stoch": int(arrays[f"{prefix}.stoch"]),
        **({"classes": classes} if classes else {}),
        "deter": int(arrays[f"{prefix}.deter"]),
        "hidden": int(arrays[f"{prefix}.hidden"]),
        "min_std": float(arrays[f"{prefix}.min_std"]),
    }
    return RSSMConfig(**{**options, **given, **changes})


def mlp(arrays: Mapping[str, np.ndarray], component: str, norm: str = "norm") -> dict[str, Any]:
    """Sizes of a component's dense stack, as its weights have them."""
    layers = weights(arrays, component)
    kernels = [name for name in layers if re.fullmatch(r"dense\d+\.kernel", name)]
    norms = any(name.startswith((norm, "convnorm")) for name in layers)
    units = layers["dense0.kernel"].shape[1] if kernels else 1
    return {"layers": len(kernels), "units": units, "norm": "layer" if norms else "none"}


def _coders(arrays: Mapping[str, np.ndarray]) -> tuple[EncoderConfig, DecoderConfig]:
    encoder = mlp(arrays, "w.encoder", "densenorm")
    decoder = mlp(arrays, "w.decoder", "densenorm")
    if "w.encoder.conv0.kernel" in arrays:
        encoder["depth"] = arrays["w.encoder.conv0.kernel"].shape[-1]
        layers = sum(bool(re.fullmatch(r"w\.decoder\.conv\d+\.bias", name)) for name in arrays)
        decoder["depth"] = len(arrays[f"w.decoder.conv{layers - 2}.bias"])
    return EncoderConfig(**encoder), DecoderConfig(**decoder)


def _optimizer(arrays: Mapping[str, np.ndarray], name: str) -> OptimizerConfig:
    if f"cfg.{name}.lr" not in arrays:
        return OptimizerConfig()
    options = {"lr": "lr", "eps": "eps", "clip": "clip", "weight_decay": "wd"}
    values = {ours: float(arrays[f"cfg.{name}.{theirs}"]) for ours, theirs in options.items()}
    betas = {f"beta{i}": float(arrays[f"cfg.adam_beta{i}"]) for i in (1, 2)}
    return OptimizerConfig(**values, **betas)


def _world_model_config(arrays: Mapping[str, np.ndarray]) -> WorldModelConfig:
    options: dict[str, Any] = {}
    if any(name.startswith("w.encoder") for name in arrays):
        options["encoder"], options["decoder"] = _coders(arrays)
    if "cfg.kl.free" in arrays:
        options["kl"] = KLConfig(
            scale=float(arrays["cfg.loss_scales.kl"]),
            balance=float(arrays["cfg.kl.balance"]),
            free=float(arrays["cfg.kl.free"]),
            free_avg=bool(arrays["cfg.kl.free_avg"]),
            forward=bool(arrays["cfg.kl.forward"]),
        )
        heads = [str(name) for name in arrays["cfg.grad_heads"]]
        options |= {f"{head}_gradients": head in heads for head in ("decoder", "reward")}
        options["reward_scale"] = float(arrays["cfg.loss_scales.reward"])
        options["discount_scale"] = float(arrays["cfg.loss_scales.discount"])
        options["reward_transform"] = str(arrays["cfg.clip_rewards"])
        if bool(arrays["cfg.pred_discount"]):
            options["discount_gradients"] = "discount" in heads
    for head in ("reward", "discount"):
        if f"w.{head}.out.bias" in arrays:
            options[head] = HeadConfig(**mlp(arrays, f"w.{head}"))
    norms = {"norm": "layer"} if "w.rssm.img_in_norm.scale" in arrays else {}
    return WorldModelConfig(
        rssm=rssm_config(arrays, "cfg.rssm", **norms),
        predict_discount=bool(arrays["cfg.pred_discount"]),
        discount_factor=float(arrays["cfg.discount"]),
        **options,
    )


def _behavior_config(arrays: Mapping[str, np.ndarray]) -> BehaviorConfig:
    names = {
        "horizon": ("imag_horizon", int),
        "lambda_": ("discount_lambda", float),
        "actor_grad": ("actor_grad", str),
        "actor_grad_mix": ("actor_grad_mix", str),
        "actor_entropy": ("actor_ent", str),
        "slow_target": ("slow_target", bool),
        "slow_target_update": ("slow_target_update", int),
        "slow_target_fraction": ("slow_target_fraction", float),
    }
    options = {ours: kind(arrays[f"cfg.{name}"]) for ours, (name, kind) in names.items()
               if f"cfg.{name}" in arrays}  # fmt: skip
    if "cfg.reward_norm.scale" in arrays:
        fields = ("momentum", "scale", "eps")
        values = [float(arrays[f"cfg.reward_norm.{name}"]) for name in fields]
        options["reward_norm"] = StreamNormConfig(*values)
    return BehaviorConfig(**options)


def action_spec(size: int, discrete: bool) -> ActionSpec:
    """Returns one categorical choice or one Box."""
    if discrete:
        return ActionSpec((ActionPart((), "categorical", size),))
    return ActionSpec((ActionPart((), "continuous", size, (-1,) * size, (1,) * size, (size,)),))


def actor_config(arrays: Mapping[str, np.ndarray], prefix: str = "w.actor") -> ActorConfig:
    """Reads the size of the policy from its weights."""
    kind = str(arrays.get("cfg.actor_dist_used", arrays.get("cfg.actor.dist", "auto")))
    continuous = kind if kind in ("trunc_normal", "tanh_normal") else "trunc_normal"
    min_std = float(arrays.get("cfg.actor.min_std", 0.1))
    return ActorConfig(continuous=continuous, min_std=min_std, **mlp(arrays, prefix))


def agent(
    arrays: Mapping[str, np.ndarray],
    observations: Mapping[str, ObservationSpec],
    actions: ActionSpec,
) -> Dreamer:
    """Builds Dreamer with the configuration and the sizes of a golden file."""
    config = Config(
        world_model=_world_model_config(arrays),
        behavior=_behavior_config(arrays),
        **{name: _optimizer(arrays, name) for name in ("model_opt", "actor_opt", "critic_opt")},
    )
    actor, critic = ActorConfig(layers=1, units=1), HeadConfig(layers=1, units=1)
    if "w.actor.out.bias" in arrays:
        actor, critic = actor_config(arrays), HeadConfig(**mlp(arrays, "w.critic"))
    model = world_model(config.world_model, observations, actions)
    return Dreamer(model, make_networks(actor, critic, actions), config)
