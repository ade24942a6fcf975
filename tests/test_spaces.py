"""Flat actions and the environment's own: every space contains what is decoded, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.export import specs_from_json, specs_to_json
from common.spaces import (
    MOST_CHOICES,
    ActionSpec,
    ObservationSpec,
    TaskSpec,
    action_spec,
    observation_specs,
)

FLOATS, INTEGERS = ("float16", "float32", "float64"), ("int8", "uint8", "int32", "int64", "uint64")
SHAPES = st.sampled_from([(), (1,), (2,), (2, 3), (1, 2, 1)])
EXACT = 2**20
"""Integer boxes up to this width come back from a float32 as they were."""


@st.composite
def boxes(draw):
    """Boxes with bounds of any magnitude, some entries without any room."""
    kind, shape = np.dtype(draw(st.sampled_from(FLOATS + INTEGERS))), draw(SHAPES)
    if kind.kind == "f":
        most = float(np.finfo(kind).max)
        number = st.floats(-most, most) | st.floats(-1, 1)
    else:
        info = np.iinfo(kind)
        # Gymnasium takes no larger bounds, and sampling needs one more.
        number = st.integers(max(info.min, -(2**63)), min(info.max, 2**63 - 2)) | st.integers(0, 9)
    size = int(np.prod(shape))
    pairs = draw(st.lists(st.tuples(number, number), min_size=size, max_size=size))
    low, high = (np.array([f(pair) for pair in pairs], kind).reshape(shape) for f in (min, max))
    return Box(low, high, shape, kind.type)


@st.composite
def choices(draw):
    """One choice or several, from any number on."""
    kind = draw(st.sampled_from(["int64", "int32", "int8"]))
    if draw(st.booleans()):
        start = draw(st.integers(-20, 20))
        return Discrete(draw(st.integers(1, 6)), start=start, dtype=np.dtype(kind).type)
    shape = draw(st.sampled_from([(1,), (3,), (2, 2), ()]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return MultiDiscrete(rng.integers(1, 5, shape), kind, start=rng.integers(-9, 9, shape))


LEAVES = boxes() | choices()
SPACES = st.recursive(
    LEAVES,
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(Dict),
    max_leaves=4,
)


def parts_of(space):
    """Every space without parts, with a function that picks its value from an action."""
    if not isinstance(space, Dict):
        return [(space, lambda action: action)]
    return [
        (leaf, lambda action, key=key, pick=pick: pick(action[key]))
        for key, inner in space.spaces.items()
        for leaf, pick in parts_of(inner)
    ]


def vectors(space, seed):
    """Flat vectors: corners, beyond them, in between, and random valid ones."""
    rng, spec = np.random.default_rng(seed), action_spec(space)
    special = [np.full(spec.size, x) for x in (-1, 1, -1.5, 2, 0, 1 - 1e-7, -1e-30)]
    return spec, [*np.array(special, np.float32), *spec.sample(rng, 4)]


@settings(max_examples=150, deadline=None)
@given(space=SPACES, seed=st.integers(0, 2**16))
def test_a_decoded_action_is_in_its_space(space, seed):
    spec, flat = vectors(space, seed)
    for vector in flat:
        action = spec.decode(vector)
        assert space.contains(action), action
        for leaf, pick in parts_of(space):
            value = pick(action)
            assert value.dtype == leaf.dtype and value.shape == leaf.shape


@settings(max_examples=150, deadline=None)
@given(space=SPACES, seed=st.integers(0, 2**16))
def test_encode_is_the_inverse_of_decode(space, seed):
    spec, flat = vectors(space, seed)
    for vector in flat:
        action = spec.decode(vector)
        encoded = spec.encode(action)
        assert encoded.dtype == np.float32 and encoded.shape == (spec.size,)
        assert np.abs(encoded).max() <= 1
        again = spec.decode(encoded)
        assert space.contains(again)
        for leaf, pick in parts_of(space):
            _assert_alike(leaf, pick(action), pick(again))


def _assert_alike(leaf, before, after):
    if not isinstance(leaf, Box):
        np.testing.assert_array_equal(before, after)
        return
    half = leaf.high.astype(float) / 2 - leaf.low.astype(float) / 2
    if leaf.dtype.kind == "f":
        largest = np.maximum(np.abs(leaf.low), np.abs(leaf.high))
        slack = np.maximum(4 * 2.0**-24 * half, np.finfo(leaf.dtype).eps * largest.astype(float))
    else:
        slack = np.where(half < EXACT / 2, 0, 4 * 2.0**-24 * half + 1)
    assert (np.abs(before.astype(float) / 2 - after.astype(float) / 2) <= slack).all()


@settings(max_examples=100, deadline=None)
@given(space=SPACES, seed=st.integers(0, 2**16))
def test_whatever_a_space_contains_can_be_encoded(space, seed):
    space.seed(seed)
    spec = action_spec(space)
    try:
        action = space.sample()
    except (OverflowError, ValueError):  # Gymnasium cannot draw from the widest boxes.
        return
    assume(space.contains(action))  # Of large integers it draws one beyond the bound now and then.
    encoded = spec.encode(action)
    for part, entries in spec.blocks:
        if part.kind == "categorical":
            assert sorted(encoded[entries]) == [0] * (part.size - 1) + [1]
    assert space.contains(spec.decode(encoded))


@pytest.mark.parametrize(
    ("space", "flat", "want"),
    [
        (Box(0, 10, (2,), np.int64), [-1, 0.2], [0, 6]),
        (Box(0, 255, (1,), np.uint8), [1], [255]),
        (Box(-2.0, 4.0, (2,)), [-0.5, 2], [-0.5, 4]),
        (Box(0, 1, (2,), bool), [-0.5, 0.5], [False, True]),
        (Discrete(3, start=-1), [0.1, 0.2, 0.9], 1),
        (MultiDiscrete([[2, 3]], start=[[5, 7]]), [0, 1, 0, 0, 1], [[6, 9]]),
    ],
)
def test_worked_actions(space, flat, want):
    action = action_spec(space).decode(np.array(flat, np.float32))
    np.testing.assert_allclose(action, want, rtol=1e-6)
    assert space.contains(action)


def test_the_vector_of_an_action_by_hand():
    space = Dict(
        arm=Box(np.float32([0, -4]), np.float32([2, 4])),
        keys=MultiDiscrete([2, 3], start=[1, -1]),
        deep=Dict(gear=Discrete(3, start=2), power=Box(0, 4, (1,), np.int32)),
    )
    action = {
        "arm": np.float32([0.5, 4]),
        "keys": np.array([1, 1]),
        "deep": {"gear": 3, "power": np.array([1])},
    }
    spec = action_spec(space)
    names = ["arm", "arm", "gear", "gear", "gear", "power", "key", "key", "key", "key", "key"]
    want = [-0.5, 1, 0, 1, 0, -0.5, 1, 0, 0, 0, 1]
    assert len(names) == spec.size
    np.testing.assert_array_equal(spec.encode(action), np.float32(want))
    assert space.contains(spec.decode(spec.encode(action)))


@pytest.mark.parametrize(
    ("space", "action", "message"),
    [
        (Box(-1, 1, (2,)), np.zeros(3), r"the action has shape \(3,\); expected \(2,\)"),
        (Box(-1, 1, (1,)), np.array([1.5]), r"the action is \[1.5\]; expected \(-1.0,\) to"),
        (Box(-1, 1, (1,)), np.array([np.nan]), r"the action is \[nan\]; expected finite numbers"),
        (Box(0, 9, (1,), int), np.array([0.5]), r"the action is \[0.5\]; expected integers"),
        (Box(2, 2, (1,)), np.array([2.5]), r"the action is \[2.5\]; expected"),
        (Discrete(3, start=1), 0, "the action is 0; expected an integer, 1 to 3"),
        (Discrete(3), 1.0, "the action is 1.0; expected an integer, 0 to 2"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), "action '1' is 3; expected an integer, 0 to 2"),
        (Dict(a=Discrete(2)), {"b": 1}, "entries of the action: b; of its space: a"),
        (Dict(a=Discrete(2)), 1, "entries of the action: none; of its space: a"),
        (Dict(a=Discrete(2)), {"a": 2}, "action 'a' is 2; expected an integer, 0 to 1"),
    ],
)
def test_what_is_not_in_the_space_is_not_encoded(space, action, message):
    with pytest.raises(UserError, match=message):
        action_spec(space).encode(action)


def test_what_another_library_rounded_can_be_encoded():
    spec = action_spec(Box(-0.1, 0.1, (2,), np.float64))
    encoded = spec.encode(np.float32([-0.1, 0.1]))
    np.testing.assert_allclose(encoded, [-1, 1], rtol=1e-6)


def test_a_vector_of_another_size_is_refused():
    for wrong in (np.zeros(3), np.zeros((1, 2)), np.float32(0)):
        with pytest.raises(UserError, match=r"has shape .*; expected \(2,\)"):
            action_spec(Discrete(2)).decode(wrong)


@settings(max_examples=30, deadline=None)
@given(space=SPACES)
def test_specs_survive_json(space):
    spec = action_spec(space)
    _, back = specs_from_json(json.loads(json.dumps(specs_to_json({}, spec))))
    assert back == spec and isinstance(back, ActionSpec)


def test_tasks_survive_json():
    tasks = TaskSpec("a", 1, 10), TaskSpec("b", 2, 0)
    specs = {"task": ObservationSpec((2,), "vector", (2,), (0,), tasks)}
    back, _ = specs_from_json(json.loads(json.dumps(specs_to_json(specs, action_spec(Box(-1, 1))))))
    assert back == specs and back["task"].tasks[1].actions == 2


def test_specs_of_the_first_version_are_read():
    """Without types and, of a MultiDiscrete, without shape."""
    space = Dict(a=MultiDiscrete([2, 3]), b=Box(-1, 1, (2,)), c=Discrete(4, start=1))
    data = specs_to_json({}, action_spec(space))
    for part in data["actions"]:
        del part["dtype"]
        part["shape"] = [] if part["kind"] == "categorical" else part["shape"]
    assert specs_from_json(data)[1] == action_spec(space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(-1, 1, (0,)), r"the action Box is empty, its shape is \(0,\)"),
        (Box(-np.inf, 1, (1,)), "infinite bounds"),
        (Box(-np.inf, np.inf, (1,), np.int32), "infinite bounds"),
        (Dict(), "a Dict of the action space has no entries"),
        (Dict({0: Discrete(2), "a": Discrete(2)}), "has the key 0, which is no string"),
        (Dict({"a/b": Discrete(2), "a": Dict(b=Discrete(2))}), "have one name, among a/b, a/b"),
        (Tuple([Discrete(2)]), "the action space is a Tuple; supported are"),
        (MultiBinary(2), "the action space is a MultiBinary; supported are"),
        (Discrete(MOST_CHOICES + 1), "the action has 262,145 choices, .*; expected at most"),
        (MultiDiscrete([MOST_CHOICES, 2]), "the action has 262,146 choices"),
    ],
)
def test_action_spaces_that_are_refused(space, message):
    with pytest.raises(UserError, match=message):
        action_spec(space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Dict(x=Box(-1, 1, (0, 3))), r"observation 'x' is empty, its shape is \(0, 3\)"),
        (Dict(x=Dict()), "a Dict of the observation space has no entries"),
        (Dict({"a/b": Discrete(2), "a": Dict(b=Discrete(2))}), "are called 'a/b'"),
        (Dict(x=Discrete(10**6)), "observation 'x' has 1,000,000 choices"),
    ],
)
def test_observation_spaces_that_are_refused(space, message):
    with pytest.raises(UserError, match=message):
        observation_specs(space)


def test_random_actions_of_many_choices_take_no_matrix():
    spec = action_spec(Dict(a=Discrete(200_000), b=Box(-1, 1, (2,))))
    actions = spec.sample(np.random.default_rng(0), 3)
    assert actions.shape == (3, 200_002) and actions.dtype == np.float32
    np.testing.assert_array_equal(actions[:, :-2].sum(1), 1)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(actions[:, :-2].argmax(1), rng.integers(200_000, size=3))
    np.testing.assert_array_equal(actions[:, -2:], np.float32(rng.uniform(-1, 1, (3, 2))))
