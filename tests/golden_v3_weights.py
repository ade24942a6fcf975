"""Maps the weights of the golden vectors of DreamerV3 to ours, by name and by the order of rows.

A golden weight is named ``component.layer.leaf``, such as ``dyn.dynin0.kernel``; ours has the name
that ``tests.golden_weights.flatten`` gives it. Two things are in another order: heads and policy
read [deter, stoch] there and [stoch, deter] here, and the policy has a layer for each action there
and one for all of them here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.dynamics.rssm import RSSMConfig
from common.nets.coders import DecoderConfig, EncoderConfig
from common.spaces import ObservationSpec

LAYERS = [
    (r"dyn\.dynin0(norm)?", r"rssm.block_gru_deter\1"),
    (r"dyn\.dynin1(norm)?", r"rssm.block_gru_stoch\1"),
    (r"dyn\.dynin2(norm)?", r"rssm.block_gru_action\1"),
    (r"dyn\.dynhid(\d+)(norm)?", r"rssm.block_gru\1\2"),
    (r"dyn\.dyngru", r"rssm.block_gru_gates"),
    (r"dyn\.priorlogit", r"rssm.img_dist"),
    (r"dyn\.obslogit", r"rssm.obs_dist"),
    (r"dyn\.prior0(norm)?", r"rssm.img_out\1"),
    (r"dyn\.prior(\d+)(norm)?", r"rssm.img_out\1\2"),
    (r"dyn\.obs0(norm)?", r"rssm.obs_out\1"),
    (r"dyn\.obs(\d+)(norm)?", r"rssm.obs_out\1\2"),
    (r"enc\.mlp(\d+)", r"encoder.dense\1"),
    (r"enc\.mlp(\d+)norm", r"encoder.densenorm\1"),
    (r"enc\.cnn(\d+)", r"encoder.conv\1"),
    (r"enc\.cnn(\d+)norm", r"encoder.convnorm\1"),
    (r"dec\.mlp\.linear(\d+)", r"decoder.dense\1"),
    (r"dec\.mlp\.norm(\d+)", r"decoder.densenorm\1"),
    (r"dec\.vec\.(.+)\.(?:pred|logits)", r"decoder.dense_\1"),
    (r"dec\.sp0", r"decoder.space_deter"),
    (r"dec\.sp1(norm)?", r"decoder.space_hidden\1"),
    (r"dec\.sp2", r"decoder.space_stoch"),
    (r"dec\.spnorm", r"decoder.space_norm"),
    (r"dec\.conv(\d+)", r"decoder.conv\1"),
    (r"dec\.conv(\d+)norm", r"decoder.convnorm\1"),
    (r"dec\.imgout", r"decoder.image"),
    (r"(rew|con|pol|val|slowval)\.mlp\.linear(\d+)", r"\1.dense\2"),
    (r"(rew|con|pol|val|slowval)\.mlp\.norm(\d+)", r"\1.norm\2"),
    (r"(rew|con|val|slowval)\.head\.logits?", r"\1.out"),
]
HEADS = {
    "rew": "reward", "con": "discount", "pol": "actor", "val": "critic", "slowval": "slow_critic",
}  # fmt: skip
_POLICY = re.compile(r"pol\.head\.(.+)\.(logits|mean|stddev)")


def renamed(golden: Mapping[str, np.ndarray], deter: int) -> dict[str, np.ndarray]:
    """Returns weights, or gradients, under our names and in our order.

    Args:
        golden: By golden name.
        deter: Entries of the recurrent state, D.
    """
    ours: dict[str, np.ndarray] = {}
    columns: dict[str, list[np.ndarray]] = {}
    for name in sorted(golden):  # Actions stand in the order of their names.
        layer, _, leaf = name.rpartition(".")
        leaf, value = {"shift": "offset"}.get(leaf, leaf), golden[name]
        if action := _POLICY.fullmatch(layer):
            kind = "std" if action[2] == "stddev" else "out"
            columns.setdefault(f"actor.{kind}.{leaf}", []).append(value)
            continue
        component, place = _place(layer)
        if component in HEADS and place == "dense0" and leaf == "kernel":
            value = np.concatenate([value[deter:], value[:deter]])
        ours[f"{HEADS.get(component, component)}.{place}.{leaf}"] = value
    return ours | {name: np.concatenate(parts, -1) for name, parts in columns.items()}


def _place(layer: str) -> tuple[str, str]:
    for pattern, name in LAYERS:
        if match := re.fullmatch(pattern, layer):
            component, _, place = match.expand(name).partition(".")
            if component == "rssm" or place.startswith("space_hidden"):
                place = re.sub("norm$", "_norm", place)
            return component, place
    raise KeyError(layer)


def rssm_config(arrays: Mapping[str, np.ndarray], prefix: str = "") -> RSSMConfig:
    """Reads ``PREFIXdeter``, ``PREFIXstoch`` and so on."""
    names = {
        "stoch": int, "classes": int, "deter": int, "hidden": int, "blocks": int, "absolute": bool,
        "unimix": float, "norm": str,
    }  # fmt: skip
    options = {name: kind(arrays[f"{prefix}{name}"]) for name, kind in names.items()}
    layers = {"prior_layers": "imglayers", "posterior_layers": "obslayers",
              "cell_layers": "dynlayers"}  # fmt: skip
    options |= {ours: int(arrays[f"{prefix}{name}"]) for ours, name in layers.items()}
    return RSSMConfig(cell="block_gru", activation=str(arrays[f"{prefix}act"]), **options)


def observation_specs(
    keys: Sequence[str], classes: Sequence[int], rows: Mapping[str, np.ndarray]
) -> dict[str, ObservationSpec]:
    """Returns the flat observation.

    Args:
        keys: Of observations.
        classes: Choices of each entry of an integer observation, 0 for all others.
        rows: Their arrays ``[B, T, ...]``.
    """
    specs = {}
    for key, choices in zip(map(str, keys), classes, strict=True):
        shape = rows[key].shape[2:]
        entries = int(np.prod(shape))
        if rows[key].dtype == np.uint8:
            specs[key] = ObservationSpec(shape, "image")
        elif choices:
            all_of_them = (int(choices),) * entries
            specs[key] = ObservationSpec((sum(all_of_them),), "vector", all_of_them, (0,) * entries)
        else:
            specs[key] = ObservationSpec((entries,), "vector")
    return specs


def flat_rows(
    specs: Mapping[str, ObservationSpec], rows: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns observations ``[B, T, ...]`` as the model takes them."""
    flat = {}
    for key, spec in specs.items():
        x = rows[key]
        if spec.choices:
            x = np.eye(spec.choices[0], dtype=np.float32)[x]
        flat[key] = x if spec.kind == "image" else x.reshape(*x.shape[:2], -1)
    return flat


