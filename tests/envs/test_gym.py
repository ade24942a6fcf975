import enum

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envs.base import stack_rows
from common.envs.gym import GymEnv, adapt, flat_spaces, make_gym
from common.errors import UserError, warn_once
from common.spaces import observation_specs
from tests.envs.known import Corridor
from tests.envs.toys import Counter, Faulty, Fixed, OldStyle, Pictures

ACTION = np.array([0, 1, 1, 0, 0, 0, 1, -1, 0.5], np.float32)


def test_every_kind_of_space_is_adapted():
    row = GymEnv(Counter(), seed=0).reset()
    np.testing.assert_array_equal(row["count"], np.zeros(1, np.float32))
    assert row["image"].shape == (32, 40, 1) and row["image"].dtype == np.uint8
    np.testing.assert_array_equal(row["inner/bits"], [1, 0])
    np.testing.assert_array_equal(row["multi"], [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(row["which"], [0, 1, 0])
    assert row["random"].shape == (4,) and row["random"].dtype == np.float32
    assert (row["reward"], row["is_first"], row["is_last"], row["is_terminal"]) == (0, 1, 0, 0)


def test_choices_have_the_names_that_the_environment_says():
    class Moves(enum.IntEnum):
        Left = 0
        Right = 1

    env = Corridor()
    assert GymEnv(env, seed=0).action_names == ()
    env.actions = Moves  # As MiniGrid's have them.
    assert GymEnv(env, seed=0).action_names == ("left", "right")
    env.get_action_meanings = lambda: ["NOOP", "FIRE"]  # As Atari's.
    assert GymEnv(env, seed=0).action_names == ("noop", "fire")
    env.get_action_meanings = lambda: ["NOOP"]
    assert GymEnv(env, seed=0).action_names == ()


def test_rows_agree_with_the_specs():
    env = GymEnv(Counter(), seed=0)
    row = env.reset()
    for key, spec in env.observation_specs.items():
        assert (row[key].shape, row[key].dtype) == (spec.shape, spec.dtype)


def test_actions_reach_the_environment_decoded():
    toy = Counter()
    env = GymEnv(toy, seed=0)
    env.reset()
    env.step(ACTION)
    (action,) = toy.actions
    assert action["jump"] == 1 and toy.action_space.contains(action)
    np.testing.assert_array_equal(action["keys"], [0, 2])
    np.testing.assert_allclose(action["move"], [0, 1])


def test_action_repeat_sums_rewards_and_stops_at_the_end():
    env = GymEnv(Counter(end=5), seed=0, action_repeat=3)
    env.reset()
    first, second = env.step(ACTION), env.step(ACTION)
    assert (first["reward"], first["is_last"]) == (1 + 2 + 3, False)
    assert (second["reward"], second["is_last"], second["is_terminal"]) == (4 + 5, True, True)
    assert second["count"] == 5
    assert (first["log/count"], second["log/count"]) == (1 + 2 + 3, 4 + 5)


def test_what_only_some_steps_of_a_repeat_log_counts():
    """Neither absence nor what is no finite number takes away what the others say."""
    toy = Counter(end=6)
    env, step = GymEnv(toy, seed=0, action_repeat=3), toy.step
    logs = iter([{"log/a": 1}, {"log/a": np.nan, "log/b": 2}, {}, {}, {"log/a": 4}, {"log/a": 8}])
    toy.step = lambda action: (*step(action)[:4], next(logs))
    env.reset()
    rows = [env.step(ACTION) for _ in range(2)]
    found = [{key: x for key, x in row.items() if key.startswith("log/")} for row in rows]
    assert found == [{"log/a": 1, "log/b": 2}, {"log/a": 12}]


def test_truncation_and_time_limit_are_not_terminal():
    for env in (
        GymEnv(Counter(end=4, truncate=True), seed=0, action_repeat=2),
        GymEnv(Counter(end=99), seed=0, action_repeat=2, time_limit=4),
    ):
        for _ in range(2):
            env.reset()
            rows = [env.step(ACTION) for _ in range(2)]
            assert [row["is_last"] for row in rows] == [False, True]
            assert not rows[-1]["is_terminal"]


def test_time_limit_may_fall_inside_a_repeat():
    env = GymEnv(Counter(end=99), seed=0, action_repeat=3, time_limit=4)
    env.reset()
    env.step(ACTION)
    row = env.step(ACTION)
    assert row["is_last"] and row["reward"] == 4


def test_termination_at_the_time_limit_stays_terminal():
    env = GymEnv(Counter(end=4), seed=0, action_repeat=4, time_limit=4)
    env.reset()
    assert env.step(ACTION)["is_terminal"]


def test_only_the_first_reset_is_seeded():
    env = GymEnv(Counter(), seed=3)
    draws = [env.reset()["random"] for _ in range(2)]
    again = GymEnv(Counter(), seed=3)
    np.testing.assert_array_equal(draws, [again.reset()["random"] for _ in range(2)])
    assert (draws[0] != draws[1]).any()
    assert (draws[0] != GymEnv(Counter(), seed=4).reset()["random"]).any()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "'vector' holds nan .*finite"),
        ("shape", r"'vector' has shape \(1,\); its space declares \(2,\)"),
        ("dtype", "'vector' has dtype <U1; expected numbers"),
        ("ragged", r"'vector' is no array of the shape \(2,\), which its space declares"),
        ("reward", "reward inf"),
        ("word", "reward 'much'; expected one number"),
        ("digit", "reward '1'; expected one number"),
        ("ends", r"truncated array\(\[False,  True\]\); expected True or False"),
        ("large", r"'vector' holds 1e\+300; expected numbers that 32 bits hold"),
    ],
)
def test_bad_observations_are_named(fault, message):
    env = GymEnv(Faulty(fault, at=1), seed=0)
    env.reset()
    with pytest.raises(UserError, match=message):
        env.step(np.zeros(1, np.float32))


