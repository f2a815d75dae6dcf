"""A SLURM cluster of one node, with accounting, in a temporary folder."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

NODE = "node1"
CPUS = 8  # more than there are: several pilots at once, each of them mostly asleep
SBIN = "/usr/sbin:/sbin"
HOSTS = Path("/etc/hosts")

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}({address})
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge/socket
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=1
KillWait=2
SlurmdTimeout=10
MinJobAge=300
InactiveLimit=0
NodeName={node} NodeHostname={host} NodeAddr={address} CPUs={cpus} RealMemory=64000 State=UNKNOWN
PartitionName=debug Nodes={node} Default=YES MaxTime=60 State=UP OverSubscribe=FORCE:4
PartitionName=second Nodes={node} MaxTime=60 State=UP OverSubscribe=FORCE:4
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CommunicationParameters=NoInAddrAny
DbdHost={host}
DbdAddr={address}
DbdPort={slurmdbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
PluginDir={plugins}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
"""
MARIADB_SQL = """
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON slurm_acct.* TO slurm@'127.0.0.1';
"""


class Cluster:
    """The daemons, and what a test asks of them.

    Every daemon is a child of this process, ends with it, and is stopped by its process id.
    """

    def __init__(self) -> None:
        # Short, since sockets lie in it; not in pytest's folder, which other users cannot enter.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        # Batch jobs run in login shells, which are killed here in the middle of whatever a profile does.
        home = self.folder / "home"
        home.mkdir()
        self.environment = os.environ | {
            "HOME": str(home),
            "SLURM_CONF": str(self.conf),
            "PATH": f"{os.environ['PATH']}:{SBIN}",
        }
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._write_configuration()

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    # Start and stop

    def start(self) -> None:
        """Bring everything up, until the node takes jobs."""
        self.start_munged()
        self.start_mariadbd()
        self.start_accounting()
        self.command("sacctmgr", "-i", "add", "cluster", "test")
        self.start_controller()
        self.start_slurmd()

    def stop(self) -> None:
        """End every job and every daemon, and remove the folder; also after half a start."""
        try:
            if self._runs("slurmctld") and self._runs("slurmd"):
                self.drain()
        finally:
            for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
                self._end(name)
            self._end_steps()
            shutil.rmtree(self.folder, ignore_errors=True)

    def drain(self, seconds: float = 30.0) -> None:
        """Cancel every job, and wait for the last one."""
        self.command("scancel", "--user=root")
        end = time.monotonic() + seconds
        while self.squeue() and time.monotonic() < end:
            time.sleep(0.1)

    def mend(self) -> None:
        """Bring up again what a test has taken down."""
        if not self._runs("slurmctld"):
            self.start_controller()
        if not self._runs("slurmd"):
            self.start_slurmd()
        if self.node_state().startswith(("down", "drain")):
            self.node_up()

    def start_controller(self) -> None:
        self._spawn("slurmctld", "slurmctld", "-D")
        self._wait(lambda: "UP" in self.command("scontrol", "ping", check=False), "slurmctld")

    def stop_controller(self, number: int = signal.SIGTERM) -> None:
        self._end("slurmctld", number)

    def start_accounting(self) -> None:
        self._spawn("slurmdbd", "slurmdbd", "-D")
        self._wait(lambda: self._answers("sacctmgr", "-n", "show", "cluster"), "slurmdbd")

    def stop_accounting(self) -> None:
        self._end("slurmdbd")

    def start_slurmd(self) -> None:
        self._spawn("slurmd", "slurmd", "-D")
        self._wait(lambda: self.node_state() in ("idle", "mixed", "allocated"), "slurmd")

    def kill_slurmd(self) -> None:
        """As if the node had lost its power: slurmd, the jobs and their steps end without a word."""
        self._end("slurmd", signal.SIGKILL)
        self._end_steps()

    # Questions and orders

    def command(self, *words: object, check: bool = True, cwd: Path | None = None) -> str:
        """What a command of SLURM prints."""
        done = subprocess.run(
            [*map(str, words)], env=self.environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, script: str, *options: object, folder: Path | None = None) -> int:
        """Queue a script; the job's id."""
        path = (folder or self.folder) / f"job-{secrets.token_hex(4)}.sh"
        path.write_text(script if script.startswith("#!") else f"#!/bin/bash\n{script}")
        return int(self.command("sbatch", "--parsable", *options, path, cwd=folder or self.folder))

    def squeue(self) -> dict[int, str]:
        """The state of every job that is in the queue."""
        lines = self.command("squeue", "--noheader", "--all", "--format=%A %T").splitlines()
        return {int(job): state for job, state in (line.split() for line in lines)}

    def sacct(self, job: int) -> str:
        """The state of a job as accounting has it, e.g. COMPLETED; empty where it knows none."""
        out = self.command("sacct", "--jobs", job, "-X", "--noheader", "--parsable2", "--format=State")
        return out.split()[0] if out.split() else ""

    def state(self, job: int) -> str:
        """The state of a job as the controller has it."""
        found = re.search(r"JobState=(\S+)", self.command("scontrol", "show", "job", job))
        return found.group(1) if found else ""

    def wait_for(self, job: int, *states: str, seconds: float = 60.0) -> None:
        """Wait until the controller has a job in one of these states."""
        self._wait(lambda: self.state(job) in states, f"job {job}: {states}", seconds)

    def cancel(self, job: int, *options: str) -> None:
        self.command("scancel", *options, job)

    def end_time(self, job: int, seconds: int) -> None:
        """Let a running job's time limit come in so many seconds."""
        self.command("scontrol", "update", f"JobId={job}", f"EndTime=now+{seconds}seconds")

    def node_state(self) -> str:
        return self.command("sinfo", "--noheader", "--format=%T", check=False).split("\n", maxsplit=1)[0]

    def node_down(self) -> None:
        self.command("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=test")

    def node_up(self) -> None:
        self.command("scontrol", "update", f"NodeName={NODE}", "State=RESUME")

    # Inside

    def _write_configuration(self) -> None:
        host = socket.gethostname()
        try:
            address = socket.gethostbyname(host)
        except OSError:
            address = "127.0.0.1"
            with HOSTS.open("a") as stream:
                stream.write(f"\n{address} {host}\n")
        self.values = {
            "folder": self.folder,
            "host": host.split(".")[0],
            "address": address,
            "node": NODE,
            "cpus": CPUS,
            "plugins": next(Path("/usr/lib").glob("*/slurm-wlm")),
            "password": secrets.token_hex(16),
            **dict(zip(("slurmctld", "slurmd", "slurmdbd", "mariadbd"), _free_ports(4), strict=True)),
        }
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.conf.write_text(SLURM_CONF.format_map(self.values))
        accounting = self.folder / "slurmdbd.conf"
        accounting.touch(mode=0o600)
        accounting.write_text(SLURMDBD_CONF.format_map(self.values))

    def start_munged(self) -> None:
        folder = self._folder_of("munge", "munge")
        key = folder / "key"
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(128))
        shutil.chown(key, "munge")
        options = {
            "socket": "socket",
            "key-file": "key",
            "pid-file": "pid",
            "seed-file": "seed",
            "log-file": "log",
        }
        words = [f"--{option}={folder / file}" for option, file in options.items()]
        self._spawn("munged", "munged", "--foreground", *words, user="munge")
        self._wait((folder / "socket").exists, "munged")

    def start_mariadbd(self) -> None:
        folder = self._folder_of("mariadb", "mysql")
        options = [f"--datadir={folder}", "--innodb-log-file-size=8M", "--skip-name-resolve"]
        install = ["mariadb-install-db", "--no-defaults", "--user=mysql", "--skip-test-db", *options]
        subprocess.run(install, env=self.environment, check=True, capture_output=True)
        sql = folder / "init.sql"
        sql.touch(mode=0o600)
        sql.write_text(MARIADB_SQL.format_map(self.values))
        shutil.chown(sql, "mysql")
        options += [
            f"--port={self.values['mariadbd']}",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--init-file={sql}",
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        self._spawn("mariadbd", "mariadbd", "--no-defaults", *options, user="mysql")
        self._wait((folder / "socket").exists, "mariadbd")

    def _folder_of(self, name: str, user: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        shutil.chown(folder, user, user)
        return folder

    def _spawn(self, name: str, *words: object, user: str | None = None) -> None:
        """Start a daemon that is told to stop when this process ends, however it ends."""
        other = ["--reuid", user, "--regid", user, "--clear-groups"] if user else []
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", *other, "--pdeathsig", "TERM", *map(str, words)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,
            )

    def _runs(self, name: str) -> bool:
        return name in self.daemons and self.daemons[name].poll() is None

    def _end(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self.daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(timeout=20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _end_steps(self) -> None:
        """Kill the daemons of this cluster's jobs, which nobody is parent of, with all that they started."""
        for step in psutil.process_iter():
            try:
                if step.name() != "slurmstepd" or step.cwd() != str(self.folder):  # its slurmd's
                    continue
                family = [step, *step.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def _answers(self, *words: str) -> bool:
        done = subprocess.run(words, env=self.environment, capture_output=True, check=False)
        return done.returncode == 0

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or (what in self.daemons and not self._runs(what)):
                raise TimeoutError(f"{what}: waited in vain\n{self._tails()}")
            time.sleep(0.05)

    def _tails(self) -> str:
        """The end of every log: the folder is gone when somebody could look."""
        logs = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1000:]}" for log in logs)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
