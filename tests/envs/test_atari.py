import inspect

import ale_py
import gymnasium
import numpy as np
import pytest

from common.envs import EnvConfig, atari, make
from common.envs.base import env_seed
from common.errors import UserError
from tests.reference.atari import HandSteppedAtari

# The 55 games of the benchmark.
GAMES = """alien amidar assault asterix asteroids atlantis bank_heist battle_zone beam_rider
berzerk bowling boxing breakout centipede chopper_command crazy_climber demon_attack double_dunk
enduro fishing_derby freeway frostbite gopher gravitar hero ice_hockey jamesbond kangaroo krull
kung_fu_master montezuma_revenge ms_pacman name_this_game phoenix pitfall pong private_eye qbert
riverraid road_runner robotank seaquest skiing solaris space_invaders star_gunner tennis time_pilot
tutankham up_n_down venture video_pinball wizard_of_wor yars_revenge zaxxon""".split()


@pytest.fixture
def options(monkeypatch):
    """Records the keyword arguments that reach ale-py, and the information it returns."""
    seen = {}

    class Recorder(ale_py.AtariVectorEnv):
        def __init__(self, game, **kwargs):
            seen.update(kwargs, game=game)
            super().__init__(game, **kwargs)

        def reset(self, **kwargs):
            image, seen["info"] = super().reset(**kwargs)
            return image, seen["info"]

        def recv(self):
            result = super().recv()
            seen["info"] = result[-1]
            return result

    monkeypatch.setattr(ale_py, "AtariVectorEnv", Recorder)
    return seen


@pytest.mark.parametrize("sticky", [0.0, 0.25])
@pytest.mark.parametrize("grayscale", [True, False])
def test_frames_equal_the_hand_stepped_emulator(options, sticky, grayscale):
    config = EnvConfig(sticky=sticky, noops=30, grayscale=grayscale)
    envs = make("atari_breakout", config, 5)
    hand = HandSteppedAtari("breakout", env_seed(5, 0), sticky, 64, grayscale)
    rng = np.random.default_rng(0)
    rewards = resets = 0
    for _ in range(250):
        action = envs.action_spec.sample(rng, 1)
        row = envs.step(action)
        if row["is_first"][0]:
            noops = int(options["info"]["episode_frame_number"][0])
            image, reward, over = hand.reset(noops), 0, False
            resets += 1
        else:
            image, reward, over = hand.step(int(action.argmax()))
        if image is not None:
            np.testing.assert_array_equal(row["image"][0], image)
        assert (row["reward"][0], row["is_last"][0]) == (reward, over)
        rewards += reward
    envs.close()
    assert resets > 1 and rewards > 0


def test_the_benchmark_protocol_reaches_the_emulator(options):
    make("atari_pong", EnvConfig(), 0, num_envs=2).close()
    expected = dict(
        game="pong",
        num_envs=2,
        batch_size=2,
        repeat_action_probability=0.25,
        full_action_space=True,
        continuous=False,
        frameskip=4,
        maxpool=True,
        reward_clipping=False,
        use_fire_reset=False,
        episodic_life=False,
        life_loss_info=False,
        noop_max=31,
        img_height=64,
        img_width=64,
        stack_num=1,
        grayscale=True,
        max_num_frames_per_episode=108_000,
        autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP,
    )
    assert {key: options[key] for key in expected} == expected


def test_no_option_is_left_to_its_default():
    parameters = inspect.signature(ale_py.AtariVectorEnv.__init__).parameters
    assert set(atari.atari_options(EnvConfig(), 1)) == set(parameters) - {"self", "game"}


def test_settings_change_the_options():
    config = EnvConfig(
        sticky=0.5,
        all_actions=False,
        noops=3,
        grayscale=False,
        image_size=84,
        action_repeat=2,
        time_limit=44,
    )
    envs = make("atari_pong", config, 0)
    row = envs.step(np.eye(6, dtype=np.float32)[:1])
    assert row["image"].shape == (1, 84, 84, 3) and envs.action_spec.size == 6
    assert envs.action_repeat == 2
    options = atari.atari_options(config, 1)
    assert (options["repeat_action_probability"], options["noop_max"]) == (0.5, 4)
    envs.close()


