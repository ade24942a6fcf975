"""The run of mistakes, on a room of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import mutants

CODE = """
def price(number: int | None, each: int = 3) -> int | None:
    if number is None:
        return None
    return number * each


def unused(x):
    return x - 1


def named(x):
    return x == "till"


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
"""
TEST = "tests/shop/test_till.py::test_price"
TESTS = """
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "shop"))
from till import price

def test_price():
    assert price(2) == 6 and price(None) is None
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A working tree with one room and one test."""
    for name, text in {"shop/till.py": CODE, "tests/shop/test_till.py": TESTS}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "ROOMS", {"shop": ("tests/shop",)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_mistake_for_every_place_and_none_in_annotations(shop):
    found = mutants.possible("shop")
    places = [(one.start_pos, one.operator_name.partition("_")[0]) for one in found]
    assert len(set(places)) == len(places)
    # Line 2 for its 3, not for its |.
    assert {place[0] for place, _ in places} == {2, 3, 5, 9, 13}
    of_words = {one.operator_name for one in found if one.start_pos[0] == 13}
    assert of_words and not any(mutants._ORDER.search(name) for name in of_words)
    assert not any("BitOr" in one.operator_name for one in found)
    assert mutants.draw(["shop"], 2, 0) == mutants.draw(["shop"], 2, 0)
    assert len(mutants.draw(["shop"], 100, 0)) == len(found)


def test_what_is_noticed_and_what_is_not_is_written_once(shop, monkeypatch, capsys):
    results = shop / "results.json"
    monkeypatch.setattr(sys, "argv", ["mutants", "--number", "4", "--results", str(results)])
    assert mutants.main() == 0
    record = json.loads(results.read_text())
    lines = {one["mistake"].split(":")[1] for one in record["survived"]}
    assert lines == {"9"}  # The function that nothing tests.
    assert all(one["change"] and one["outcome"] == "killed" for one in record["others"])
    assert {one["noticed_by"] for one in record["others"]} == {TEST}
    noticed, survived = len(record["others"]), len(record["survived"])
    assert (record["noticed"], record["tried"]) == (noticed, noticed + survived)
    assert record["share"] == noticed / (noticed + survived) == record["rooms"]["shop"]["share"]
    assert (shop / "shop" / "till.py").read_text() == CODE
    assert f"noticed: {noticed} of {noticed + survived}; " in capsys.readouterr().out
    assert mutants.main() == 0
    assert " left: " not in capsys.readouterr().out
    assert json.loads(results.read_text())["others"] == record["others"]


def test_a_test_that_fails_anyway_notices_nothing(shop, monkeypatch, capsys):
    path = shop / "tests" / "shop" / "test_till.py"
    path.write_text(TESTS.replace("== 6", "== 7"))
    results = shop / "results.json"
    monkeypatch.setattr(sys, "argv", ["mutants", "--number", "1", "--results", str(results)])
    assert mutants.main() == 2
    assert f"{TEST} fails without any mistake too" in capsys.readouterr().err
    assert not results.exists()


def test_what_takes_too_long_was_not_tried(shop, monkeypatch):
    path = shop / "tests" / "shop" / "test_till.py"
    path.write_text(
        TESTS.replace("def test_price():", "def test_price():\n    __import__('time').sleep(60)")
    )
    results = shop / "results.json"
    monkeypatch.setattr(mutants, "TIMEOUT", 3)
    monkeypatch.setattr(sys, "argv", ["mutants", "--number", "1", "--results", str(results)])
    assert mutants.main() == 0
    record = json.loads(results.read_text())
    assert record["tried"] == 0 and record["share"] is None
    assert [one["outcome"] for one in record["others"]] == ["timeout"]