@pytest.mark.parametrize("name", ["action_space", "observation_space"])
def test_an_environment_without_a_space_is_told_so(name):
    toy = Faulty()
    delattr(toy, name)
    with pytest.raises(UserError, match=f"has no {name}; set self.{name} to a space"):
        GymEnv(toy, seed=0)


def test_values_too_large_for_float32_are_refused():
    toy = Faulty()
    toy.observe = lambda: np.array([1e300, 0])
    with np.errstate(over="raise"), pytest.raises(UserError, match="'vector' holds 1e.300"):
        GymEnv(toy, seed=0).reset()


INFO_VALUES = st.one_of(
    st.none(), st.text(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(),
    st.lists(st.floats(), max_size=2), st.just(object()), st.just(np.float64(2)),
    st.just(np.array(3, np.int8)), st.just(np.zeros(2)), st.just(10**400),
)  # fmt: skip
INFOS = st.one_of(
    st.none(), st.just([1, 2]), st.text(max_size=3),
    st.dictionaries(st.sampled_from(["log/a", "log/b", "c", 4, None]), INFO_VALUES),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(INFOS)
def test_of_info_only_finite_numbers_for_the_log_are_taken(info):
    env = GymEnv(Fixed(spaces.Box(-1, 1, (3,)), info), seed=0)
    for row in (env.reset(), env.step(np.array([1, 0], np.float32))):
        found = {key: value for key, value in row.items() if key.startswith("log/")}
        given_values = info if isinstance(info, dict) else {}
        for key in ("log/a", "log/b"):
            value = given_values.get(key)
            scalar = isinstance(value, bool | int | float | np.ndarray) and np.ndim(value) == 0
            if scalar and abs(value) < 1e38:
                assert found[key] == pytest.approx(float(value), rel=1e-6)
            elif key in found:
                assert np.isfinite(np.float32(found[key]))
        stacked = stack_rows([row])
        assert all(stacked[key].dtype == np.float32 for key in found)


def test_what_is_left_out_of_info_is_said_once(capsys):
    warn_once.cache_clear()
    env = GymEnv(Fixed(spaces.Box(-1, 1, (3,)), {"log/level": "maze 3", "log/ok": 1}), seed=0)
    rows = [env.reset(), *(env.step(np.array([1, 0], np.float32)) for _ in range(3))]
    assert [row["log/ok"] for row in rows] == [1] * 4 and "log/level" not in rows[0]
    assert capsys.readouterr().err == (
        "warning: info['log/level'] is left out; expected a finite number\n"
    )


def test_key_sets_must_agree(monkeypatch):
    toy = Counter()
    complete = toy.observe
    monkeypatch.setattr(
        toy, "observe", lambda: {k: v for k, v in complete().items() if k != "multi"}
    )
    with pytest.raises(UserError, match="has the keys .*its space declares .*multi"):
        GymEnv(toy, seed=0).reset()


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (spaces.Discrete(3), 3, "has .3. choices"),
        (spaces.Discrete(3, start=1), 0, "choices"),
        (spaces.Discrete(3), 0.5, "choices"),
        (spaces.MultiDiscrete([2, 3]), [1, 3], "choices"),
        (spaces.Box(0, 255, (32, 32, 3), np.uint8), np.zeros((32, 32, 3)), "float64.*uint8"),
        (spaces.Box(0, 255, (32, 32, 3), np.uint8), np.zeros((3, 32, 32), np.uint8), "shape"),
        (spaces.Box(-1, 1, (1,)), [1j], "complex128"),
    ],
)
def test_values_outside_their_space(space, value, message):
    (spec,) = observation_specs(space).values()
    with pytest.raises(UserError, match=message):
        adapt("x", value, space, spec)


