"""Distributions, KL, returns, schedules, reward norm and optimiser against DreamerV2's numbers."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import (
    Bernoulli,
    Normal,
    OneHot,
    TanhNormal,
    TruncatedNormal,
    unit_normal_log_prob,
)
from common.distributions.exploration import noisy_continuous, noisy_probs
from common.distributions.squashed import clip_straight_through
from common.dynamics.kl import KLConfig, kl_loss
from common.learning.normalize import StreamNormConfig, initial_magnitude, stream_norm
from common.learning.optimizers import OptimizerConfig, make_optimizer
from common.learning.returns import lambda_return
from common.learning.schedules import parse_schedule
from tests import golden_data
from tests.golden_data import assert_elementwise, assert_exact
from tests.reference import distributions as reference


def _compare(g, function, *args):
    """Compiles a function that returns arrays by golden name, and compares each of them."""
    for name, got in jax.jit(function)(*args).items():
        assert_elementwise(got, g[name], name)


def _gradients(function, args, names):
    """Gradients of the sum of the result w.r.t. every argument, by golden name."""
    positions = tuple(range(len(args)))
    return dict(zip(names, jax.grad(lambda *a: function(*a).sum(), positions)(*args), strict=True))


def _check_trunc_normal(g):
    options = {name: float(g[f"cfg.{name}"]) for name in ("init_std", "min_std")}
    uniform, action = g["sample_u"], g["grid_action"]

    def build(*raw):
        return TruncatedNormal.from_outputs(*raw, **options)

    def values(*raw):
        dist = build(*raw)
        got = {name: getattr(dist, name)() for name in ("entropy", "mode", "mean")}
        return {**got, "loc": dist.loc, "scale": dist.scale, "sample": dist.sample(uniform)}

    def gradients(*raw):
        names = ("grad_sample_raw_out", "grad_sample_raw_std")
        got = _gradients(lambda *a: build(*a).sample(uniform), raw, names)
        names = ("grad_entropy_raw_out", "grad_entropy_raw_std")
        return {**got, **_gradients(lambda *a: build(*a).entropy(), raw, names)}

    def grid(*raw):
        clipped = clip_straight_through(action)
        names = [f"grad_log_prob_clipped_action_{part}" for part in ("raw_out", "raw_std")]
        got = _gradients(lambda *a: build(*a).log_prob(clipped), raw, names)
        return {**got, "grid_log_prob": build(*raw).log_prob(action)}

    def event(*raw):
        dist = build(*raw)
        got = {f"event3_{name}": getattr(dist, name)() for name in ("entropy", "mode")}
        return {**got, "event3_log_prob": dist.log_prob(g["event3_action"])}

    raw = g["raw_out"], g["raw_std"]
    _compare(g, values, *raw)
    _compare(g, gradients, *raw)
    _compare(g, grid, g["grid_raw_out"], g["grid_raw_std"])
    _compare(g, event, g["event3_raw_out"], g["event3_raw_std"])
    _check_exact_sample_gradient(g, raw, uniform, **options)
    assert_elementwise(clip_straight_through(g["sample_before_clip"]), g["sample"], "clip")
    if "clip_event" in g:
        got = clip_straight_through(g["clip_event"])
        assert_elementwise(got, g["clip_sample"], "clip_sample", rtol=0, atol=6e-8)


def _check_exact_sample_gradient(g, raw, uniform, init_std, min_std):
    """The pathwise derivative, which is not followed: the docstring's claim, in float64."""

    def sample(raw_loc, raw_scale):
        outputs = reference.truncated_normal_outputs(raw_loc, raw_scale, init_std, min_std)
        return reference.truncated_normal_sample(*outputs, uniform.astype(np.float64))

    raw_loc, raw_scale = (np.asarray(x, np.float64) for x in raw)
    h = 1e-5
    by_loc = (sample(raw_loc + h, raw_scale) - sample(raw_loc - h, raw_scale)) / (2 * h)
    by_scale = (sample(raw_loc, raw_scale + h) - sample(raw_loc, raw_scale - h)) / (2 * h)
    for got, part in ((by_loc, "out"), (by_scale, "std")):
        exact = g[f"grad_sample_raw_{part}_exact"]
        assert_elementwise(got, exact, part)
        assert np.abs(exact - g[f"grad_sample_raw_{part}"]).max() > 0.1 * np.abs(exact).max()


