"""Distillation in a whole Dreamer: who learns what, who acts, what is kept and exported."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.agent import NORMALISERS, SMALL_ACTOR
from common.config import update
from common.dynamics.transformer import TransformerConfig
from common.errors import UserError
from common.export import check_params, export, read_export
from common.replay import ReplayConfig
from common.run.loading import LoadedAgent
from common.run.program import find_program
from common.spaces import ObservationSpec
from dreamer.agent import make_agent
from dreamer.distillation.distiller import HIDDEN
from dreamer.distillation.losses import policy_loss, value_loss
from dreamer.distillation.network import SmallMemory
from dreamer.program import load_program
from tests.configs.reading import load
from tests.dreamer.distillation.test_small_actor import UNITS, distilling
from tests.dreamer.test_agent import CONFIG, V1, build, fresh_state
from tests.dreamer.test_joint import V3
from tests.dreamer.updates import LEARNER, check_same, check_update, close, moved
from tests.tiny import BATCH, TIME, VECTOR, box, choice, random_batch

TRANSFORMER = dataclasses.replace(
    CONFIG,
    world_model=dataclasses.replace(
        CONFIG.world_model,
        dynamics="transformer",
        transformer=TransformerConfig(
            stoch=3, classes=4, context=2, layers=1, heads=1, kv_heads=1, width=8, units=8
        ),
    ),
)
CASES = {
    "v1": (V1, box(2), "mlp"),
    "v2": (CONFIG, choice(3), "gru"),
    "v3": (V3, box(2), "gru"),
    "transformer": (TRANSFORMER, choice(3), "gru"),
}
slow = lambda *values: pytest.param(*values, marks=pytest.mark.slow)  # noqa: E731
PULL = 0.5


def start(dreamer, config):
    """A state whose learner has the same weights with and without a small actor."""
    state, plain = fresh_state(dreamer), fresh_state(build(config, dreamer.model.actions))
    own = dreamer.behavior.initial_normalisers()
    return state._replace(params=state.params | plain.params, normalisers=state.normalisers | own)


@pytest.fixture(scope="module")
def steps():
    """One update: the parts, the states before and after, metrics; without a small actor, with
    one, and with one that pulls at the learner."""
    made = {}

    def step(case, pull=None):
        if (case, pull) not in made:
            config, actions, kind = CASES[case]
            with_small = config if pull is None else distilling(config, kind, regularizer=pull)
            dreamer = build(with_small, actions)
            state, batch = start(dreamer, config), random_batch(VECTOR, actions)
            made[case, pull] = (
                dreamer,
                state,
                *jax.jit(dreamer.update)(state, jax.random.key(1), batch),
            )
        return made[case, pull]

    return step


@pytest.mark.parametrize("case", ["v3", *(slow(case) for case in ("v1", "v2", "transformer"))])
def test_the_small_actor_learns_and_the_learner_as_if_it_were_not_there(steps, case):
    """From the same rows, where the regulariser is 0."""
    _, state, after, metrics = steps(case, 0.0)
    check_update(state, after, metrics)
    small = moved(state.params[SMALL_ACTOR], after.params[SMALL_ACTOR])
    assert np.mean(small) > 0.9 and metrics["distill/grad_norm"] > 0
    check_same((after, metrics), steps(case)[2:], SMALL_ACTOR)


@pytest.mark.parametrize("case", ["v3", slow("v2")])
def test_the_regulariser_reaches_the_learner_s_actor_alone(steps, case):
    _, state, after, metrics = steps(case, PULL)
    _, _, plain, expected = steps(case, 0.0)
    assert metrics["actor/distill_loss"] > 0 and "actor/distill_loss" not in expected
    assert any(moved(after.params["actor"], plain.params["actor"]))
    for name in ("world_model", "critic", "slow_critic"):
        jax.tree.map(close, after.params[name], plain.params[name])
    if case == "v3":  # All is in one loss there, whose gradient shows it before any step.
        close(metrics["joint/loss"], expected["joint/loss"] + metrics["actor/distill_loss"])


def test_the_losses_are_those_of_the_equations():
    """Both see the same rows: the learner's latent states, the small actor's hidden ones."""
    dreamer = build(distilling(CONFIG, regularizer=PULL), choice(3))
    state = start(dreamer, CONFIG)
    distiller, batch = dreamer.distiller, random_batch(VECTOR, choice(3))
    states = dreamer.model.observe(state.params["world_model"], jax.random.key(0), batch)
    lesson = distiller.lesson(state.params, state.normalisers, states)
    small = state.params[SMALL_ACTOR]
    functions = distiller.functions

    @jax.jit
    def everything(small, learner):
        rows, empty = distiller.begin(small, {}, batch)
        taught = jax.grad(lambda x: distiller.loss(x, {}, empty, rows, lesson)[0])(small)
        feature = dreamer.model.feature(learner["world_model"], states)
        pull = lambda actor, small: distiller.pull(small, {}, batch)(actor, feature)  # noqa: E731
        pulled = jax.grad(pull, argnums=(0, 1))(learner["actor"], small)
        of_lesson = lambda x: distiller.loss(  # noqa: E731
            small, {}, empty, rows, distiller.lesson(x, state.normalisers, states)
        )[0]
        hidden = functions.observe(small, {}, empty, rows)
        policy = functions.policy(small, hidden)
        value = functions.value(small, hidden)
        learner_policy = dreamer.networks.policy(learner["actor"], feature)
        critic = dreamer.networks.value(learner["critic"], feature).mean()
        terms = policy_loss(learner_policy, policy), value_loss(value, critic)
        found = distiller.loss(small, {}, empty, rows, lesson)[0], pull(learner["actor"], small)
        return taught, pulled, jax.grad(of_lesson)(learner), terms, found

    learner = {name: state.params[name] for name in LEARNER}
    taught, (to_actor, to_small), to_learner, terms, found = everything(small, learner)
    size = lambda tree: sum(np.abs(x).sum() for x in jax.tree.leaves(tree))  # noqa: E731
    assert size(taught) > 0 and size(to_actor) > 0
    assert size(to_small) == 0 and size(to_learner) == 0
    close(found[0], terms[0] + 0.5 * terms[1])
    close(found[1], PULL * terms[0])


def test_so_many_steps_are_made_of_every_update():
    dreamer = build(distilling(CONFIG, ratio=3), choice(3))
    single = build(distilling(CONFIG), choice(3)).distiller
    state, batch = start(dreamer, CONFIG), random_batch(VECTOR, choice(3))
    states = dreamer.model.observe(state.params["world_model"], jax.random.key(0), batch)
    lesson = single.lesson(state.params, state.normalisers, states)
    now = state.params[SMALL_ACTOR], state.optimizers[SMALL_ACTOR]
    three = jax.jit(dreamer.distiller.teach)(*now, {}, batch, lesson)
    teach, losses = jax.jit(single.teach), []
    for _ in range(3):
        *now, hidden, metrics = teach(*now, {}, batch, lesson)
        losses.append(float(metrics["distill/loss"]))
    jax.tree.map(close, three.params, now[0])
    close(three.hidden, hidden)
    close(three.metrics["distill/loss"], losses[-1])
    assert losses[0] > losses[1] > losses[2]


def test_windows_begin_with_a_burn_in():
    """As the same rows would be seen in one longer window; it takes no gradient."""
    replay = ReplayConfig(length=TIME, burn_in=3)
    dreamer = build(dataclasses.replace(distilling(CONFIG), replay=replay), choice(3))
    distiller, small = dreamer.distiller, fresh_state(dreamer).params[SMALL_ACTOR]
    batch = random_batch(VECTOR, choice(3), time=3 + TIME)
    batch["is_first"][1, 2] = True
    observe, empty = distiller.functions.observe, distiller.functions.initial(BATCH)

    @jax.jit
    def both(small):
        rows, hidden = distiller.begin(small, {}, batch)
        last = lambda x: distiller.begin(x, {}, batch)[1].sum()  # noqa: E731
        whole = observe(small, {}, empty, batch)
        return rows, hidden, observe(small, {}, hidden, rows), whole, jax.grad(last)(small)

    rows, hidden, window, whole, grads = both(small)
    np.testing.assert_array_equal(rows["x"], batch["x"][:, 3:])
    close(hidden, whole[:, 2])
    close(window, whole[:, 3:])
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(grads))
    state = jax.eval_shape(dreamer.init, jax.random.key(0))
    assert jax.eval_shape(dreamer.update, state, jax.random.key(0), batch)[0] == state


@pytest.fixture(scope="module")
def kept():
    """An agent whose replay keeps states, its compiled update and acting, and a first state."""
    replay = ReplayConfig(length=TIME, latents=True)
    config = dataclasses.replace(distilling(V3), replay=replay)
    agent, dreamer = make_agent(config, VECTOR, box(2)), build(config, box(2))
    act = jax.jit(agent.act, static_argnames="mode")
    return agent, dreamer, jax.jit(agent.latents.update), act, start(dreamer, V3), config


def test_windows_begin_in_states_that_were_kept(kept):
    """Those of both: what acting left, and what the update that saw the row last made of it."""
    agent, dreamer, learn, _, state, _ = kept
    batch = random_batch(VECTOR, box(2))
    batch["is_first"][0, 0] = False
    hidden = np.random.default_rng(0).normal(size=(BATCH, UNITS)).astype(np.float32)
    packed = dreamer.distiller.pack(hidden)
    latents = {name: np.zeros((BATCH, *shape), dtype)
               for name, (shape, dtype) in agent.latents.specs.items()} | packed  # fmt: skip
    rows, begun = dreamer.distiller.begin(state.params[SMALL_ACTOR], {}, batch | latents)
    assert set(rows) == set(batch)
    np.testing.assert_allclose(begun, hidden, rtol=1e-2)
    found = [learn(state, jax.random.key(1), batch | latents | dreamer.distiller.pack(x))[2]
             for x in (hidden, hidden + 1)]  # fmt: skip
    for name, (shape, dtype) in agent.latents.specs.items():
        assert found[0][name].shape == (BATCH, TIME, *shape) and found[0][name].dtype == dtype
    differ = (np.asarray(found[0][HIDDEN]) != np.asarray(found[1][HIDDEN])).any(-1)
    # The second sequence begins with a reset, and forgets what was before.
    assert differ[0, 0] and not differ[1, 0]
    # Without them it begins with nothing.
    empty = dreamer.distiller.begin(state.params[SMALL_ACTOR], {}, batch)[1]
    assert not np.asarray(empty).any()


def rows_of(amount, **flags):
    x = np.random.default_rng(amount).normal(size=(amount, 5)).astype(np.float32)
    flags = {name: np.full(amount, value) for name, value in flags.items()}
    return {"x": x, "is_first": np.zeros(amount, bool), "is_last": np.zeros(amount, bool)} | flags


def test_the_small_actor_acts_and_the_learner_does_not(kept):
    agent, dreamer, _, act, state, _ = kept
    params, carry, key = agent.params(state), agent.initial_carry(3), jax.random.key(0)
    assert isinstance(carry, SmallMemory)
    rows = rows_of(3)
    for mode in ("train", "eval"):
        action, then = act(params, key, carry, rows, mode=mode)
        alone = {SMALL_ACTOR: params[SMALL_ACTOR], NORMALISERS: params[NORMALISERS]}
        same, _ = jax.jit(agent.act, static_argnames="mode")(alone, key, carry, rows, mode=mode)
        np.testing.assert_array_equal(action, same)
        np.testing.assert_array_equal(then.action, action)
    # It is the policy of the hidden state, which forgets where an episode begins.
    functions, small = dreamer.distiller.functions, params[SMALL_ACTOR]
    seen = rows | {"action": np.asarray(carry.action)}
    hidden = functions.step(small, {}, carry.hidden, seen)
    close(then.hidden, hidden)
    close(then.action, functions.policy(small, hidden).mode())
    first = rows | {"is_first": np.ones(3, bool)}
    close(act(params, key, then, first, mode="eval")[1].hidden, hidden)
    assert (np.asarray(act(params, key, then, rows, mode="eval")[1].hidden) != hidden).any()
    # Values are its own of what it remembers, and the critic's of latent states.
    close(agent.value(params, then), functions.value(small, then.hidden).mean())
    latent = dreamer.model.initial(4)
    feature = dreamer.model.feature(params["world_model"], latent)
    close(agent.value(params, latent), dreamer.networks.value(params["critic"], feature).mean())
    assert agent.policy(params, key, latent).shape == (4, 2)
    with pytest.raises(UserError, match="holds a small actor alone, which knows no latent states"):
        agent.value(alone, latent)
    # What the replay keeps of a row that was acted on: nobody inferred a latent state.
    packed = agent.latents.pack(then)
    assert set(packed) == set(agent.latents.specs)
    assert np.asarray(packed.pop(HIDDEN)).any()
    assert not any(np.asarray(x).any() for x in packed.values())


def test_noise_is_added_while_collecting_alone():
    behavior = dataclasses.replace(CONFIG.behavior, exploration_noise=1.0)
    agents = [make_agent(dataclasses.replace(distilling(CONFIG), behavior=one), VECTOR, box(2))
              for one in (CONFIG.behavior, behavior)]  # fmt: skip
    params = agents[0].params(fresh_state(build(distilling(CONFIG), box(2))))
    act = lambda agent, mode: agent.act(  # noqa: E731
        params, jax.random.key(0), agent.initial_carry(2), rows_of(2), mode
    )[0]
    plain, noisy = (np.asarray(act(agent, "train")) for agent in agents)
    assert (np.abs(plain - noisy) > 0.01).any() and np.abs(noisy).max() <= 1
    np.testing.assert_array_equal(*(act(agent, "eval") for agent in agents))


@pytest.mark.parametrize("alone", [False, True])
def test_an_export_acts_with_the_small_actor(kept, tmp_path, alone):
    """Whether it holds the learner too or not."""
    agent, _, _, act, state, config = kept
    params = agent.params(state)
    if alone:
        params = {name: params[name] for name in (SMALL_ACTOR, NORMALISERS)}
    export(tmp_path / "export.npz", "dreamer", config, VECTOR, box(2), params)
    assert (set(read_export(tmp_path).params) == {SMALL_ACTOR}) == alone
    loaded, observation = LoadedAgent(load_program(), tmp_path), np.arange(5.0)
    action, carry = loaded.act(observation)
    rows = {"x": observation[None].astype(np.float32), "is_first": np.ones(1, bool)}
    empty = agent.initial_carry(1)
    wanted, _ = act(agent.params(state), jax.random.key(0), empty, rows, mode="eval")
    close(action, wanted[0])
    assert np.isfinite(loaded.value(observation)) and np.isfinite(loaded.value(carry))
    again, _ = loaded.act(observation, carry)
    assert (again != action).any()
    if alone:
        with pytest.raises(UserError, match="holds no world model to plan in, but small_actor"):
            LoadedAgent(find_program("planet"), tmp_path)
        with pytest.raises(UserError, match="lacks the parameter 'world_model"):
            check_params(read_export(tmp_path).params, {"world_model": {"x": np.ones(1)}}, "file")


@pytest.mark.parametrize(
    "names, kind",
    [
        (["atari_v3", "size_1m"], "gru"),
        slow(["dmc_vision"], "mlp"),
        slow(["dreamer_v1"], "gru"),
    ],
)
def test_presets_of_every_version_are_distilled(names, kind):
    """By their shapes: an update gives back what it took, and acting what it remembers."""
    config = update(load(*names, "debug"), {"distill.kind": kind, "distill.regularizer": 0.1})
    specs, actions = {"image": ObservationSpec((64, 64, 3), "image")}, choice(3)
    agent = make_agent(config, specs, actions)
    batch = random_batch(specs, actions)
    if agent.latents:
        kept = agent.latents.specs.items()
        batch |= {name: np.zeros((BATCH, *shape), dtype) for name, (shape, dtype) in kept}
    step = agent.latents.update if agent.latents else agent.update
    state = jax.eval_shape(agent.init, jax.random.key(0))
    after, metrics, *_ = jax.eval_shape(step, state, jax.random.key(0), batch)
    assert after == state and {"distill/loss", "actor/distill_loss"} <= metrics.keys()
    rows = {name: x[:, 0] for name, x in batch.items() if name in ("image", "is_first")}
    carry = jax.eval_shape(lambda: agent.initial_carry(BATCH))
    act = lambda *args: agent.act(*args, rows, "train")  # noqa: E731
    action, then = jax.eval_shape(act, agent.params(state), jax.random.key(0), carry)
    assert then == carry and action.shape == (BATCH, 3)


def _twice(x):
    return jnp.stack([x, x])


@pytest.mark.slow
def test_several_seeds_are_taught_at_once(steps):
    """As ``--seeds`` does: a vmapped update is that of each."""
    dreamer, state, after, _ = steps("v2", 0.0)
    batch, both = random_batch(VECTOR, choice(3)), lambda tree: jax.tree.map(_twice, tree)
    keys = jnp.stack([jax.random.key(1), jax.random.key(2)])
    found, _ = jax.jit(jax.vmap(dreamer.update))(both(state), keys, both(batch))
    jax.tree.map(lambda x, y: close(x[0], y), found.params[SMALL_ACTOR], after.params[SMALL_ACTOR])