def test_multi_discrete_of_two_axes():
    space = spaces.MultiDiscrete(np.array([[2, 2], [3, 2]]))
    (spec,) = observation_specs(space).values()
    vector = adapt("x", np.array([[1, 0], [2, 1]]), space, spec)
    np.testing.assert_array_equal(vector, [0, 1, 1, 0, 0, 0, 1, 0, 1])


def test_images_are_copies_of_a_reused_buffer():
    space = spaces.Box(0, 255, (32, 32, 1), np.uint8)
    buffer = np.zeros((32, 32, 1), np.uint8)
    image = adapt("x", buffer, space, observation_specs(space)["image"])
    buffer[:] = 9
    assert image.max() == 0


def test_keys_of_nested_spaces_agree_with_the_specs():
    space = Counter().observation_space
    assert flat_spaces(space).keys() == observation_specs(space).keys()


def test_old_gym_steps_are_refused():
    env = GymEnv(OldStyle(), seed=0)
    env.reset()
    with pytest.raises(UserError, match="terminated, truncated, info"):
        env.step(np.zeros(1, np.float32))


def test_render_needs_the_render_mode():
    toy = Counter()
    env = GymEnv(toy, seed=0)
    env.reset()
    assert env.render().shape == (16, 16, 3)
    toy.render_mode = None
    assert env.render() is None


@pytest.mark.parametrize("form", ["alpha", "gray", "colour"])
def test_pictures_of_every_form_become_frames(form):
    picture = {"alpha": (9, 8, 4), "gray": (9, 8), "colour": (9, 8, 3)}[form]
    assert GymEnv(Pictures(np.ones(picture, np.uint8)), seed=0).render().shape == (9, 8, 3)


def test_pictures_that_need_a_package_are_left_out_and_it_is_named(capsys):
    warn_once.cache_clear()
    missing = gymnasium.error.DependencyNotInstalled("run pip install pygame")
    env = GymEnv(Pictures(missing), seed=0)
    assert env.render() is None and env.render() is None
    assert capsys.readouterr().err == (
        "warning: no videos without a package that draws: run pip install pygame\n"
    )