def _check_tanh_normal(g):
    options = {name: float(g[f"cfg.{name}"]) for name in ("init_std", "min_std")}
    action, noise = g["grid_action"], g["mc_eps"]

    def build(*raw):
        return TanhNormal.from_outputs(*raw, **options)

    def grid(*raw):
        names = ("grad_log_prob_raw_out", "grad_log_prob_raw_std")
        got = _gradients(lambda *a: build(*a).log_prob(action), raw, names)
        return {**got, "grid_log_prob": build(*raw).log_prob(action)}

    def draws(*raw):
        dist = build(*raw)
        samples = dist.sample(noise)
        got = {f"mc_{name}": getattr(dist, name)(noise) for name in ("entropy", "mean")}
        got |= {"mc_sample": samples[0], "mc_all_samples": samples}
        return {
            **got,
            "mc_all_log_prob": dist.log_prob(samples),
            "mc_mode_per_element": dist.mode(noise),
        }

    def gradients(*raw):
        names = ("grad_mc_sample_raw_out", "grad_mc_sample_raw_std")
        got = _gradients(lambda *a: build(*a).sample(noise[0]), raw, names)
        names = ("grad_mc_entropy_raw_out", "grad_mc_entropy_raw_std")
        return {**got, **_gradients(lambda *a: build(*a).entropy(noise), raw, names)}

    def moments(*raw):
        return {"mean_before_tanh": build(*raw).loc, "std_before_tanh": build(*raw).std}

    _compare(g, moments, g["raw_out"], g["raw_std"])
    _compare(g, grid, g["grid_raw_out"], g["grid_raw_std"])
    _compare(g, draws, g["mc_raw_out"], g["mc_raw_std"])
    _compare(g, gradients, g["mc_raw_out"], g["mc_raw_std"])
    # The reference's own mode gives the whole batch the draw that is best for element 0.
    best, samples = g["mc_argmax"], g["mc_all_samples"]
    assert_exact(g["mc_all_log_prob"].argmax(0), best, "mc_argmax")
    assert_elementwise(samples[best[0]], g["mc_mode_reference"], "mc_mode_reference")
    assert_elementwise(
        samples[best, np.arange(len(best))], g["mc_mode_per_element"], "mc_mode_per_element"
    )


def _check_onehot(g):
    sample, action, cotangent = g["sample"], g["action"], g["cot_sample"]
    noise = golden_data.uniforms_for(sample, g["logits"])
    classes = jnp.eye(sample.shape[-1])[:, None]

    def values(logits):
        dist = OneHot(logits)
        got = {"probs": dist.mean(), "entropy": dist.entropy(), "mode": dist.mode()}
        got["log_prob_of_each_class"] = dist.log_prob(classes).T
        return {**got, "log_prob": dist.log_prob(action), "sample": dist.sample(noise)}

    def gradients(logits):
        def gradient(function, name):
            return _gradients(lambda x: function(OneHot(x)), (logits,), [f"grad_{name}_logits"])

        got = gradient(lambda dist: dist.entropy(), "entropy")
        got |= gradient(lambda dist: dist.log_prob(action), "log_prob")
        return got | gradient(lambda dist: cotangent * dist.sample(noise), "sample")

    _compare(g, values, g["logits"])
    _compare(g, gradients, g["logits"])
    assert_exact(OneHot(g["logits"]).sample(noise), sample, "sample")
    assert_exact((g["logits"] + g["sample_gumbel"]).argmax(-1), sample.argmax(-1), "gumbel")


def _check_binary(g):
    target = g["target"]

    def values(logit):
        dist = Bernoulli(logit)
        got = {name: getattr(dist, name)() for name in ("mean", "mode", "entropy")}
        got |= _gradients(
            lambda x: Bernoulli(x).log_prob(target), (logit,), ["grad_log_prob_logit"]
        )
        return {**got, "log_prob": dist.log_prob(target)}

    _compare(g, values, g["logit"])


def _check_mse(g):
    target = g["scalar_target"]

    def scalar(out):
        dist = Normal(out, jnp.ones_like(out), event_ndims=0)
        got = {"scalar_mode": dist.mode(), "scalar_entropy": dist.entropy()}
        return {**got, "scalar_log_prob": dist.log_prob(target)}

    _compare(g, scalar, g["scalar_out"])
    _compare(
        g,
        lambda out, vector: {
            "scalar_log_prob": unit_normal_log_prob(out, target, 0),
            "vector_log_prob": unit_normal_log_prob(vector, g["vector_target"], 1),
        },
        g["scalar_out"],
        g["vector_out"],
    )


def _check_normal(g):
    def values(out, std):
        dist = Normal(out, std)
        return {"log_prob": dist.log_prob(g["target"]), "entropy": dist.entropy()}

    _compare(g, values, g["out"], g["raw_std"])


def _check_schedule(g):
    for row, text in enumerate(g["strings"]):
        got = jax.jit(parse_schedule(str(text)))(g["steps"].astype(np.int32))
        assert_elementwise(got, g["values"][row], str(text))


def _check_streamnorm(g):
    config = StreamNormConfig(*(float(g[f"cfg.{name}"]) for name in ("momentum", "scale", "eps")))
    magnitude = initial_magnitude()
    for call, x in enumerate(g["inputs"]):
        got, magnitude = stream_norm(x, magnitude, config)
        assert_elementwise(got, g["outputs"][call], f"call {call}")
        assert_elementwise(magnitude, g["mag_f64"][call], f"magnitude {call}")


