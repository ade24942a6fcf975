import os
import signal
import sys
import threading
import types

import pytest

from common import cluster
from common.errors import UserError


class FakeRay(types.ModuleType):
    """Counts how often it is started and ended; takes SIGTERM over, as Ray does."""

    def __init__(self):
        super().__init__("ray")
        self.started = self.ended = 0

    def init(self, **options):
        self.started += 1
        self.options = options
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def is_initialized(self):
        return self.started > self.ended

    def shutdown(self):
        self.ended += 1


@pytest.fixture
def ray(monkeypatch):
    """A Ray that nobody has started, without an address of a cluster."""
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(os, "environ", {**os.environ, "PYTHONPATH": "mine"})
    os.environ.pop("RAY_ADDRESS", None)
    return fake


def test_one_connection_serves_all_that_want_one_at_the_same_time(ray):
    for times in (1, 2):
        with cluster.connected("it", []) as one:
            with cluster.connected("it", []) as other:
                assert one is other is ray
            assert ray.is_initialized()
        assert ray.started == ray.ended == times
    assert ray.options["address"] == "local" and ray.options["include_dashboard"] is False


def test_a_connection_that_fails_its_user_is_ended_too(ray):
    with pytest.raises(KeyError), cluster.connected("it", []):
        raise KeyError
    assert ray.started == ray.ended == 1


def test_a_connection_of_somebody_else_stays(ray):
    ray.init()
    with cluster.connected("it", []):
        pass
    assert (ray.started, ray.ended) == (1, 0)


def test_what_happens_at_sigterm_is_not_rays_to_say(ray):
    before = signal.getsignal(signal.SIGTERM)
    with cluster.connected("it", []):
        assert signal.getsignal(signal.SIGTERM) is before
    thread = threading.Thread(target=lambda: cluster.connect("it", []))
    thread.start()
    thread.join()
    assert ray.started == 2 and signal.getsignal(signal.SIGTERM) is before


def test_the_clusters_processes_import_from_where_this_one_does(ray):
    cluster.connect("it", ["/one", "/two"])
    variables = ray.options["runtime_env"]["env_vars"]
    assert variables == {"PYTHONPATH": os.pathsep.join(["/one", "/two", "mine"])}


@pytest.mark.parametrize("mine", [None, "7"])
def test_a_ray_of_our_own_does_not_let_its_processes_wait(mine, ray):
    for name in ("RAY_worker_niceness", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    if mine:
        os.environ["RAY_worker_niceness"] = mine
    cluster.connect("it", [])
    assert os.environ["RAY_worker_niceness"] == (mine or "0")


def test_a_missing_ray_is_named_by_who_wants_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for wants in (cluster.connect, lambda *words: cluster.connected(*words).__enter__()):
        with pytest.raises(UserError, match=r"^it needs ray: pip install '.*\[cluster\]'$"):
            wants("it", [])


def test_an_address_where_no_cluster_answers_is_one_line(ray, monkeypatch):
    monkeypatch.setitem(os.environ, "RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(UserError, match="^cannot .* RAY_ADDRESS=127.0.0.1:1: .*refused$"),
        cluster.connected("it", []),
    ):
        pass
    assert not ray.started
    ray.init = lambda **_: (_ for _ in ()).throw(ConnectionError("no cluster\nat all"))
    os.environ["RAY_ADDRESS"] = "auto"
    with pytest.raises(UserError, match="RAY_ADDRESS=auto: no cluster$"):
        cluster.connect("it", [])