def coder_configs(
    arrays: Mapping[str, np.ndarray], encoder: str = "", decoder: str = ""
) -> tuple[EncoderConfig, DecoderConfig]:
    """Reads ``ENCODERdepth`` and ``DECODERdepth``, and so on."""
    names = {"depth": int, "layers": int, "units": int, "kernel": int, "outer": bool, "norm": str}

    def options(prefix: str) -> dict[str, Any]:
        found = {name: kind(arrays[f"{prefix}{name}"]) for name, kind in names.items()}
        multipliers = tuple(int(x) for x in arrays[f"{prefix}mults"])
        return found | {"activation": str(arrays[f"{prefix}act"]), "multipliers": multipliers}

    strided = {prefix: bool(arrays[f"{prefix}strided"]) for prefix in (encoder, decoder)}
    return EncoderConfig(
        convolutions="stride" if strided[encoder] else "pool", **options(encoder)
    ), DecoderConfig(
        convolutions="stride" if strided[decoder] else "nearest", score="squared",
        blocks=int(arrays[f"{decoder}bspace"]), **options(decoder),
    )  # fmt: skip


def images_first(tokens: np.ndarray, units: int) -> np.ndarray:
    """Moves the vectors' part of tokens ``[..., E]`` behind the images', as it is here."""
    return np.concatenate([tokens[..., units:], tokens[..., :units]], -1)
