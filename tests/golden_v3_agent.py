"""Builds DreamerV3 with the sizes of golden weights and the settings of a golden file."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import Joint, OneHot
from common.dynamics.kl import KLConfig
from common.dynamics.rssm import RSSMConfig
from common.learning.normalize import SpreadConfig
from common.learning.optimizers import OptimizerConfig
from common.model.config import WorldModelConfig
from common.model.inputs import Inputs
from common.model.world_model import world_model
from common.nets.coders import DecoderConfig, EncoderConfig
from common.nets.heads import HeadConfig
from common.spaces import ActionPart, ActionSpec
from dreamer.agent import Dreamer
from dreamer.config import ActorConfig, BehaviorConfig, Config, ReplayValueConfig
from dreamer.networks import make_networks
from tests import golden_weights
from tests.golden_v3_weights import observation_specs, renamed

BEHAVIOR = ("actor", "critic", "slow_critic")
STYLE: dict[str, Any] = {"activation": "silu", "norm": "rms"}
METHODS = {"perc": "percentiles", "meanstd": "mean_std", "none": "none"}


class Agent:
    """Dreamer with a file's weights.

    Attributes:
        dreamer: The agent.
        params: Its parameters.
        specs: The flat observation.
        actions: The flat action.
        deter: Entries of the recurrent state.
    """

    def __init__(self, g: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], stoch: Any):
        """Reads sizes and settings.

        Args:
            g: Weights under "w" and settings under "cfg".
            rows: Observations ``[B, T, ...]``.
            stoch: A latent sample ``[..., S, K]``.
        """
        weights = golden_weights.weights(g, "w")
        self.specs = observation_specs(g["cfg.obs_keys"], g["cfg.classes"], rows)
        self.actions = action_spec(g, weights)
        self.deter = len(weights["dyn.dyngru.bias"]) // 3
        config = self._config(g, weights, stoch.shape[-2:])
        model = world_model(config.world_model, self.specs, self.actions)
        networks = make_networks(config.actor, config.critic, self.actions)
        self.config, self.dreamer = config, Dreamer(model, networks, config)
        shapes = jax.eval_shape(self.dreamer.init, jax.random.key(0)).params
        self._like = golden_weights.components(
            jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        )
        self._units = config.world_model.encoder.units
        self.params = self.load(weights)

    def ours(self, golden: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weights or gradients under our names; images come first in an embedding."""
        ours = renamed(golden, self.deter)
        name = "rssm.obs_out.kernel"
        kinds = {spec.kind for spec in self.specs.values()}
        if name in ours and len(kinds) == 2:
            deter, vectors, images = np.split(
                ours[name], [self.deter, self.deter + self._units], axis=0
            )
            ours[name] = np.concatenate([deter, images, vectors])
        return ours

    def load(self, golden: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the agent's parameters with all golden weights in them."""
        golden = self.ours(golden)
        wanted = set(golden_weights.flatten(self._like))
        if not any(name.startswith("critic.") for name in golden):  # Of acting alone.
            wanted = {name for name in wanted if name in golden}
        assert golden.keys() == wanted
        return golden_weights.agent_params(golden_weights.load(golden, self._like))

    def _config(self, g: Mapping[str, np.ndarray], weights: Any, stoch: Sequence[int]) -> Config:
        rssm = RSSMConfig(
            stoch=stoch[0], classes=stoch[1], deter=self.deter,
            hidden=len(weights["dyn.dynin0.bias"]), cell="block_gru",
            blocks=len(weights["dyn.dyngru.kernel"]), cell_layers=count(weights, "dyn.dynhid"),
            unimix=float(_get(g, "dyn.rssm.unimix", _get(g, "dyn.unimix", 0.0))),
            prior_layers=count(weights, "dyn.prior") or 1,
            posterior_layers=count(weights, "dyn.obs"), **STYLE,
        )  # fmt: skip
        encoder, decoder = coders(weights)
        model = WorldModelConfig(
            rssm=rssm, encoder=encoder, decoder=decoder, vector_transform="symlog",
            reward=head(weights, "rew", likelihood="two_hot"), discount=head(weights, "con"),
            kl=KLConfig(dyn_scale=1.0, rep_scale=0.1),
        )  # fmt: skip
        actor = ActorConfig(
            **sizes(weights, "pol.mlp.linear"), continuous="bounded_normal", init_std=2.0,
            min_std=float(_get(g, "policy.minstd", 0.1)),
            max_std=float(_get(g, "policy.maxstd", 1.0)), evaluate="sample", **STYLE,
        )  # fmt: skip
        config = Config(world_model=model, actor=actor)
        return _trained(config, g, weights) if "cfg.horizon" in g else config


def _get(g: Mapping[str, np.ndarray], name: str, default: Any) -> Any:
    return g[f"cfg.{name}"] if f"cfg.{name}" in g else default


def _trained(config: Config, g: Mapping[str, np.ndarray], weights: Any) -> Config:
    """Adds what learning needs."""

    def get(name: str) -> Any:
        return g[f"cfg.{name}"].item()

    model = dataclasses.replace(
        config.world_model,
        kl=KLConfig(
            dyn_scale=get("loss_scales.dyn"), rep_scale=get("loss_scales.rep"),
            free=get("dyn.rssm.free_nats"),
        ),
        soft_discount=get("contdisc"), discount_factor=1 - 1 / get("horizon"),
        decoder_scale=get("loss_scales.rec"), reward_scale=get("loss_scales.rew"),
        discount_scale=get("loss_scales.con"), reward_gradients=get("reward_grad"),
    )  # fmt: skip
    behavior = BehaviorConfig(
        horizon=get("imag_length"), starts=get("imag_last"), start_gradients=get("ac_grads"),
        lambda_=get("imag_loss.lam"), actor_grad="reinforce",
        actor_entropy=str(get("imag_loss.actent")), include_reward=False,
        slow_target=get("imag_loss.slowtar"), slow_target_update=get("slowvalue.every"),
        slow_target_fraction=get("slowvalue.rate"), slow_initial_copy=True,
        slow_regularizer=get("imag_loss.slowreg"), return_norm=spread(g, "retnorm"),
        value_norm=spread(g, "valnorm"), advantage_norm=spread(g, "advnorm"),
        replay_value=ReplayValueConfig(
            get("loss_scales.repval"), get("repval_grad"), get("repl_loss.slowreg")
        ),
        actor_scale=get("loss_scales.policy"), critic_scale=get("loss_scales.value"),
    )  # fmt: skip
    assert get("repl_loss.lam") == behavior.lambda_
    optimizer = OptimizerConfig(
        lr=get("opt.lr"), lr_schedule=f"warmup({get('opt.warmup')},1)", eps=get("opt.eps"),
        beta1=get("opt.beta1"), beta2=get("opt.beta2"), agc=get("opt.agc"), clip=0.0,
        weight_decay=get("opt.wd"), decay="kernels", adam="laprop",
    )  # fmt: skip
    critic = head(weights, "val", likelihood="two_hot")
    return dataclasses.replace(
        config, world_model=model, behavior=behavior, critic=critic, joint=True,
        model_opt=optimizer,
    )  # fmt: skip


def spread(g: Mapping[str, np.ndarray], name: str) -> SpreadConfig:
    """Reads one normaliser; mean and deviation always count from the start."""
    options = {"rate": "rate", "limit": "limit", "low": "perclo", "high": "perchi"}
    given = {
        ours: float(g[f"cfg.{name}.{theirs}"])
        for ours, theirs in options.items()
        if f"cfg.{name}.{theirs}" in g
    }
    debias = bool(_get(g, f"{name}.debias", True))
    return SpreadConfig(method=METHODS[str(g[f"cfg.{name}.impl"])], debias=debias, **given)


def count(weights: Mapping[str, np.ndarray], prefix: str) -> int:
    """Returns how many layers ``PREFIX0``, ``PREFIX1``, ... there are."""
    return next(i for i in itertools.count() if f"{prefix}{i}.kernel" not in weights)


def sizes(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, int]:
    """Layers and units of a stack."""
    layers = count(weights, prefix)
    return {"layers": layers, "units": len(weights[f"{prefix}0.bias"]) if layers else 1}


def head(weights: Mapping[str, np.ndarray], name: str, **options: Any) -> HeadConfig:
    """Reads the sizes of a head."""
    if f"{name}.head.logits.bias" in weights:
        options["bins"] = len(weights[f"{name}.head.logits.bias"])
    return HeadConfig(**sizes(weights, f"{name}.mlp.linear"), **STYLE, **options)


def coders(weights: Mapping[str, np.ndarray]) -> tuple[EncoderConfig, DecoderConfig]:
    """Reads the sizes of encoder and decoder; channels are multiples of a depth of one."""
    encoder, decoder = sizes(weights, "enc.mlp"), sizes(weights, "dec.mlp.linear")
    down = tuple(len(weights[f"enc.cnn{i}.bias"]) for i in range(count(weights, "enc.cnn")))
    up = tuple(len(weights[f"dec.conv{i}.bias"]) for i in range(count(weights, "dec.conv")))
    blocks = 1
    if "dec.sp0.kernel" in weights:
        up += (len(weights["dec.spnorm.scale"]),)
        blocks = len(weights["dec.sp0.kernel"])
        decoder["units"] = len(weights["dec.sp1.bias"]) // 2
    return EncoderConfig(
        **encoder, depth=1, multipliers=down or (1,), convolutions="pool", **STYLE
    ), DecoderConfig(
        **decoder, depth=1, multipliers=up or (1,), convolutions="nearest", score="squared",
        blocks=blocks, **STYLE,
    )  # fmt: skip


def action_spec(g: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> ActionSpec:
    """Returns the flat action, parts in the order of their names."""
    parts = []
    for key, classes in sorted(zip(map(str, g["cfg.act_keys"]), g["cfg.act_classes"], strict=True)):
        if classes:
            parts.append(ActionPart((key,), "categorical", int(classes)))
        else:
            size = len(weights[f"pol.head.{key}.mean.bias"])
            bounds = (-1.0,) * size, (1.0,) * size
            parts.append(ActionPart((key,), "continuous", size, *bounds, (size,)))
    return ActionSpec(tuple(parts))


def flat_actions(actions: ActionSpec, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """Actions by key side by side, integers one-hot."""
    blocks = []
    for part in actions.parts:
        x = given[part.path[0]]
        one_hot = np.eye(part.size, dtype=np.float32)
        blocks.append(one_hot[x] if part.kind == "categorical" else x)
    return np.concatenate(blocks, -1)


def play_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes samples take recorded noise: Gumbel noise of every class, normal noise as it is."""

    def sample(self: OneHot, noise: jax.Array) -> jax.Array:
        log_probs = jax.nn.log_softmax(self.logits)
        return self.straight_through(jax.nn.one_hot((log_probs + noise).argmax(-1), self.size))

    def sample_all(self: Joint, noise: jax.Array) -> jax.Array:
        ends = list(itertools.accumulate(part.size for part in self.parts))
        shares = jnp.split(noise, ends[:-1], -1)
        return jnp.concatenate(
            [part.sample(share) for part, share in zip(self.parts, shares, strict=True)], -1
        )

    monkeypatch.setattr(OneHot, "sample", sample)
    monkeypatch.setattr(Joint, "sample", sample_all)
    monkeypatch.setattr(Inputs, "noises", lambda self, noise, leading: None)
