"""The page that follows runs: what it shows, what it survives, and what it refuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from common.command import line as cli
from common.logging import VideoSink
from common.watch import page, server
from tests.report.test_report import find_browser
from tests.report.test_report import make_run as record

RECORDED = pathlib.Path(__file__).resolve().parents[1] / "recorded" / "0.1"


@pytest.fixture(scope="module", name="make_run")
def _make_run(tmp_path_factory):
    """Returns a function that puts a run into a folder: one was recorded, the others are copies."""
    recorded = record(tmp_path_factory.mktemp("recorded") / "run")
    return lambda logdir: shutil.copytree(recorded, logdir)


@contextlib.contextmanager
def watching(*given, every=0.0):
    """A server in a thread, which reads at every request."""
    one = server.open_server([str(path) for path in given], every=every)
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield one
    finally:
        one.shutdown()
        thread.join()
        one.server_close()


def ask(one, path, method="GET", host=None, **headers):
    """Returns status, headers and content of an answer."""
    connection = http.client.HTTPConnection(server.HOST, one.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name in [f"127.0.0.1:{one.server_port}"] if host is None else host:
        connection.putheader("Host", name)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def state(one):
    status, _, content = ask(one, "/state")
    assert status == 200
    return json.loads(content)


def part(one, name, number=0):
    status, _, content = ask(one, f"/part/{state(one)['runs'][number]['key']}/{name}")
    assert status == 200
    return content.decode()


def snapshot(folder):
    paths = sorted(folder.rglob("*"))
    return [
        (path, path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in paths
    ]


def test_the_page_shows_every_part_of_a_run_and_writes_nothing(make_run, tmp_path):
    run = make_run(tmp_path / "walker")
    before = snapshot(tmp_path)
    with watching(run) as one:
        status, headers, content = ask(one, "/")
        assert status == 200 and headers["Cache-Control"] == "no-store"
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert not re.search(r"https?://|@import|url\(", content.decode() + page.SCRIPT)
        assert ask(one, "/watch.js")[2].decode() == page.SCRIPT
        assert [set(x["versions"]) for x in state(one)["runs"]] == [set(page.PARTS)]
        head = part(one, "head")
        assert "Dreamer on dmc_&lt;walker&gt;_walk" in head and "40,000 of 80,000 frames" in head
        assert 'style="width:50.00%"' in head and "seed 3" in head
        assert "time left 0:07:51" in head  # 40,000 frames at 85 a second.
        assert part(one, "curve").count("<svg") == 1
        assert "time to" not in part(one, "time")
        assert "frames 40,000 (50.0%)" in part(one, "lines")
        assert part(one, "lines").count("frames/s 85.0") == page.LAST_LINES
        assert "image loss" in part(one, "metrics") and "405.0" in part(one, "row")
        assert part(one, "films").count("<video") == 2
    assert snapshot(tmp_path) == before
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"frames": 80800, "eval/return_mean": 9.0}\n')
    with watching(run) as one:  # A run ends with its last step of all environments, or episode.
        assert ">100%<" in part(one, "row") and 'style="width:100.00%"' in part(one, "head")


def test_a_video_comes_whole_or_in_ranges(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    (path,) = (run / "videos").glob("eval_policy-*40000.mp4")
    content = path.read_bytes()
    with watching(run) as one:
        address = re.search(r'src="(/video/\w+/eval_policy\?at=40000)"', part(one, "films"))[1]
        status, headers, body = ask(one, address)
        assert (status, headers["Content-Type"], body) == (200, "video/mp4", content)
        status, headers, body = ask(one, address, Range="bytes=2-5")
        assert (status, body) == (206, content[2:6])
        assert headers["Content-Range"] == f"bytes 2-5/{len(content)}"
        assert ask(one, address, Range="bytes=3-")[2] == content[3:]
        assert ask(one, address, Range=f"bytes={len(content)}-")[0] == 416
        assert ask(one, address, Range="bytes=nonsense")[0] == 200
        status, headers, body = ask(one, address, method="HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(len(content)), b"")


@pytest.mark.parametrize("host", [[], ["evil.example"], ["127.0.0.1"], ["localhost:1"], ["", ""]])
def test_other_hosts_are_refused(make_run, tmp_path, host):
    with watching(make_run(tmp_path / "run")) as one:
        for path in ("/", "/state", "/watch.js", "/part/x/head", "/video/x/y"):
            status, _, content = ask(one, path, host=host)
            assert status == 421 and b"run" not in content
        right = f"127.0.0.1:{one.server_port}"
        assert ask(one, "/state", host=[right, right])[0] == 421
        assert ask(one, "/state", host=[f"localhost:{one.server_port}"])[0] == 200


def test_it_listens_on_the_loopback_interface_alone(make_run, tmp_path):
    with watching(make_run(tmp_path / "run")) as one:
        assert one.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_asked_for_but_reading(make_run, tmp_path, method):
    with watching(make_run(tmp_path / "run")) as one:
        assert ask(one, "/state", method=method)[0] == 501


def test_no_address_leads_to_another_file(make_run, tmp_path):
    run = make_run(tmp_path / "runs" / "one")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    with watching(tmp_path / "runs") as one:
        key = state(one)["runs"][0]["key"]
        for path in (
            "/secret.mp4", "/../secret.mp4", f"/video/{key}/../../secret.mp4",
            f"/video/{key}/..%2F..%2F..%2Fsecret", f"/video/{key}/%2e%2e/secret.mp4",
            f"/video/{key}/{tmp_path}/secret.mp4", f"/video/{key}/config.yaml",
            f"/part/{key}/__class__", f"/part/{key}", "/part/none/head", "/state/",
        ):  # fmt: skip
            status, _, content = ask(one, path)
            assert status == 404 and b"secret" not in content, path
    assert run.exists()


def test_links_that_lead_out_are_not_followed(make_run, tmp_path):
    outside = make_run(tmp_path / "outside")
    for path in (outside / "videos").iterdir():
        path.rename(path.with_name("secret-000000000001.mp4"))
    inside = make_run(tmp_path / "runs" / "inside")
    film = inside / "videos" / "film-000000000009.mp4"
    film.symlink_to(outside / "videos" / "secret-000000000001.mp4")
    (tmp_path / "runs" / "linked").symlink_to(outside)
    (tmp_path / "runs" / "circle").symlink_to(tmp_path / "runs")
    with watching(tmp_path / "runs") as one:
        found = state(one)
        assert not found["runs"] and "leads out of the folder" in found["notes"]
        film.unlink()
        assert [len(state(one)["runs"]), state(one)["notes"]] == [1, ""]
        (inside / "metrics.jsonl").unlink()
        (inside / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
        assert not state(one)["runs"]
    with watching(tmp_path / "runs" / "linked") as one:  # Whoever names it wants it.
        assert len(state(one)["runs"]) == 1


def test_what_became_a_link_meanwhile_is_not_opened(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    with watching(run, every=3600) as one:
        address = re.search(r'src="(/video/\w+/eval_policy)', part(one, "films"))[1]
        (path,) = (run / "videos").glob("eval_policy-*40000.mp4")
        for replaced in (path.symlink_to, os.mkfifo):
            path.unlink()
            replaced(*([secret] if replaced == path.symlink_to else [path]))
            assert ask(one, address)[0] == 404


def test_runs_appear_grow_and_vanish(make_run, tmp_path):
    with watching(tmp_path) as one:
        assert state(one)["runs"] == [] and "there is no run yet" in state(one)["notes"]
        first = make_run(tmp_path / "a" / "b" / "first")
        (key,) = (x["key"] for x in state(one)["runs"])
        make_run(tmp_path / "second")
        assert len(state(one)["runs"]) == 2
        before = next(x["versions"] for x in state(one)["runs"] if x["key"] == key)
        assert before == next(x["versions"] for x in state(one)["runs"] if x["key"] == key)
        line = {"frames": 41_000, "eval/return_mean": 777.0}
        with (first / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n" + '{"frames": 42000, "eval/retu')  # Being written.
        after = next(x["versions"] for x in state(one)["runs"] if x["key"] == key)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"row", "head", "curve"}
        assert "777" in ask(one, f"/part/{key}/row")[2].decode()
        shutil.rmtree(first)
        assert len(state(one)["runs"]) == 1 and ask(one, f"/part/{key}/row")[0] == 404


def test_a_pattern_finds_what_appears_later(make_run, tmp_path):
    with watching(f"{tmp_path}/w*") as one:
        make_run(tmp_path / "walker")
        make_run(tmp_path / "other")
        assert "walker" in part(one, "head") and len(state(one)["runs"]) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "config.yaml").write_text("run: [1"),
        lambda run: (run / "config.yaml").write_text("task: {a: 1}\nrun: {frames: x}\nseed: [1]"),
        lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\n{}\n"),
        lambda run: (run / "metrics.jsonl").write_text('{"frames": 1, "time/frames_per_s": null}'),
        lambda run: (run / "scores.jsonl").unlink(),
        lambda run: shutil.rmtree(run / "videos"),
        lambda run: [path.write_bytes(b"") for path in (run / "videos").iterdir()],
        lambda run: ((run / "videos" / "x-1.mp4").mkdir(), (run / "metrics.jsonl").unlink()),
    ],
)
def test_a_damaged_run_is_shown_as_far_as_it_goes(make_run, tmp_path, damage):
    run = make_run(tmp_path / "run")
    damage(run)
    with watching(run) as one:
        for name in page.PARTS:
            part(one, name)


def test_damage_is_said_on_the_page(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write("nonsense\n")
    with watching(run) as one:
        assert "1 damaged line of" in part(one, "head")


def test_more_runs_than_are_shown_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr("common.watch.runs.MOST_RUNS", 2)
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("task: gym_CartPole-v1\n")
    with watching(tmp_path) as one:
        assert len(state(one)["runs"]) == 2 and "only 2 runs are shown" in state(one)["notes"]


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "name the runs' folders"),
        ("--logdir nowhere", "nowhere does not exist"),
        ("--logdir file", "file is a file, not a folder"),
        ("--logdir nowhere/*", "nowhere does not exist"),
        ("--logdir . --port 70000", "--port must be at most 65535"),
        ("--logdir . --port x", "--port must be an integer"),
        ("--logdir . --port {taken}", "address already in use; leave it out"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with socket.socket() as other:
        other.bind((server.HOST, 0))
        other.listen()
        words = words.format(taken=other.getsockname()[1]).split()
        assert cli.main("dreamer", lambda: None, ["watch", *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and not shown.out


def test_ctrl_c_ends_the_command_with_code_0(make_run, tmp_path):
    make_run(tmp_path / "one"), make_run(tmp_path / "two")
    words = ["-m", "dreamer", "watch", "--logdir", str(tmp_path / "one"), str(tmp_path / "two")]
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"at http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert process.stdout.readline() == "Ctrl-C ends it\n"
        connection = http.client.HTTPConnection(server.HOST, int(address[1]), timeout=20)
        connection.request("GET", "/state")
        assert len(json.loads(connection.getresponse().read())["runs"]) == 2
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and not out + err


@pytest.mark.browser
def test_a_browser_follows_a_run_that_grows(tmp_path, monkeypatch):
    """The recorded runs are shown beside a live one, which writes more after the first look."""
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    live = record(tmp_path / "live", steps=20)
    recorded = shutil.copytree(RECORDED, tmp_path / "recorded")
    before, seen = snapshot(recorded), []
    read = server.Watch.state

    def grow(self):
        if len(seen) == 1:
            with (live / "metrics.jsonl").open("a") as file:
                file.write('{"frames": 31000, "eval/return_mean": 654.5}\n')
            film = np.zeros((6, 32, 32, 3), np.uint8)
            VideoSink(live / "videos").video(41_000, "eval/policy", film)
        seen.append(read(self))
        return seen[-1]

    monkeypatch.setattr(server.Watch, "state", grow)
    with watching(live, recorded) as one:
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=7000", "--dump-dom",
             f"http://127.0.0.1:{one.server_port}/"],
            check=True, capture_output=True, timeout=120, text=True,
        )  # fmt: skip
    dom = done.stdout
    assert len(seen) >= 2 and dom.count('class="run"') == 4
    assert dom.count("<svg") == 4 and "654.5" in dom and "eval_policy?at=41000" in dom
    assert "PlaNet on gym_Pendulum-v1" in dom and "31,000 of 80,000 frames" in dom
    assert re.search(r'id="lost"[^>]*hidden', dom) and snapshot(recorded) == before
