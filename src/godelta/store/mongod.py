"""The private MongoDB server of a workspace: found, started and stopped by godelta itself."""

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from godelta.errors import GodeltaError
from godelta.store.keeper import count_clients, ensure_keeper, note_use
from godelta.store.mongod_binary import find_mongod
from godelta.store.mongodlog import explain_end, log_tail
from godelta.store.serverfile import (
    ServerRecord,
    file_lock,
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
PORT_SECONDS = 20.0  # a process that was killed holds its port until the system has cleared it away
LOG_BYTES = 20_000_000
IDLE_MINUTES = 30.0

_ENDED_BY_SIGNAL = 51  # exit code of `mongod --fork` where the server was killed while it started
_UNAUTHORIZED, _AUTHENTICATION_FAILED, _ALREADY_INITIALIZED, _USER_EXISTS = 13, 18, 23, 51003
# NotYetInitialized, ConfigurationInProgress, InterruptedDueToReplStateChange
_STILL_STARTING = frozenset({94, 109, 11602})

log = logging.getLogger(__name__)


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
    idle_minutes
        The server stops by itself after so many minutes without a client; 0 or None: never.
    """

    def __init__(self, workspace: Path, idle_minutes: float | None = IDLE_MINUTES) -> None:
        self.workspace = workspace.resolve()
        self.idle_seconds = idle_minutes * 60 if idle_minutes else None
        self.home = self.workspace / ".godelta" / "db"
        self.data = self.home / "data"
        self.log = self.home / "mongod.log"
        self.record_file = self.home / "server.json"
        self._pid_file = self.home / "mongod.pid"
        self._password_file = self.home / "password"
        self._key_file = self.home / "keyfile"
        self._first_start = self.home / "first-start"  # there until the data have been usable once

    def start(self, only_if: Callable[[], bool] = lambda: True) -> str:
        """Start the server unless it runs already, and return its URI.

        Parameters
        ----------
        only_if
            Asked once nobody else can start or stop the server: whether it shall still be started.

        Raises
        ------
        GodeltaError
            Where it runs on another host, the disk is a network file system, full or read-only, or it
            does not start.
        """
        kind = network_file_system(self.home)
        if kind:
            raise GodeltaError(
                f"the private database cannot live on a network file system ({kind})",
                where=str(self.home),
                mend="use a workspace on a local disk, or a MongoDB server of your cluster",
            )
        with self._writable():
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file_lock(self.home / "lock", START_SECONDS):
                if not only_if():
                    return self.uri()
                running = self._running()
                if running is None:
                    self._launch()
                else:
                    running.write(self.record_file)  # it may have been found by mongod's own pid file
                self._prepare()
                if self._first_start.exists():
                    self._make_durable()
                    self._first_start.unlink()
                note_use(self.home, self.idle_seconds)
                if self.idle_seconds is not None:
                    ensure_keeper(self.workspace, self.home)
                return self.uri()

    def stop(self, only_if: Callable[[], bool] = lambda: True) -> bool:
        """Shut the server down cleanly and wait for its end; nothing to do where none runs.

        Parameters
        ----------
        only_if
            Asked once nobody else can start or stop the server: whether it shall still be stopped.

        Returns
        -------
        bool
            Whether it was to be stopped.
        """
        if not self.home.is_dir():
            return True
        with self._writable(), file_lock(self.home / "lock", START_SECONDS):
            running = self._running()
            if not only_if():
                return False
            if running is not None and running.pid is not None:
                self._shut_down(running.pid)
                log.info("database server stopped: pid %s", running.pid)
            record = ServerRecord.read(self.record_file)
            if record is not None:
                record.stopped().write(self.record_file)
            return True

    def clients(self) -> int:
        """How many connections other processes have to the server."""
        record = ServerRecord.read(self.record_file)
        if record is None or record.pid is None or not record.is_alive(self.data):
            return 0
        return count_clients(record.pid, record.port, besides=os.getpid())

    def status(self) -> MongodStatus:
        """The state of the server as seen from this host."""
        record = ServerRecord.read(self.record_file)
        if record is None:
            return MongodStatus(False, None, None, None, self.data, self.log)
        if not record.is_here:
            return MongodStatus(record.started, None, record.port, record.host, self.data, self.log)
        running = self._running()
        pid = running.pid if running else None
        return MongodStatus(pid is not None, pid, record.port, record.host, self.data, self.log)

    def crash(self) -> GodeltaError | None:
        """Why the server ended without having been stopped; None where it runs or was stopped."""
        record = ServerRecord.read(self.record_file)
        if record is None or not (record.is_here and record.started) or self.status().running:
            return None
        return self._explained("the server was killed; its last words")

    def uri(self) -> str:
        """The connection string of a server that has been started, with its password.

        Raises
        ------
        GodeltaError
            Where the workspace has no private database yet.
        """
        record = ServerRecord.read(self.record_file)
        if record is None:
            raise GodeltaError(
                "this workspace has no private database yet",
                where=str(self.home),
                mend="start it with: godelta db start",
            )
        if not self._password_file.exists():
            raise self._no_password()
        password = self._password_file.read_text().strip()
        return f"mongodb://{USER}:{password}@{HOST}:{record.port}/?authSource=admin&directConnection=true"

    def _explained(self, otherwise: str) -> GodeltaError:
        return explain_end(self.home, self.log, otherwise)

    def _silent_end(self, binary: Path, code: int) -> GodeltaError:
        """It ended before it could open its log: what it printed must do."""
        printed = (self.home / "start.log").read_text(errors="replace").strip()[-2000:]
        return GodeltaError(
            f"{binary} did not start (exit code {code}):\n{printed or '(it printed nothing)'}",
            where=str(self.home),
            mend="is there space on the disk, and is this a mongod for this system? GODELTA_MONGOD names "
            "another one",
        )

    def _no_password(self) -> GodeltaError:
        return GodeltaError(
            "the database's password is missing",
            where=str(self._password_file),
            mend="bring the file back that belongs to the data; without it nobody can read them. To begin "
            f"anew, stop the server and move {self.home} away; then: godelta db restore FILE, if you have "
            "a backup",
        )

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Say what is wrong with the disk."""
        try:
            yield
        except OSError as error:
            raise GodeltaError(
                f"the private database cannot be written: {error.strerror or error}",
                where=str(error.filename or self.home),
                mend="make space on the disk, or get the rights to write there",
            ) from error

    def _running(self) -> ServerRecord | None:
        """Our server on this host, None where none runs; refuses that of another host."""
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
            return record
        # A start that was killed before it could note the pid leaves only mongod's own pid file.
        noted = self._noted_pid()
        if noted is not None:
            adopted = ServerRecord.of_process(record.port, noted)
            if adopted is not None and adopted.is_alive(self.data):
                return adopted
        return None

    def _noted_pid(self) -> int | None:
        text = self._pid_file.read_text().strip() if self._pid_file.exists() else ""
        return int(text) if text.isdigit() else None

    def _lay_out(self) -> None:
        """Data directory, password and key, where they are not there."""
        if self._first_start.exists():
            # The very first start did not succeed: nobody has ever written to what it left behind.
            shutil.rmtree(self.data, ignore_errors=True)
        if not self.data.exists():
            self._first_start.touch()
            self.data.mkdir(mode=0o700)
        if (self.data / "WiredTiger").exists() and not self._password_file.exists():
            raise self._no_password()
        for secret in (self._password_file, self._key_file):
            if not secret.exists():
                write_private(secret, secrets.token_hex(24))
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.old"))

    def _launch(self) -> None:
        self._lay_out()
        binary = find_mongod()
        previous = ServerRecord.read(self.record_file)
        # Whoever worked with a server that was killed looks for it at its old port.
        patience = PORT_SECONDS if previous is not None and previous.started else 0.0
        port = _free_port(previous.port if previous else None, patience)
        for attempt in range(5):
            # Host and port are noted first: a kill during the start then leaves a usable record.
            ServerRecord.starting(port).write(self.record_file)
            self._pid_file.unlink(missing_ok=True)
            logged = self.log.stat().st_size if self.log.exists() else 0
            code = self._run(binary, port)
            if code == 0:
                break
            if not self.log.exists() or self.log.stat().st_size == logged:
                raise self._silent_end(binary, code)
            if code == _ENDED_BY_SIGNAL and attempt < 2:  # mongod also ends itself so, on damaged data
                continue
            if "Address already in use" not in log_tail(self.log):
                raise self._explained(f"mongod did not start (exit code {code})")
            port = _free_port(port if attempt < 2 else None, patience)
        else:
            raise GodeltaError(
                "no free port found for the private database",
                where=str(self.log),
                mend="try again, or name a server of your own in godelta.yaml",
            )
        noted = self._noted_pid()
        record = None if noted is None else ServerRecord.of_process(port, noted)
        if record is None:
            raise self._explained("mongod ended at once")
        record.write(self.record_file)
        log.info("database server started: pid %s, port %s", record.pid, record.port)

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
            raise self._explained(f"the private database does not answer: {error}") from error

    def _make_durable(self) -> None:
        """Bring what the server made for itself into a checkpoint, which a kill leaves whole.

        Recovery replays writes since the last checkpoint. Killed before the first one, a server of version
        6.0 may not recover: its table of transactions is then missing for the writes that touch it.
        """
        with _client(self.uri()) as client:
            client["godelta_server"]["starts"].insert_one({})  # a retryable write makes the table
            client.admin.command("fsync")

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
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not wait_for_end(pid, STOP_SECONDS):
            raise GodeltaError(
                f"mongod (pid {pid}) did not stop:\n{log_tail(self.log)}",
                where=str(self.log),
                mend=f"wait and try again; at last `kill -9 {pid}`: no committed data are lost",
            )


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


def _free_port(preferred: int | None, patience: float = 0.0) -> int:
    """The preferred port where nothing listens on it within `patience` (s), else any free one of `PORTS`."""
    deadline = time.monotonic() + patience
    while preferred is not None and not _is_free(preferred) and time.monotonic() < deadline:
        time.sleep(0.2)
    tries = [] if preferred is None else [preferred]
    tries += [PORTS.start + secrets.randbelow(len(PORTS)) for _ in range(100)]
    for port in tries:
        if _is_free(port):
            return port
    raise GodeltaError(
        "no free port on the loopback interface",
        where="127.0.0.1",
        mend="end programs that hold ports, or name a server of your own in godelta.yaml",
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
