"""The way to a Ray cluster, or to a Ray that is started on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from common.errors import UserError

CONNECT_SECONDS = 20


def connect(who: str, paths: Sequence[str]) -> Any:
    """Connects to the cluster of RAY_ADDRESS.

    Without RAY_ADDRESS one is started here, which listens on the loopback interface and asks for
    a token that only this user's processes have.

    Args:
        who: The option that asks for Ray.
        paths: Folders from which the cluster's processes import, before those of PYTHONPATH.

    Returns:
        The module ``ray``; whoever connects calls its ``shutdown``.

    Raises:
        UserError: Ray is missing, or the cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # Else a busy machine lets its processes wait: they would have niceness 15.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # Whoever ends a whole group of processes ends its control store with it: nobody starts
        # that again, so we need not wait a minute for it.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    if not address and "ray" not in sys.modules:
        _keep_to_this_machine()
    ray = _import(who)
    python_path = os.pathsep.join(filter(None, [*paths, os.environ.get("PYTHONPATH")]))
    try:
        _check_address(address or "")
        with _own_handler_of_sigterm():
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="error",
                runtime_env={"env_vars": {"PYTHONPATH": python_path}},
                **({} if address else {"include_dashboard": False}),
            )
    except (OSError, ValueError, RuntimeError) as error:
        what = f"reach the Ray cluster of RAY_ADDRESS={address}" if address else "start Ray here"
        raise UserError(f"cannot {what}: {str(error).splitlines()[0]}") from error
    return ray


@contextlib.contextmanager
def _own_handler_of_sigterm() -> Iterator[None]:
    """Keeps what this process does at SIGTERM: Ray would end it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # There Ray leaves it alone.
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def connected(who: str, paths: Sequence[str]) -> Iterator[Any]:
    """Shares a connection among all that want one at the same time; the last one ends it.

    A connection that somebody else made is used and left as it is.

    Args:
        who: As of ``connect``.
        paths: As of ``connect``, of the first one.

    Yields:
        The module ``ray``.

    Raises:
        UserError: As ``connect``.
    """
    global _sharing, _ours
    with _lock:
        ray = _import(who) if "ray" in sys.modules else None
        if not (ray and ray.is_initialized()):
            ray, _ours = connect(who, paths), True
        _sharing += 1
    try:
        yield ray
    finally:
        with _lock:
            _sharing -= 1
            if _ours and not _sharing:
                ray.shutdown()
                _ours = False


_lock = threading.RLock()
_sharing = 0
_ours = False


def _import(who: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(f"{who} needs ray: pip install 'world-model-agents[cluster]'") from error
    return ray


def _keep_to_this_machine() -> None:
    """Has a Ray that is started here listen on the loopback interface alone, and ask for a token.

    Ray reads these variables when it is imported. The name of the first is about the systems
    on which Ray does so by itself.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _check_address(address: str) -> None:
    """Raises an OSError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
