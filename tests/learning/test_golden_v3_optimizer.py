"""DreamerV3's optimiser against the numbers of the public code, setting by setting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.learning.optimizers import OptimizerConfig, clip_by_share, gradient_transformation
from common.learning.schedules import parse_schedule
from tests.golden_data import FOLDER_V3, every_array, load

with np.load(FOLDER_V3 / "optimizer.npz") as _file:
    CASES = sorted({name.partition(".")[0] for name in _file.files if ".cfg." in name})
    STEPS = len({name.split(".")[0] for name in _file.files if ".in.grad." in name})


def schedule_of(case):
    """The schedule that stands for the settings of a case."""
    lr, warmup, anneal = (case[f"cfg.{name}"].item() for name in ("lr", "warmup", "anneal"))
    rest = anneal - warmup
    # The reference's cosine ends at a tenth of the square of the learning rate.
    after = {
        "const": "1",
        "linear": f"linear(1,0.1,{rest})",
        "cosine": f"cosine(1,{0.1 * lr},{rest})",
    }[case["cfg.schedule"].item()]
    return f"warmup({warmup},1) then {after}" if warmup else after


def config_of(case):
    """The options that stand for the settings of a case."""

    def get(name, default=None):
        return case[f"cfg.{name}"].item() if f"cfg.{name}" in case else default

    return OptimizerConfig(
        lr=get("lr"),
        lr_schedule=schedule_of(case),
        eps=get("eps"),
        beta1=get("beta1"),
        beta2=get("beta2"),
        agc=get("agc"),
        clip=0.0,
        weight_decay=get("wd"),
        decay="kernels",
        adam="laprop",
        nesterov=bool(get("nesterov", False)),
    )


def tree(arrays, prefix):
    """The arrays under a prefix by the names of their weights."""
    start = f"{prefix}."
    return {name[len(start) :]: arrays[name] for name in arrays if name.startswith(start)}


@pytest.mark.parametrize("name", CASES)
def test_steps(name):
    arrays = load("optimizer", FOLDER_V3)
    case = arrays.case(name)
    config = config_of(case)
    chain = gradient_transformation(config)
    params = {key: jnp.asarray(x) for key, x in tree(arrays, "w").items()}
    state = chain.init(params)
    with every_array(case):
        for step in range(STEPS):
            grads = tree(arrays, f"s{step}.in.grad")
            for key, want in tree(case, f"s{step}.after_agc").items():
                got = {key: grads[key]}
                if config.agc:
                    got, _ = clip_by_share(config.agc).update(
                        got, optax.EmptyState(), {key: params[key]}
                    )
                np.testing.assert_allclose(got[key], want, rtol=1e-5, err_msg=key)
            updates, state = jax.jit(chain.update)(grads, state, params)
            params = optax.apply_updates(params, updates)
            for key, want in tree(case, f"s{step}.update").items():
                np.testing.assert_allclose(
                    updates[key], want, rtol=5e-4, atol=1e-7, err_msg=f"{step} {key}"
                )
            for key, want in tree(case, f"s{step}.w_after").items():
                np.testing.assert_allclose(
                    params[key], want, rtol=3e-7, atol=2e-6, err_msg=f"{step} {key}"
                )
        for moment in ("nu", "mu"):
            for key, want in tree(case, moment).items():
                error = np.abs(optax.tree.get(state, moment)[key] - want).max()
                assert error <= 5e-4 * np.abs(want).max() + 1e-12, f"{moment} {key}"


def test_the_first_update_after_a_warm_up_from_nothing_moves_no_weight():
    arrays = load("optimizer", FOLDER_V3)
    params = tree(arrays, "w")
    chain = gradient_transformation(config_of(arrays.case("default")))
    updates, _ = chain.update(tree(arrays, "s0.in.grad"), chain.init(params), params)
    assert all((update == 0).all() for update in updates.values())


MISC = load("misc", FOLDER_V3)


@pytest.mark.parametrize("name", sorted({x.split(".")[0] for x in MISC if x.startswith("lr")}))
def test_learning_rates(name):
    with every_array(MISC.case(name)) as case:
        schedule = parse_schedule(schedule_of(case))
        got = [case["cfg.lr"].item() * float(schedule(int(i))) for i in case["update_index"]]
        np.testing.assert_allclose(got, case["lr"], rtol=1e-4, atol=1e-12)
