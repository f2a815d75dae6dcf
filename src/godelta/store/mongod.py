"""The private MongoDB server of a workspace: found, started and stopped by godelta itself."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from godelta.errors import GodeltaError
from godelta.store.serverfile import (
    ServerRecord,
    file_lock,
    log_tail,
    network_file_system,
    wait_for_end,
    write_private,
)

USER = "godelta"
HOST = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections: a remembered port stays free.
PORTS = range(20_000, 32_000)
START_SECONDS = 600.0  # recovery after an unclean shutdown takes long on slow disks
PRIMARY_SECONDS = 120.0
STOP_SECONDS = 30.0
LOG_BYTES = 20_000_000

_UNAUTHORIZED, _AUTHENTICATION_FAILED, _ALREADY_INITIALIZED, _USER_EXISTS = 13, 18, 23, 51003
# NotYetInitialized, ConfigurationInProgress, InterruptedDueToReplStateChange
_STILL_STARTING = frozenset({94, 109, 11602})


def find_mongod() -> Path:
    """Locate the server's binary: GODELTA_MONGOD, then PATH, then the extra `mongod`.

    Raises
    ------
    GodeltaError
        Where none of the three has it, or GODELTA_MONGOD names no executable file.
    """
    chosen = os.environ.get("GODELTA_MONGOD")
    if chosen:
        if os.access(chosen, os.X_OK) and Path(chosen).is_file():
            return Path(chosen).resolve()
        raise GodeltaError(
            f"{chosen} is not an executable file",
            where="GODELTA_MONGOD",
            mend="set GODELTA_MONGOD to the path of a mongod binary, or unset it",
        )
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    name = "mongod.exe" if sys.platform == "win32" else "mongod"
    # The spec of a top-level package is found without importing it.
    spec = importlib.util.find_spec("fiftyone")
    for location in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(location) / "db" / "bin" / name
        if os.access(binary, os.X_OK):
            return binary
    raise GodeltaError(
        "no MongoDB server (mongod) found",
        mend="one of: set GODELTA_MONGOD to the path of a mongod binary; put mongod on PATH; "
        'or install one with: pip install "godelta[mongod]"',
    )


@dataclass(frozen=True, slots=True)
class MongodStatus:
    """What is known of a workspace's private server; the pid is None unless it runs here."""

    running: bool
    pid: int | None
    port: int | None
    host: str | None
    data: Path
    log: Path


