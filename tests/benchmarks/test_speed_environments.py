import json
import statistics

import pytest

from benchmarks.speed import environments
from benchmarks.speed.environments import KINDS, Kind, Place, main, measure, places
from common.envs import EnvConfig, make

IDLE = "benchmarks.speed.environments:Idle"


@pytest.fixture
def two_places(monkeypatch):
    """This process, and one process for both."""
    two = {"local": Place("none", 0), "a process of 2": Place("process", 2)}
    monkeypatch.setattr(environments, "places", lambda amount: two)
    return two


def test_what_is_measured_adds_up(two_places):
    found = measure(Kind(IDLE, 2, False), rounds=3, seconds=0.02)
    assert list(found) == list(two_places)
    for name, other in (tuple(found), tuple(found)[::-1]):
        figures = found[name]
        assert len(figures["turns"]) == 3 and min(figures["turns"]) > 0
        assert figures["steps_per_second"] == sorted(figures["turns"])[1]
        assert figures["own_core_ms"] > 0
        pairs = zip(figures["turns"], found[other]["turns"], strict=True)
        assert figures["of"] == {other: statistics.median(x / y for x, y in pairs)}


def test_a_record_says_on_what_it_ran(two_places, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KINDS, "idle-2", Kind(IDLE, 2, False))
    assert main(["idle-2", "--rounds", "1", "--seconds", "0.01", "--results", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    assert path.name == "environments-idle-2.json" and list(found["places"]) == list(two_places)
    assert any(line.startswith("processor ") for line in found["versions"])
    assert any(line.startswith("ray ") for line in found["versions"])
    assert len(found["load_average"]) == 2
    assert "idle-2: a process of 2: " in capsys.readouterr().out


@pytest.mark.parametrize("name", KINDS)
def test_places_hold_all_environments_of_a_kind(name):
    amount = KINDS[name].amount
    found = [EnvConfig(**place._asdict()) for place in places(amount).values()]
    assert [one.workers for one in found] == ["none"] + ["process"] * 3 + ["ray"] * 3
    assert [one.per_worker for one in found[1:]] == [1, amount // 2, amount] * 2


def test_idle_environments_end_their_episodes():
    envs = make(IDLE, EnvConfig(workers="none"), 0)
    ends = [envs.step([[0.0, 0.0]])["is_last"][0] for _ in range(501)]
    assert ends == [False] * 500 + [True]


@pytest.mark.parametrize(
    "words, message",
    [
        (["idle8"], "unknown kind 'idle8'; did you mean 'idle-8'"),
        (["--rounds", "0"], "have to be above 0"),
        (["--seconds", "nan"], "have to be above 0"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
