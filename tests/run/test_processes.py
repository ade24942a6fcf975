"""Several processes make one training: the same numbers, one stop, one checkpoint."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from common.config import update
from common.errors import STOPPED, Lost, UserError
from common.export import read_export
from common.logging import read_jsonl
from common.replay import write_episodes
from common.run import checkpoint, processes
from common.run import folder as run_folder
from common.run.learner import AgentLearner
from common.run.processes import Place, Processes, free_port
from common.run.train import train
from common.spaces import ObservationSpec
from dreamer.program import load_program
from dreamer.program import main as dreamer
from tests import fake_agent
from tests.run import several
from tests.tiny import choice, random_batch

AGENT = "--configs gym debug --run.video false --run.random_episodes 0 --run.eval_episodes 0"
AGENT = (*AGENT.split(), "--replay.batch", "4", "--replay.prefetch", "0", "--env.workers", "none")
EXACT = 2e-6
"""As far as sums over the batch may differ by their order."""


def assert_close(found, expected, begin) -> None:
    """All of it has moved, and by the same, up to where Adam divides rounding by itself."""
    leaves = [jax.tree.leaves(tree) for tree in (found, expected, begin)]
    apart, way = [], 0.0
    for a, b, c in zip(*leaves, strict=True):
        apart.append(np.abs(np.asarray(a) - b).ravel())
        way = max(way, float(np.abs(np.asarray(b) - c).max(initial=0)))
    apart = np.concatenate(apart)
    assert way > 1e-3
    assert (apart > EXACT).mean() < 1e-2 and apart.max() < way / 10


def wait_for(condition, running) -> None:
    """Waits until a training got somewhere."""
    end = time.monotonic() + 300
    while not condition():
        assert all(one.poll() is None for one in running), several.end(running, 5)
        assert time.monotonic() < end, "the training got nowhere"
        time.sleep(0.05)


def test_two_processes_learn_what_one_does_of_the_same_rows(tmp_path: pathlib.Path):
    """The real run loop, 20 updates of DreamerV2; then one process learns from the same batches."""
    rows, logdir = tmp_path / "rows", tmp_path / "run"
    rows.mkdir()
    options = ("--task", "gym_CartPole-v1", "--env.amount", "2", "--run.prefill", "60")
    options = (*options, "--run.pretrain", "0", "--run.train_every", "2", "--run.frames", "102")
    program = ("tests.run.several", str(rows), "train")
    done = several.end(several.start(logdir, *AGENT, *options, program=program))
    assert [code for code, _, _ in done] == [0, 0], done
    batches = [
        [dict(np.load(path)) for path in sorted(rows.glob(f"{index}-*.npz"))] for index in (0, 1)
    ]
    assert len(batches[0]) == len(batches[1]) == 20
    assert not np.array_equal(batches[0][-1]["vector"], batches[1][-1]["vector"])

    config = run_folder.read(logdir, "dreamer", load_program().default_config)
    exported = read_export(logdir / "export.npz")
    agent = load_program().make_agent(config, exported.observations, exported.actions)
    learner = AgentLearner(agent, 1, config.seed)
    begin = jax.device_get(learner.params)
    for halves in zip(*batches, strict=True):
        learner.update({key: np.concatenate([half[key] for half in halves]) for key in halves[0]})
    assert_close(exported.params, jax.device_get(learner.params), begin)


@pytest.mark.slow
def test_from_given_episodes_two_processes_make_the_run_of_one(tmp_path: pathlib.Path):
    """Whole runs: every update draws the same rows, whoever learns from them."""
    specs = {"vector": ObservationSpec((4,), "vector")}
    rows = random_batch(specs, choice(2), batch=4, time=40)
    write_episodes(tmp_path / "data", [{k: x[i] for k, x in rows.items()} for i in range(4)])
    learn = ("--task", "gym_CartPole-v1", "--data", str(tmp_path / "data"))
    learn = (*AGENT, *learn, "--run.log_every", "1", "--run.updates")
    assert dreamer(["train", *learn, "20", "--logdir", str(tmp_path / "1")]) == 0
    for length in ("12", "20"):  # Two of them stop in between.
        running = several.start(tmp_path / "2", *learn, length, program=("dreamer", "train"))
        done = several.end(running)
        assert {code for code, _, _ in done} == {0}, done
    one, two = (list(read_jsonl(tmp_path / str(n) / "metrics.jsonl", "updates")) for n in (1, 2))
    assert [x["updates"] for x in one] == [x["updates"] for x in two] == list(range(1, 21))
    for a, b in zip(one, two, strict=True):
        losses = {key for key in a if key.startswith(("world_model/", "actor/", "critic/"))}
        assert len(losses) > 10
        for key in losses:
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=1e-6), key
    found = [read_export(tmp_path / str(n) / "export.npz") for n in (1, 2)]
    config = run_folder.read(tmp_path / "1", "dreamer", load_program().default_config)
    agent = load_program().make_agent(config, found[0].observations, found[0].actions)
    begin = AgentLearner(agent, 1, config.seed).params
    assert_close(found[1].params, found[0].params, begin)


def test_a_training_moves_between_numbers_of_processes(tmp_path: pathlib.Path):
    """Counters, replay and scores are those of all, and nobody's rows are lost."""
    logdir = tmp_path / "run"
    for amount, frames in ((2, 200), (1, 320), (4, 440)):
        words = ("--env.amount", "4", "--replay.batch", "4", "--run.frames", str(frames))
        done = several.end(several.start(logdir, *words, amount=amount))
        assert {code for code, _, _ in done} == {0}, done
        assert [("run folder" in out) for _, out, _ in done] == [True] + [False] * (amount - 1)
        found = checkpoint.metadata(logdir / run_folder.CHECKPOINTS)
        assert found["frames"] == found["agent_steps"] == frames
        assert found["episodes"] == len(list(read_jsonl(logdir / "scores.jsonl"))) == frames // 5
        ends = found["replay"]["rows"]
        assert sum(ends) == found["rows"] and len(set(ends)) == 1
    # 5 steps and a reset an episode; those that were cut by the stops are closed.
    assert found["rows"] == 440 // 5 * 6 and "4 environment(s)" in done[0][1]


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_stops_all_with_one_checkpoint(tmp_path: pathlib.Path, told: int):
    logdir = tmp_path / "run"
    words = ("--env.amount", "2", "--run.frames", "100000000", "--run.eval_every", "0")
    running = several.start(logdir, *words)
    wait_for(lambda: _lines(logdir) > 4, running)
    begin = time.monotonic()
    running[told].send_signal(signal.SIGTERM)
    done = several.end(running)
    assert [code for code, _, _ in done] == [STOPPED, STOPPED], done
    assert time.monotonic() - begin < 60
    assert "the same command goes on from here" in done[0][1] and "stopped" not in done[1][1]
    (name,) = os.listdir(logdir / run_folder.CHECKPOINTS)
    assert int(name) == checkpoint.metadata(logdir / run_folder.CHECKPOINTS)["frames"]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_and_costs_no_checkpoint(
    tmp_path: pathlib.Path, killed: int
):
    logdir = tmp_path / "run"
    words = ("--env.amount", "2", "--run.eval_every", "0", "--run.checkpoint_every", "1")
    running = several.start(logdir, *words, "--run.frames", "100000000")
    folder = logdir / run_folder.CHECKPOINTS
    wait_for(lambda: folder.exists() and checkpoint.latest(folder), running)
    begin = time.monotonic()
    running[killed].kill()
    done = several.end(running)
    assert time.monotonic() - begin < 60
    code, _, err = done[1 - killed]
    # Its own word; or JAX's, which ends a process by itself where the first one is gone.
    assert code == 1 or (code == -signal.SIGABRT and not killed), done
    assert code != 1 or "is gone, see what it says" in err.splitlines()[-1]
    if killed == 0:  # Once is enough: what is left does not know who was killed.
        return
    before = checkpoint.metadata(folder)
    more = before["frames"] + 400
    done = several.end(several.start(logdir, *words, "--run.frames", str(more)))
    assert [code for code, _, _ in done] == [0, 0], done
    assert f"resumed at frame {before['frames']:,}" in done[0][1]


