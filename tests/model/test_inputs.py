"""What a world model refuses to be given: named in one line, while tracing, at no cost."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.dynamics.transformer import TransformerConfig
from common.errors import UserError
from common.model.inputs import Inputs
from common.model.world_model import world_model
from common.spaces import ObservationSpec
from tests.tiny import ACTIONS, TINY, VECTOR, choice, random_batch, random_params

SPECS = VECTOR | {
    "image": ObservationSpec((32, 32, 3), "image"),
    "room": ObservationSpec((4,), "vector", choices=(4,), starts=(0,)),
}
CHOICES = choice(3)
LEADING = BATCH, TIME = 2, 5
"""A batch whose axes differ."""
NEEDED = (*SPECS, "action", "reward", "is_first", "is_terminal")


@pytest.fixture(scope="module")
def model():
    return world_model(TINY, SPECS, CHOICES)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model.init)


@pytest.fixture(scope="module")
def trace(model, params):
    """Functions of a batch that trace one of the model's, and compute nothing."""
    key = jax.random.key(1)

    def step(rows):
        return model.observe_step(params, None, model.initial(BATCH), rows)

    functions = {
        "loss": lambda batch: model.loss(params, key, batch)[0],
        "losses": lambda batch: model.losses(params, None, batch).total,
        "observe": lambda batch: model.observe(params, key, batch),
        "step": lambda batch: step({k: x[:, 0] for k, x in batch.items()}),
    }
    return {
        name: lambda batch, f=f: jax.eval_shape(lambda: f(batch)) for name, f in functions.items()
    }


def batch_with(**changes):
    """A batch with other entries; those that are None are left out."""
    batch = random_batch(SPECS, CHOICES, batch=BATCH, time=TIME) | changes
    return {key: value for key, value in batch.items() if value is not None}


def change(key, function):
    """A batch whose entry is something else."""
    return batch_with(**{key: function(batch_with()[key])})