def test_noops_are_drawn_from_zero_to_thirty(options):
    envs = make("atari_pong", EnvConfig(time_limit=4), 1)
    assert len(envs.action_names) == envs.action_spec.size
    assert envs.action_names[:3] == ("noop", "fire", "up")
    counts = set()
    for _ in range(400):
        if envs.step(np.eye(18)[:1])["is_first"][0]:
            counts.add(int(options["info"]["episode_frame_number"][0]))
    envs.close()
    assert counts == set(range(31))


def test_time_limit_ends_without_terminal_and_resets_next():
    envs = make("atari_pong", EnvConfig(time_limit=100), 0, num_envs=2)
    rng = np.random.default_rng(0)
    rows = [envs.step(envs.action_spec.sample(rng, 2)) for _ in range(28)]
    first = np.stack([row["is_first"] for row in rows])
    last = np.stack([row["is_last"] for row in rows])
    for flags, steps in ((first, [0, 26]), (last, [25])):
        for index in range(2):
            assert np.flatnonzero(flags[:, index]).tolist() == steps
    assert not any(row["is_terminal"].any() for row in rows)
    assert all((row["reward"][row["is_first"]] == 0).all() for row in rows)
    envs.close()


def test_game_over_is_terminal():
    envs = make("atari_breakout", EnvConfig(all_actions=False), 0)
    rng = np.random.default_rng(0)
    for _ in range(1000):
        row = envs.step(envs.action_spec.sample(rng, 1))
        if row["is_last"][0]:
            break
    assert row["is_last"][0] and row["is_terminal"][0]
    again = envs.step(envs.action_spec.sample(rng, 1))
    assert again["is_first"][0] and not again["is_last"][0] and again["reward"][0] == 0
    envs.close()


def _rollout(seed):
    envs = make("atari_breakout", EnvConfig(), seed, num_envs=2)
    rng = np.random.default_rng(0)
    rows = [envs.step(envs.action_spec.sample(rng, 2)) for _ in range(60)]
    envs.close()
    return np.stack([row["image"] for row in rows])


def test_a_seed_repeats_and_copies_differ():
    images = _rollout(3)
    np.testing.assert_array_equal(images, _rollout(3))
    assert (images != _rollout(4)).any()
    assert (images[:, 0] != images[:, 1]).any()


def test_rows_keep_their_values_when_later_rows_come():
    envs = make("atari_breakout", EnvConfig(), 0)
    rng = np.random.default_rng(0)
    rows = [envs.step(envs.action_spec.sample(rng, 1)) for _ in range(5)]
    images = [row["image"].copy() for row in rows]
    for _ in range(50):
        envs.step(envs.action_spec.sample(rng, 1))
    np.testing.assert_array_equal([row["image"] for row in rows], images)
    assert envs.render().shape == (192, 192, 3) and envs.render().dtype == np.uint8
    envs.close()
    envs.close()


def test_bad_actions_are_refused():
    envs = make("atari_pong", EnvConfig(), 0)
    with pytest.raises(FloatingPointError):
        envs.step(np.full((1, 18), np.nan))
    with pytest.raises(ValueError, match=r"\(1, 18\)"):
        envs.step(np.zeros((1, 6)))
    envs.close()


def test_all_benchmark_games_are_known():
    assert len(GAMES) == 55
    assert [atari.find_rom(game) for game in GAMES] == GAMES
    for game in GAMES:
        assert ale_py.roms.get_rom_path(game).exists()


@pytest.mark.parametrize(
    ("name", "rom"),
    [("james_bond", "jamesbond"), ("river_raid", "riverraid"), ("UpNDown", "up_n_down")],
)
def test_spellings_of_other_packages_are_known(name, rom):
    assert atari.find_rom(name) == rom


def test_unknown_games_get_a_hint():
    with pytest.raises(UserError, match="unknown task 'atari_pogn'; did you mean 'atari_pong'"):
        make("atari_pogn", EnvConfig(), 0)