@pytest.mark.parametrize("kind", ["disk", "mistake"])
def test_a_checkpoint_that_fails_ends_all(tmp_path: pathlib.Path, kind: str):
    """A full disk as one line to each; what nobody expects with its traceback, and at once."""
    words = ("--env.amount", "2", "--run.eval_every", "0", "--run.checkpoint_every", "0")
    words = (*words, "--run.frames", "100000000")
    program = ("tests.run.failing", kind, "train")
    done = several.end(several.start(tmp_path / "run", *words, program=program))
    codes, last = [code for code, _, _ in done], [err.splitlines()[-1] for _, _, err in done]
    if kind == "disk":
        assert codes == [2, 2], done
        assert last == ["error: disk full", "error: process 0 says: disk full"]
    else:
        assert codes[0] == 1 and codes[1] in (1, -signal.SIGABRT), done
        assert last[0] == "RuntimeError: a mistake of ours"
    assert checkpoint.latest(tmp_path / "run" / run_folder.CHECKPOINTS)


def _lines(logdir: pathlib.Path) -> int:
    path = logdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--env.amount", "3"), "env.amount is 3, which 2 processes cannot divide"),
        (("--env.amount", "2", "--replay.batch", "3"), "replay.batch is 3, which 2 processes"),
    ],
)
def test_what_processes_cannot_divide(tmp_path: pathlib.Path, words, fault):
    done = several.end(several.start(tmp_path / "run", *words))
    assert [code for code, _, _ in done] == [2, 2], done
    assert all(fault in err.splitlines()[-1] for _, _, err in done)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["env.amount", "replay.batch"])