def refused(function, *arguments):
    """The one line in which something is refused."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_right_is_taken(trace):
    for function in trace.values():
        function(batch_with(more=np.zeros(LEADING), is_last=None))
        function(change("x", np.float64))
        function(change("x", lambda x: jnp.asarray(x, jnp.bfloat16)))


@pytest.mark.parametrize(
    ("key", "wrong", "message"),
    [
        (
            "image",
            lambda x: (x / 255).astype(np.float32),
            "batch['image'] is float32 (2, 5, 32, 32, 3); expected uint8 (B, T, 32, 32, 3), "
            "pixels as they are, from 0 to 255",
        ),
        (
            "action",
            lambda x: x.argmax(-1),
            "batch['action'] is int64 (2, 5); expected float32 (B, T, 3); choices are one-hot "
            "vectors: jax.nn.one_hot(choices, 3)",
        ),
        (
            "room",
            lambda x: x.argmax(-1),
            "batch['room'] is int64 (2, 5); expected float32 (B, T, 4); choices are one-hot "
            "vectors: jax.nn.one_hot(choices, 4)",
        ),
        (
            "is_first",
            lambda x: x.astype(np.float32),
            "batch['is_first'] is float32 (2, 5); expected bool (B, T)",
        ),
        (
            "reward",
            lambda x: x[..., None],
            "batch['reward'] is float32 (2, 5, 1); expected float32 (B, T)",
        ),
        (
            "image",
            lambda x: np.moveaxis(x, -1, 2),
            "batch['image'] is uint8 (2, 5, 3, 32, 32); expected uint8 (B, T, 32, 32, 3)",
        ),
        (
            "x",
            lambda x: x.swapaxes(0, 1),
            "batch['x'] begins with (5, 2), the other entries with (2, 5); expected (B, T) for all",
        ),
        ("x", lambda x: x[0], "batch['x'] is float32 (5, 5); expected float32 (B, T, 5)"),
        (
            "x",
            lambda x: x.tolist(),
            "batch['x'] is a list; expected an array, float32 (B, T, 5)",
        ),
        (
            "x",
            lambda x: x.astype(np.uint8),
            "batch['x'] is uint8 (2, 5, 5); expected float32 (B, T, 5)",
        ),
        (
            "is_terminal",
            lambda x: None,
            "the batch lacks is_terminal; expected image, room, x, action, is_first, reward, "
            "is_terminal, found x, image, room, action, reward, is_first, is_last",
        ),
    ],
)
def test_the_message_names_what_is_wrong_and_what_is_right(key, wrong, message, trace):
    assert refused(trace["loss"], change(key, wrong)) == message


def wrong_entries(key):
    """Ways in which an entry may be wrong."""
    ways = {
        "missing": lambda x: None,
        "a list": lambda x: x.tolist(),
        "without time": lambda x: x[:, 0],
        "one axis more": lambda x: x[..., None],
        "swapped": lambda x: x.swapaxes(0, 1),
        "shorter": lambda x: x[:, 1:],
        "fewer": lambda x: x[1:],
        "complex": lambda x: x.astype(np.complex64),
    }
    if key == "image":
        ways |= {"float": lambda x: x / 255, "ints": lambda x: x.astype(int)}
        ways |= {"small": lambda x: x[:, :, ::2], "gray": lambda x: x[..., :1]}
        ways |= {"flat": lambda x: x.reshape(*LEADING, -1)}
    elif key == "is_first":
        ways |= {"float": lambda x: x.astype(float), "int": lambda x: x.astype(int)}
    elif key != "is_terminal":
        ways |= {"int": lambda x: x.astype(int), "bool": lambda x: x.astype(bool)}
    if key in ("x", "room", "action"):
        ways |= {"narrow": lambda x: x[..., 1:], "choices": lambda x: x.argmax(-1)}
    return ways


ALL_WRONG = [(key, name) for key in NEEDED for name in wrong_entries(key)]


@pytest.mark.parametrize("function", ["loss", "losses", "observe", "step"])
def test_every_wrong_entry_is_named(function, trace):
    filtered = function in ("observe", "step")
    for key, name in ALL_WRONG:
        if filtered and key in ("reward", "is_terminal"):
            continue
        if function == "step" and name in ("a list", "shorter", "without time", "swapped"):
            continue  # Of which the first step is right, or nothing.
        message = refused(trace[function], change(key, wrong_entries(key)[name]))
        assert key in message, (key, name, message)


@settings(max_examples=30, deadline=None)
@given(picks=st.sets(st.sampled_from(ALL_WRONG), min_size=1, max_size=4))
def test_several_wrong_entries_are_refused_too(picks, model, params):
    batch = batch_with()
    for key, name in picks:
        if key in batch and hasattr(batch[key], "shape"):
            batch[key] = wrong_entries(key)[name](batch_with()[key])
            batch = {k: x for k, x in batch.items() if x is not None}
    refused(model.loss, params, jax.random.key(1), batch)


def test_what_filtering_does_not_need_is_not_asked_for(trace):
    rows = batch_with(reward=None, is_last=None, is_terminal=None)
    trace["observe"](rows)
    trace["step"](rows)
    assert "lacks reward, is_terminal" in refused(trace["loss"], rows)


def test_no_rows_at_all(trace, model, params):
    assert "the batch lacks" in refused(trace["loss"], {})
    assert "is a list; expected arrays by" in refused(model.observe, params, None, [1])
    message = refused(trace["loss"], {key: x[:, :0] for key, x in batch_with().items()})
    assert "the batch is empty: (B, T) is (2, 0)" in message


def test_states_and_actions_of_imagination(model, params):
    key, states = (
        jax.random.key(0),
        jax.eval_shape(model.observe, params, jax.random.key(0), batch_with()),
    )
    start = model.initial(BATCH)
    actions = np.zeros((BATCH, 4, 3), np.float32)

    def imagine(start, actions):
        return refused(lambda: jax.eval_shape(model.imagine, params, key, start, actions))

    jax.eval_shape(model.imagine, params, key, start, actions)
    message = imagine(start, actions.swapaxes(0, 1))
    assert message == "start.deter has shape (2, 8); expected (4, 8)"
    message = imagine(start, actions.argmax(-1))
    assert message.startswith("actions is int32 (2, 4); expected float32 (B, H, 3); choices are")
    assert "actions is float32 (2, 3); expected float32 (B, H, 3)" in imagine(start, actions[:, 0])
    message = imagine(states, actions)
    assert message.startswith("start.deter has shape (2, 5, 8); expected (2, 8); for the last of")
    assert "start is a tuple; expected a RSSMState, as model.observe" in imagine(
        tuple(start), actions
    )
    step = lambda *rest: refused(model.imagine_step, params, *rest)  # noqa: E731
    assert "action is float32 (2, 4, 3); expected float32 (N, 3)" in step(None, start, actions)
    noise = model.draw_noise(key, (BATCH,))
    message = step(noise[:1], start, actions[:, 0])
    assert message == (
        "the noise has shape (1, 3); expected (2, 3), as model.draw_noise(key, (2,)) draws it"
    )
    message = refused(
        model.observe_step,
        params,
        None,
        model.initial(3),
        {k: x[:, 0] for k, x in batch_with().items()},
    )
    assert message == "state.deter has shape (3, 8); expected (2, 8)"


def test_starts_and_noise_of_a_loss(model, params):
    key, batch = jax.random.key(0), batch_with()
    wrong = model.initial(TIME)
    assert "start.deter has shape (5, 8); expected (2, 8)" == refused(
        model.loss, params, key, batch, wrong
    )
    assert "start.deter has shape" in refused(model.observe, params, key, batch, wrong)
    noise = model.draw_noise(key, (TIME, BATCH))
    assert "the noise has shape (5, 2, 3); expected (2, 5, 3)" in refused(
        model.losses, params, noise, batch
    )


def test_states_and_features_of_heads(model, params):
    states = model.initial(BATCH)
    feature = model.feature(params, states)
    for head in (model.reward, model.discount, model.decoder):
        jax.eval_shape(head, params, feature)
        assert "the feature is a RSSMState; expected (..., 20)" in refused(head, params, states)
        assert "the feature has shape (2, 8); expected (..., 20)" in refused(
            head, params, states.deter
        )
    for function in (model.decode, model.feature):
        message = refused(function, params, feature)
        assert message.startswith("state is a ArrayImpl; expected a RSSMState")
        wrong = states._replace(stoch=states.stoch[:, :-1])
        assert "stoch has shape (2, 2, 4); expected (..., 3, 4)" in refused(function, params, wrong)


def test_statistics_of_another_model(params):
    standard = world_model(dataclasses.replace(TINY, vector_transform="standard"), SPECS, CHOICES)
    batch = batch_with()
    statistics = standard.track(standard.statistics, batch)
    message = refused(standard.loss, params, jax.random.key(0), batch, None, {"y": statistics["x"]})
    assert message == "there are statistics of y; the model standardises x"
    assert "batch['x'] is float32 (2, 5, 4)" in refused(
        standard.track, statistics, batch | {"x": batch["x"][..., 1:]}
    )
    assert "the batch lacks x" in refused(standard.track, statistics, batch_with(x=None))


def test_images_may_be_floats_where_that_is_said(model, params):
    batch = batch_with()
    floats = batch | {"image": (batch["image"] / 255 - 0.5).astype(np.float32)}
    got = jax.jit(model.losses, static_argnames="float_images")(
        params, None, floats, float_images=True
    )
    want = jax.jit(model.losses)(params, None, batch)
    np.testing.assert_allclose(got.total, want.total, rtol=1e-5)


def test_checks_are_no_part_of_the_program(model, params, monkeypatch):
    def program():
        text = str(jax.make_jaxpr(model.loss)(params, jax.random.key(1), batch_with()))
        return re.sub("0x[0-9a-f]+", "", text)

    checked = program()
    monkeypatch.setattr(Inputs, "batch", lambda self, rows, **options: rows["reward"].shape)
    for name in ("states", "noises", "features", "vectors"):
        monkeypatch.setattr(Inputs, name, lambda *arguments: None)
    assert program() == checked


@pytest.mark.parametrize(
    ("length", "context", "layers", "warned"),
    [
        (16, 16, 2, "back 30 steps, .* of 16: 0 of the 16 .*context to 4, or raise .* to 62"),
        (50, 16, 2, "back 30 steps, .* of 50: 19 of the 50 steps .*context to 13, or raise"),
        (62, 16, 2, None),
        (50, 13, 2, None),
        (3, 16, 2, "windows of 3: 0 of the 3 steps have as much past as acting has; raise"),
    ],
)
def test_windows_shorter_than_the_reach_of_a_transformer(length, context, layers, warned, recwarn):
    sizes = TransformerConfig(
        stoch=2, classes=2, width=8, heads=2, units=8, context=context, layers=layers
    )
    config = dataclasses.replace(TINY, dynamics="transformer", transformer=sizes)
    model = world_model(config, VECTOR, ACTIONS)
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = random_batch(VECTOR, ACTIONS, time=length)
    jax.eval_shape(lambda p: model.loss(p, jax.random.key(0), batch)[0], params)
    found = [str(warning.message) for warning in recwarn.list]
    if warned is None:
        assert not found
    else:
        (message,) = found
        assert re.search(warned, message)


@pytest.mark.filterwarnings("ignore:the transformer looks back")
@pytest.mark.parametrize("context", [2, 4])
def test_a_step_behind_the_reach_has_all_the_past_that_acting_has(context):
    """What the warning counts: those steps do not change with what lies before the window."""
    sizes = TransformerConfig(
        stoch=2, classes=2, width=8, heads=2, units=8, context=context, layers=2
    )
    config = dataclasses.replace(TINY, dynamics="transformer", transformer=sizes)
    model = world_model(config, VECTOR, ACTIONS)
    params = jax.tree.map(lambda x: 5 * x, random_params(model.init))
    batch = random_batch(VECTOR, ACTIONS, time=24)
    batch["is_first"][:] = False
    noise = model.draw_noise(jax.random.key(1), (2, 24))
    losses = jax.jit(model.losses)
    acting = losses(params, noise, batch).observed.states.deter[:, 12:]
    cut = {key: x[:, 12:] for key, x in batch.items()}
    window = losses(params, noise[:, 12:], cut).observed.states.deter
    same = np.isclose(acting, window, atol=1e-5).all((0, 2))
    reach = sizes.reach
    assert same.tolist() == [step > reach for step in range(12)]