class PrivateMongod:
    """A mongod on loopback, with password, whose data live in the workspace.

    Parameters
    ----------
    workspace
        The directory whose `.godelta/db` holds data, log, password and the server's record.
    """

    def __init__(self, workspace: Path) -> None:
        self.home = workspace.resolve() / ".godelta" / "db"
        self.data = self.home / "data"
        self.log = self.home / "mongod.log"
        self.record_file = self.home / "server.json"
        self._pid_file = self.home / "mongod.pid"
        self._password_file = self.home / "password"
        self._key_file = self.home / "keyfile"

    def start(self) -> str:
        """Start the server unless it runs already, and return its URI.

        Raises
        ------
        GodeltaError
            Where it runs on another host, the disk is a network file system, or it does not start.
        """
        kind = network_file_system(self.home)
        if kind:
            raise GodeltaError(
                f"the private database cannot live on a network file system ({kind})",
                where=str(self.home),
                mend="use a workspace on a local disk, or a MongoDB server of your cluster",
            )
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(self.home / "lock", START_SECONDS):
            if self._running_pid() is None:
                self._launch()
            self._prepare()
            return self.uri()

    def stop(self) -> None:
        """Shut the server down cleanly and wait for its end; nothing to do where none runs."""
        if not self.home.is_dir():
            return
        with file_lock(self.home / "lock", START_SECONDS):
            pid = self._running_pid()
            if pid is not None:
                self._shut_down(pid)
            record = ServerRecord.read(self.record_file)
            if record is not None:
                record.stopped().write(self.record_file)

    def status(self) -> MongodStatus:
        """The state of the server as seen from this host."""
        record = ServerRecord.read(self.record_file)
        if record is None:
            return MongodStatus(False, None, None, None, self.data, self.log)
        if not record.is_here:
            return MongodStatus(record.started, None, record.port, record.host, self.data, self.log)
        pid = self._running_pid()
        return MongodStatus(pid is not None, pid, record.port, record.host, self.data, self.log)

    def uri(self) -> str:
        """The connection string of a server that has been started, with its password.

        Raises
        ------
        GodeltaError
            Where the workspace has no private database yet.
        """
        record = ServerRecord.read(self.record_file)
        if record is None or not self._password_file.exists():
            raise GodeltaError(
                "this workspace has no private database yet",
                where=str(self.home),
                mend="start it with: godelta db start",
            )
        password = self._password_file.read_text().strip()
        return f"mongodb://{USER}:{password}@{HOST}:{record.port}/?authSource=admin&directConnection=true"

    def _running_pid(self) -> int | None:
        """The pid of our server on this host, None where none runs; refuses that of another host."""
        record = ServerRecord.read(self.record_file)
        if record is None:
            return None
        if not record.is_here:
            if not record.started:
                return None
            raise GodeltaError(
                f"the private database was started on the host {record.host} and not stopped there",
                where=str(self.home),
                mend=f"run `godelta db stop` on {record.host}; if that machine is gone for good, "
                f"delete {self.record_file}",
            )
        if record.is_alive(self.data):
            return record.pid
        # A start that was killed before it could note the pid leaves only mongod's own pid file.
        text = self._pid_file.read_text().strip() if self._pid_file.exists() else ""
        if text.isdigit():
            adopted = ServerRecord.of_process(record.port, int(text))
            if adopted is not None and adopted.is_alive(self.data):
                adopted.write(self.record_file)
                return adopted.pid
        return None

    def _launch(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        for secret in (self._password_file, self._key_file):
            if not secret.exists():
                write_private(secret, secrets.token_hex(24))
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.old"))
        binary = find_mongod()
        previous = ServerRecord.read(self.record_file)
        port = _free_port(previous.port if previous else None)
        for _ in range(5):
            # Host and port are noted first: a kill during the start then leaves a usable record.
            ServerRecord.starting(port).write(self.record_file)
            self._pid_file.unlink(missing_ok=True)
            code = self._run(binary, port)
            if code == 0:
                break
            if "Address already in use" not in log_tail(self.log):
                raise GodeltaError(
                    f"mongod did not start (exit code {code}):\n{log_tail(self.log)}", where=str(self.log)
                )
            port = _free_port(None)
        else:
            raise GodeltaError("no free port found for the private database", where=str(self.log))
        record = ServerRecord.of_process(port, int(self._pid_file.read_text()))
        if record is None:
            raise GodeltaError(f"mongod ended at once:\n{log_tail(self.log)}", where=str(self.log))
        record.write(self.record_file)

    def _run(self, binary: Path, port: int) -> int:
        command = [str(binary), "--dbpath", str(self.data), "--port", str(port), "--bind_ip", HOST]
        command += ["--replSet", "rs0", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"]
        command += ["--keyFile", str(self._key_file), "--pidfilepath", str(self._pid_file)]
        # A unix socket's path is limited to 107 bytes and /tmp is shared: loopback only.
        command += ["--logpath", str(self.log), "--logappend", "--nounixsocket", "--fork"]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        # mongod refuses to start under a locale that is not installed.
        environment = {**os.environ, "LC_ALL": "C"}
        with (self.home / "start.log").open("wb") as output:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                timeout=START_SECONDS,
                check=False,
            ).returncode

    def _prepare(self) -> None:
        """Make the server a writable replica set of one with our user; every step may be repeated."""
        record = ServerRecord.read(self.record_file)
        assert record is not None
        member = f"{HOST}:{record.port}"
        try:
            with _client(self.uri()) as client:
                if _authenticates(client):
                    _repair_member(client, member)
                    _wait_for_primary(client)
                    return
            with _client(f"mongodb://{member}/?directConnection=true") as client:
                self._create_user(client, member)
        except (PyMongoError, TimeoutError) as error:
            raise GodeltaError(
                f"the private database does not answer: {error}\n{log_tail(self.log)}", where=str(self.log)
            ) from error

    def _create_user(self, client: MongoClient[dict[str, Any]], member: str) -> None:
        """First start: without any user, loopback may initiate the set and create the first one."""
        try:
            config = {"_id": "rs0", "members": [{"_id": 0, "host": member}]}
            _tolerating(client, {"replSetInitiate": config}, _ALREADY_INITIALIZED)
            _wait_for_primary(client)
            password = self._password_file.read_text().strip()
            _tolerating(client, {"createUser": USER, "pwd": password, "roles": ["root"]}, _USER_EXISTS)
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            raise GodeltaError(
                "the password does not open this database",
                where=str(self._password_file),
                mend="restore the password file that belongs to the data",
            ) from error

    def _shut_down(self, pid: int) -> None:
        try:
            with _client(self.uri()) as client:
                client.admin.command("shutdown", force=True, timeoutSecs=0)
        except PyMongoError:
            # The connection always breaks; a server that did not even listen gets the signal.
            pass
        if wait_for_end(pid, STOP_SECONDS):
            return
        os.kill(pid, signal.SIGTERM)
        if not wait_for_end(pid, STOP_SECONDS):
            raise GodeltaError(f"mongod (pid {pid}) did not stop:\n{log_tail(self.log)}", where=str(self.log))


@contextmanager
def _client(uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=30_000, tz_aware=True) as client:
        yield client


def _authenticates(client: MongoClient[dict[str, Any]]) -> bool:
    try:
        client.admin.command("ping")
    except OperationFailure as error:
        if error.code == _AUTHENTICATION_FAILED:
            return False
        raise
    return True


def _tolerating(client: MongoClient[dict[str, Any]], command: dict[str, Any], code: int) -> None:
    try:
        client.admin.command(command)
    except OperationFailure as error:
        if error.code != code:
            raise


def _repair_member(client: MongoClient[dict[str, Any]], member: str) -> None:
    """After a change of port the replica set still names the old one.

    A server that has just started looks for itself at the old port first, which takes up to half a
    minute where something silent listens there.
    """
    deadline = time.monotonic() + PRIMARY_SECONDS
    while True:
        try:
            config = client.admin.command("replSetGetConfig")["config"]
            if config["members"][0]["host"] == member:
                return
            config["members"][0]["host"] = member
            config["version"] += 1
            client.admin.command("replSetReconfig", config, force=True)
        except (OperationFailure, ConnectionFailure) as error:
            # A change of the configuration closes every connection.
            starting = isinstance(error, ConnectionFailure) or error.code in _STILL_STARTING
            if not starting or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _wait_for_primary(client: MongoClient[dict[str, Any]]) -> None:
    deadline = time.monotonic() + PRIMARY_SECONDS
    while True:
        try:
            if client.admin.command("hello").get("isWritablePrimary"):
                return
        except ConnectionFailure:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise TimeoutError(f"not writable after {PRIMARY_SECONDS:.0f} s")
        time.sleep(0.05)


def _free_port(preferred: int | None) -> int:
    """The preferred port where nothing listens on it, else any free one of `PORTS`."""
    tries = [] if preferred is None else [preferred]
    tries += [PORTS.start + secrets.randbelow(len(PORTS)) for _ in range(100)]
    for port in tries:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise GodeltaError("no free port on the loopback interface")