@pytest.fixture
def registered():
    """Registers an environment for one test; returns its task."""
    names = []

    def register(entry_point, **options):
        names.append(f"Toy{len(names)}-v0")
        gymnasium.register(names[-1], entry_point, **options)
        return names[-1]

    yield register
    for name in names:
        del gymnasium.registry[name]


class Moded(Fixed):
    """Accepts no other render modes than it says, as Gymnasium's tutorial has it."""

    metadata = {"render_modes": ["human"]}

    def __init__(self, render_mode=None):
        assert render_mode is None or render_mode in self.metadata["render_modes"]
        super().__init__(spaces.Box(-1, 1, (3,)))
        self.render_mode = render_mode


class Colourful(Moded):
    """Draws, and says so."""

    metadata = {"render_modes": ["rgb_array"]}


class Modest(Fixed):
    """Says that it draws, but its constructor knows no mode."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self):
        super().__init__(spaces.Box(-1, 1, (3,)))


@pytest.mark.parametrize(
    ("entry_point", "mode"),
    [
        (Moded, None),
        (lambda **kwargs: Moded(**kwargs), None),
        (Colourful, "rgb_array"),
        (lambda **kwargs: Colourful(**kwargs), "rgb_array"),
        (Modest, None),
        ("tests.envs.test_gym:Moded", None),
        ("tests.envs.test_gym:Colourful", "rgb_array"),
    ],
)
def test_make_gym_asks_for_pictures_only_where_there_are_some(entry_point, mode, registered):
    task = registered(entry_point)
    env = make_gym(task, {}, seed=0, action_repeat=1, time_limit=0)
    assert env._env.render_mode == mode
    assert env.reset()["is_first"]


def test_make_gym_cart_pole_truncates_at_its_own_limit():
    env = make_gym("MountainCar-v0", {}, seed=0, action_repeat=4, time_limit=0)
    env.reset()
    rows = [env.step(np.array([1, 0, 0], np.float32)) for _ in range(50)]
    assert rows[-1]["is_last"] and not rows[-1]["is_terminal"]
    assert sum(row["reward"] for row in rows) == -200


@pytest.mark.parametrize(
    ("task", "kwargs", "message"),
    [
        ("CartPol-v1", {}, "unknown task 'gym_CartPol-v1'.*CartPole"),
        ("CartPole-v99", {}, "v99"),
        ("CartPole-v1", {"length": 2}, "env.kwargs do not fit gym_CartPole-v1.*length"),
        ("FrozenLake-v0", {}, "gym_FrozenLake-v0 cannot be built: .*v0.*FrozenLake-v1"),
        ("no_such_module:Maze-v0", {}, "gym_no_such_module:Maze-v0 needs a package.*no_such_modul"),
    ],
)
def test_make_gym_mistakes(task, kwargs, message):
    with pytest.raises(UserError, match=message):
        make_gym(task, kwargs, seed=0, action_repeat=1, time_limit=0)


def test_make_gym_names_missing_keyword_arguments(registered):
    task = registered(Fixed)
    with pytest.raises(UserError, match="env.kwargs do not fit gym_Toy0-v0: .*missing.*'space'"):
        make_gym(task, {}, seed=0, action_repeat=1, time_limit=0)


def test_mistakes_inside_a_constructor_are_not_blamed_on_the_arguments(registered):
    task = registered(lambda **kwargs: Fixed(len(3)))
    with pytest.raises(TypeError, match="has no len"):
        make_gym(task, {}, seed=0, action_repeat=1, time_limit=0)


def test_a_reset_without_seed_is_named():
    toy = Fixed(spaces.Box(-1, 1, (3,)))
    toy.reset = lambda: None
    with pytest.raises(UserError, match=r"reset\(\) must take seed and options"):
        GymEnv(toy, seed=0).reset()


def test_make_gym_passes_keyword_arguments_on():
    env = make_gym("CartPole-v1", {"max_episode_steps": 3}, seed=0, action_repeat=1, time_limit=0)
    env.reset()
    assert [env.step(np.array([1, 0]))["is_last"] for _ in range(3)] == [False, False, True]
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