def test_a_mistake_of_ones_own_waits_for_nobody(tmp_path: pathlib.Path, name: str):
    program, there = fake_agent.load_program(), f"127.0.0.1:{free_port(several.HERE)},2,0"
    options = {"env.amount": 2, "replay.batch": 2, "run.coordinator": there}
    config = update(program.default_config, options | {name: 3})
    begin = time.monotonic()
    with pytest.raises(UserError, match=f"{name} is 3, which 2 processes cannot divide"):
        train(program, config, tmp_path / "run")
    assert time.monotonic() - begin < 10 < processes.PATIENCE


def test_folders_that_are_not_shared(tmp_path: pathlib.Path):
    there = f"127.0.0.1:{free_port(several.HERE)},2"
    words = ("--env.amount", "2", "--run.frames", "200")
    program = fake_agent.load_program()
    config = update(program.default_config, {"env.amount": 2, "run.frames": 100})
    assert train(program, config, tmp_path / "0").finished
    done = several.end([several.one(tmp_path / str(i), f"{there},{i}", *words) for i in (0, 1)])
    assert [code for code, _, _ in done] == [2, 2], done
    assert all("other newest checkpoints" in err and "[100, None]" in err for _, _, err in done)


def test_a_new_run_in_a_folder_that_is_not_shared(tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.setattr(run_folder, "PATIENCE", 0.2)
    (tmp_path / run_folder.CONFIG).touch()
    with socket.create_server((several.HERE, 0)) as server:
        ends = [socket.create_connection(server.getsockname()), server.accept()[0]]
    peers = [{1 - i: processes._Peer(end, "process")} for i, end in enumerate(ends)]
    both = [Processes(Place("", 0, 2, i), peer) for i, peer in enumerate(peers)]
    folders = (tmp_path, tmp_path / "other")
    with ThreadPoolExecutor(2) as threads:
        checks = list(map(threads.submit, [run_folder.check_shared] * 2, folders, both))
    for one in checks:  # None of them is told that another is gone.
        with pytest.raises(UserError, match=r"process\(es\) 1 do not see the config.yaml"):
            one.result()
    for one in both:
        one.close(together=False)


def test_a_folder_that_shows_late_what_is_new(tmp_path: pathlib.Path):
    threading.Timer(0.2, (tmp_path / run_folder.CONFIG).touch).start()
    run_folder.check_shared(tmp_path, Processes())


class TestMeeting:
    """What the processes of a training say to each other before it begins."""

    IDENTITY = {"agent": "fake", "jax": "1", "replay.batch": "16"}

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch):
        monkeypatch.setattr(processes, "PATIENCE", 5.0)

    def meet(self, *callers, port=None):
        """Lets callers meet process 0; returns what each got, or was told."""
        port = port or free_port(several.HERE)
        found = {}

        def call(number, place, identity):
            try:
                found[number] = processes._call(place, identity)
            except (UserError, Lost) as error:
                found[number] = error

        threads = [
            threading.Thread(target=call, args=(number, place._replace(port=port), identity))
            for number, (place, identity) in enumerate(callers, 1)
        ]
        for thread in threads:
            thread.start()
        try:
            found[0] = processes._welcome(Place("127.0.0.1", port, 3, 0), self.IDENTITY)
        except UserError as error:
            found[0] = error
        for thread in threads:
            thread.join()
        return found

    def place(self, index, amount=3):
        return Place("127.0.0.1", 0, amount, index)

    def test_all_alike_and_numbers_travel(self):
        found = self.meet((self.place(1), self.IDENTITY), (self.place(2), self.IDENTITY))
        groups = [Processes(self.place(0), found[0])]
        groups += [Processes(self.place(i), {0: found[i]}) for i in (1, 2)]
        heard = {}
        threads = [
            threading.Thread(target=lambda i=i: heard.update({i: groups[i].gather({"n": i})}))
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert heard == dict.fromkeys(range(3), [{"n": 0}, {"n": 1}, {"n": 2}])
        assert not groups[0].broken(0.2)
        groups[1].close(together=False)
        assert groups[0].broken()
        with pytest.raises(Lost, match="process 1 of this training is gone"):
            groups[0].gather(1)
        groups[0].close(together=False)
        with pytest.raises(Lost, match="process 0 of this training is gone"):
            groups[2].gather(1)
        assert groups[2].broken()
        groups[2].close(together=False)

    def test_the_others_wait_and_may_ask_to_give_up(self, monkeypatch):
        monkeypatch.setattr(processes, "BEAT", 0.01)
        found = self.meet((self.place(1), self.IDENTITY), (self.place(2), self.IDENTITY))
        groups = [Processes(self.place(0), found[0])]
        groups += [Processes(self.place(i), {0: found[i]}) for i in (1, 2)]
        asked, heard = [], {}

        def work(stop):
            while not stop():
                time.sleep(0.005)
                if len(asked) < 5:
                    asked.append(1)
            return "given up"

        def wait(i):
            heard[i] = groups[i].alone(None, lambda: i == 2 and len(asked) == 5)

        threads = [threading.Thread(target=wait, args=(i,)) for i in (1, 2)]
        for thread in threads:
            thread.start()
        assert groups[0].alone(work, lambda: False) == "given up" and len(asked) == 5
        for thread in threads:
            thread.join()
        assert heard == {1: "given up", 2: "given up"}

    def test_another_option(self):
        other = {**self.IDENTITY, "replay.batch": "8"}
        found = self.meet((self.place(2), other))
        words = "process 2 differs from process 0: replay.batch 8 (process 0: 16); start all alike"
        assert {str(fault) for fault in found.values()} == {words}

    def test_another_version_and_one_that_lacks(self):
        other = {"agent": "fake", "replay.batch": "16"}
        found = self.meet((self.place(1), other))
        assert "jax missing (process 0: 1)" in str(found[0]) == str(found[1])

    def test_another_amount(self):
        found = self.meet((self.place(1, amount=2), self.IDENTITY))
        assert "process 1 says that there are 2 processes, process 0 3" in str(found[0])

    def test_one_index_twice(self):
        found = self.meet((self.place(1), self.IDENTITY), (self.place(1), self.IDENTITY))
        assert "two processes with the index 1" in str(found[0])

    def test_too_few(self, monkeypatch):
        monkeypatch.setattr(processes, "PATIENCE", 2.0)
        found = self.meet((self.place(2), self.IDENTITY))
        assert "process(es) 1 did not come to 127.0.0.1" in str(found[0])
        assert str(found[2 - 1]) == str(found[0])

    def test_nobody_answers(self, monkeypatch, capsys):
        monkeypatch.setattr(processes, "PATIENCE", 0.5)
        with pytest.raises(UserError, match="nobody answers at 127.0.0.1:.*names the host of pro"):
            processes._call(Place("127.0.0.1", free_port(several.HERE), 2, 1), {})
        said = capsys.readouterr().out
        assert said.count("waiting for process 0 at 127.0.0.1") == 1
        assert "(Connection refused)" in said

    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            for first in (port, port - 1):
                with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 cannot be had"):
                    processes._welcome(Place("127.0.0.1", first, 2, 0), {})

    @pytest.mark.parametrize(
        "text",
        ["x", "host,2,0", "host:1", "host:99999,2,0", "h:1,2,2", "h:1,0,0", ":1,2,0", "h:0,2,0"],
    )
    def test_what_is_no_address(self, text):
        with pytest.raises(UserError, match="expected host:port,amount,index such as"):
            Place.parse(text)


def test_whoever_uses_jax_first_is_told():
    """From Python, where something else may have asked for devices."""
    jax.devices()
    text = f"127.0.0.1:{free_port(several.HERE)},1,0"
    with pytest.raises(UserError, match="training has to come before anything else that uses JAX"):
        processes.join(text, {})


def test_one_process_is_a_training_of_its_own():
    alone = Processes()
    assert alone.gather({"x": [1]}) == [{"x": [1]}] and alone.first and alone.index == 0
    assert alone.alone(lambda stop: stop(), lambda: True) is True and not alone.broken(0)
