import gymnasium
import pytest

from common.command import flags
from common.envs import Env, EnvConfig, Envs, make, make_one, registry
from common.errors import UserError
from common.run.config import Settings
from tests.envs.toys import Counter


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("walker_walk", "unknown task 'walker_walk'; did you mean 'dmc_walker_walk'.*module"),
        ("pong", "did you mean 'atari_pong'"),
        ("xyz", "unknown task 'xyz'; a task is one of dmc_<domain>_<task>, atari_<game>"),
        ("no_such_module:make", "there is no module 'no_such_module'.*run in the folder"),
        ("tests.envs.toys:Conter", "no function 'Conter'; did you mean 'Counter'"),
        ("tests.envs.toys:NOT_AN_ENVIRONMENT", "no function"),
        ("tests.envs.toys:make_number", "returned a builtins.int; expected a gymnasium.Env"),
        ("gym_NoSuchThing-v0", "unknown task 'gym_NoSuchThing-v0'"),
    ],
)
def test_unknown_tasks(task, message):
    with pytest.raises(UserError, match=message) as caught:
        make(task, EnvConfig(), 0)
    assert "\n" not in str(caught.value)


def test_factories_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_mazes.py").write_text(
        "import gymnasium\n"
        "def make_maze(length=5):\n"
        "    return gymnasium.make('CartPole-v1', max_episode_steps=length)\n"
    )
    monkeypatch.chdir(tmp_path)
    envs = make("my_mazes:make_maze", EnvConfig(amount=2, kwargs={"length": 7}), 0)
    assert envs.num_envs == 2 and envs.action_spec.size == 2
    envs.close()


def test_missing_imports_of_a_module_are_not_its_own_absence(tmp_path, monkeypatch, capfd):
    (tmp_path / "broken_maze.py").write_text("import no_such_package_at_all\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="could not be built.*no_such_package_at_all"):
        make("broken_maze:make", EnvConfig(), 0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "task", ["gym_FrozenLake-v0", "gym_no_such_module:Maze-v0", "gym_no_such_thing"]
)
def test_what_cannot_be_built_by_name_shows_no_traceback(task, capfd):
    with pytest.raises(UserError):
        make(task, EnvConfig(), 0)
    assert capfd.readouterr().err == ""


def test_keyword_arguments_that_do_not_fit():
    with pytest.raises(UserError, match="env.kwargs .*length.* do not fit the factory"):
        make(Counter, EnvConfig(kwargs={"length": 3}), 0)


@pytest.mark.parametrize("task", ["dmc_walker_walk", "atari_pong"])
def test_suites_take_no_keyword_arguments(task):
    with pytest.raises(UserError, match="env.kwargs is for other tasks"):
        make(task, EnvConfig(kwargs={"a": 1}), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": "proces"}, "EnvConfig.workers cannot be 'proces'; did you mean 'process'"),
        ({"render": "slow"}, "EnvConfig.render cannot be 'slow'.*fast"),
        ({"amount": 0}, "EnvConfig.amount is 0; expected at least 1"),
        ({"image_size": 16}, "EnvConfig.image_size is 16; expected at least 32"),
        ({"sticky": 1.0}, "EnvConfig.sticky is 1.0; expected at least 0 and below 1"),
        ({"time_limit": -1}, "EnvConfig.time_limit is -1"),
        ({"action_repeat": -2}, "EnvConfig.action_repeat is -2"),
        ({"amount": 10**12}, "EnvConfig.amount is 1000000000000; expected at most 1024"),
        ({"action_repeat": 1001}, "EnvConfig.action_repeat is 1001; expected at most 1000"),
        ({"image_size": 10**6}, "EnvConfig.image_size is 1000000; expected at most 1024"),
        ({"noops": 10**6}, "EnvConfig.noops is 1000000; expected at most 10000"),
        ({"timeout": -1.0}, "EnvConfig.timeout is -1.0; expected at least 0"),
        ({"channels": "middle"}, "EnvConfig.channels cannot be 'middle'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        EnvConfig(**options)


def test_every_family_is_known_and_in_the_help():
    for family in registry.FAMILIES:
        registry.check_name(family)
        assert family in flags.attribute_docs(Settings)["task"]


def _members(protocol):
    methods = [name for name in vars(protocol) if name[0] != "_"]
    return {*protocol.__annotations__, *methods}


@pytest.mark.parametrize(
    "task", ["dmc_cartpole_swingup", "gym_CartPole-v1", "memory_repeat", "atari_pong"]
)
def test_every_family_keeps_the_protocol(task):
    config = EnvConfig(pixels=False, state=True)
    envs = make(task, config, 0)
    assert {name for name in _members(Envs) if not hasattr(envs, name)} == set()
    assert isinstance(envs.observation_space, gymnasium.spaces.Dict)
    if not task.startswith("atari"):
        env = make_one(task, config, 0)
        assert {name for name in _members(Env) if not hasattr(env, name)} == set()
    envs.close()


@pytest.mark.parametrize(
    "task, options, steps",
    [
        ("dmc_cheetah_run", {"action_repeat": -1}, 250),
        ("dmc_cheetah_run", {"time_limit": 50, "action_repeat": 3}, 17),
        ("dmc_cartpole_swingup,dmc_finger_spin", {"action_repeat": -1}, 500),
        ("gym_CartPole-v1", {}, 500),
        ("gym_CartPole-v1", {"time_limit": 9, "action_repeat": 2}, 5),
        ("atari_pong", {"time_limit": 108_000}, 27_000),
        ("atari_pong", {}, 27_000),
        ("memory_recall", {}, 12),
        ("memory_repeat", {"action_repeat": 4, "kwargs": {"length": 9, "delay": 2}}, 3),
        ("tests.envs.toys:Counter", {}, 0),
    ],
)
def test_longest_episode(task, options, steps):
    config = EnvConfig(pixels=False, state=True, workers="none", **options)
    envs = make(task, config, 0, 1)
    assert envs.max_steps == steps
    envs.close()


@pytest.mark.parametrize("task", [",", "dmc_walker_walk,", "dmc_walker_walk,,dmc_cartpole_swingup"])
def test_nothing_beside_a_comma_is_no_task(task):
    with pytest.raises(UserError, match="names nothing beside a comma; write NAME or NAME,NAME"):
        make(task, EnvConfig(), 0)