def _check_optim(g):
    options = ("lr", "eps", "clip", "wd", "beta1", "beta2")
    optimizer = make_optimizer(OptimizerConfig(*(float(g[f"cfg.{name}"]) for name in options)))
    names = [name.removesuffix("_init") for name in g if name.endswith("_init")]
    params = {name: jnp.asarray(g[f"{name}_init"]) for name in names}
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for t in range(len(g["grad_norm"])):
        grads = {name: g[f"{name}_grads"][t] for name in params}
        params, state, metrics = update(grads, state, params)
        assert_elementwise(metrics["grad_norm"], g["grad_norm"][t], "grad_norm")
        for name, value in params.items():
            assert_elementwise(value, g[f"{name}_after"][t], f"{name} {t}", rtol=0, atol=1e-6)


def _check_action_noise(g):
    for case, amount in enumerate(g["amounts"]):
        got = noisy_probs(g["onehot_action"], amount)
        assert_elementwise(got, g["onehot_probs"][case], f"onehot {amount}")
        got = noisy_continuous(g["cont_action"], g["cont_eps"][case], amount)
        assert_elementwise(got, g["cont_noisy"][case], f"continuous {amount}")


CHECKS = {
    "trunc_normal": _check_trunc_normal,
    "tanh_normal": _check_tanh_normal,
    "onehot": _check_onehot,
    "binary": _check_binary,
    "mse": _check_mse,
    "normal": _check_normal,
    "schedule": _check_schedule,
    "streamnorm": _check_streamnorm,
    "optim": _check_optim,
    "action_noise": _check_action_noise,
}


@pytest.mark.parametrize(
    ("file", "case"),
    [(file, case) for file in ("dists", "misc") for case in golden_data.first_parts(file)],
)
def test_distributions_and_miscellany(file, case):
    with golden_data.every_array(golden_data.load(file).case(case)) as arrays:
        CHECKS[case.rstrip("0123456789")](arrays)


def _latents(family, arrays):
    if family == "discrete":
        names = ("post_logit", "prior_logit")
        return names, lambda post, prior: (OneHot(post, 2), OneHot(prior, 2))
    names = ("post_mean", "post_std", "prior_mean", "prior_std")
    return names, lambda a, b, c, d: (Normal(a, b), Normal(c, d))


KL_CASES = sorted({tuple(k.split(".")[:2]) for k in golden_data.load("kl_loss") if k[:3] != "cfg"})


@pytest.mark.parametrize(("family", "level"), KL_CASES)
def test_kl_loss(family, level):
    file = golden_data.load("kl_loss")
    columns = [file[f"cfg.{name}"] for name in ("balance", "free", "free_avg", "forward")]
    with golden_data.every_array(file.case(f"{family}.{level}")) as g:
        names, build = _latents(family, g)
        inputs = [g[name] for name in names]
        for row, (balance, free, free_avg, forward) in enumerate(zip(*columns, strict=True)):
            config = KLConfig(1.0, float(balance), float(free), bool(free_avg), bool(forward))

            def loss(*args, config=config):
                term, value = kl_loss(*build(*args), config)
                return term.mean(), value

            positions = tuple(range(len(inputs)))
            gradient = jax.value_and_grad(loss, positions, has_aux=True)
            (got, value), gradients = gradient(*inputs)
            assert_elementwise(got, g["loss"][row], f"loss {config}")
            assert_elementwise(value, g["value"][row], f"value {config}")
            for x, name in zip(gradients, names, strict=True):
                assert_elementwise(x, g[f"grad_{name}"][row], f"grad_{name} {config}")


def test_lambda_return():
    returns = jax.jit(lambda_return)
    pull_back = jax.jit(lambda y, x, *a: jax.vjp(lambda *b: lambda_return(*b, x), *a)[1](y))
    with golden_data.every_array(golden_data.load("lambda_return")) as g:
        reward, value, bootstrap = g["in.reward"], g["in.value"], g["in.bootstrap"]
        for (i, gamma), (j, lambda_) in itertools.product(
            enumerate(g["cfg.gamma"]), enumerate(g["cfg.lambda"])
        ):
            name, discount = f"gamma {gamma}, lambda {lambda_}", np.full_like(reward, gamma)
            got = returns(reward, value, discount, bootstrap, lambda_)
            assert_elementwise(got, g["const.returns"][i, j], name)
            assert_elementwise(got.T, g["const.returns_axis1"][i, j], name)
            got = returns(reward, value, discount, np.zeros_like(bootstrap), lambda_)
            assert_elementwise(got, g["const.returns_no_bootstrap"][i, j], name)
        inputs = reward, value, g["in.discount_varying"], bootstrap
        for j, lambda_ in enumerate(g["cfg.lambda"]):
            got = returns(*inputs, lambda_)
            assert_elementwise(got, g["varying.returns"][j], f"lambda {lambda_}")
            gradients = pull_back(g["in.cot_return"], lambda_, *inputs)
            names = ("reward", "value", "discount", "bootstrap")
            for gradient, name in zip(gradients, names, strict=True):
                assert_elementwise(gradient, g[f"varying.grad_{name}"][j], f"grad_{name}")
