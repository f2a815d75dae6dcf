"""The workspace: the folder that holds a user's settings, private database, logs and plots."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from godelta.errors import GodeltaError, InputError
from godelta.redaction import remember_uri
from godelta.settings import Settings
from godelta.store.credentials import UriSource, read_uri
from godelta.store.database import Store, connect
from godelta.store.mongod import IDLE_MINUTES, PrivateMongod
from godelta.yaml_file import read_yaml

SETTINGS_FILE = "godelta.yaml"
STATE_FOLDER = ".godelta"
SCRATCH = "GODELTA_SCRATCH"  # environment variable: a folder for scratch files, such as a node's own disk


class DatabaseSettings(UriSource):
    """Where campaigns are kept: a private mongod in the workspace, or a server of your own."""

    name: str = Field("godelta", pattern=r"^[A-Za-z0-9_-]{1,60}$")
    idle_minutes: float | None = Field(
        IDLE_MINUTES,
        ge=0,
        description="the private server stops itself after so long without a client; 0 or null: never",
    )


class WorkspaceSettings(Settings):
    """Contents of godelta.yaml in a workspace."""

    database: DatabaseSettings = DatabaseSettings()
    programs: tuple[str, ...] | None = Field(
        None,
        description="what workers may run for campaigns: import paths of calculators, or their packages, and"
        " commands that start engines; not given: whatever a campaign names",
    )


@dataclass(frozen=True)
class Workspace:
    """A workspace's folder and what lies in it."""

    folder: Path

    @classmethod
    def find(cls, explicit: Path | None = None) -> "Workspace":
        """The folder asked for, else $GODELTA_WORKSPACE, else the nearest one above, else here."""
        chosen = explicit or (
            Path(os.environ["GODELTA_WORKSPACE"]) if "GODELTA_WORKSPACE" in os.environ else None
        )
        if chosen is not None:
            return cls(chosen.expanduser().resolve())
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / SETTINGS_FILE).is_file() or (folder / STATE_FOLDER / "db").is_dir():
                return cls(folder)
        return cls(here)

    @classmethod
    def existing(cls, explicit: Path | None = None) -> "Workspace":
        """As `find`, for commands that only look.

        Raises
        ------
        InputError
            There is no workspace: nothing is made, nothing is started.
        """
        found = cls.find(explicit)
        if not ((found.folder / SETTINGS_FILE).is_file() or (found.state / "db").is_dir()):
            raise InputError(
                "no workspace here, nor in a folder above",
                where=str(found.folder),
                mend="go to a workspace, name one with --workspace, or make one with `godelta init`",
            )
        return found

    @property
    def state(self) -> Path:
        """Folder of everything that is not for reading by people."""
        return self.folder / STATE_FOLDER

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.state / "logs"

    @property
    def scratch(self) -> Path:
        """Folder of running evaluations: in $GODELTA_SCRATCH where that is set, one per user and workspace.

        Raises
        ------
        InputError
            The variable holds no absolute path.
        """
        given = os.environ.get(SCRATCH, "").strip()
        if not given:
            return self.state / "scratch"
        folder = Path(os.path.expandvars(given)).expanduser()
        if not folder.is_absolute() or "$" in str(folder):
            raise InputError(
                f"it has to be the whole path of a folder, not {given!r}",
                where=f"environment variable {SCRATCH}",
                mend=f"export {SCRATCH}=/path/on/this/node, or leave it unset: the workspace is taken",
            )
        mark = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return folder / f"godelta-{os.getuid()}-{mark}"

    def prepare(self) -> None:
        """Make the folders.

        Raises
        ------
        GodeltaError
            The workspace or its scratch folder cannot be written, or others could write to the latter.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GodeltaError(
                f"cannot be written: {error.strerror}",
                where=str(self.folder),
                mend="choose another folder with --workspace",
            ) from None
        self._prepare_scratch()

    def _prepare_scratch(self) -> None:
        folder = self.scratch
        elsewhere = folder.parent != self.state
        try:
            folder.mkdir(mode=0o700 if elsewhere else 0o777, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError as error:
            raise GodeltaError(
                f"the folder for scratch files cannot be made: {error.strerror}",
                where=str(folder),
                mend=f"set {SCRATCH} to a folder that you may write to" if elsewhere else "make room there",
            ) from None
        # Results of killed attempts are taken from there, so nobody else may put any in.
        if elsewhere and (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid != os.getuid()
            or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            raise GodeltaError(
                "the folder for scratch files is another user's, or others may write to it",
                where=str(folder),
                mend=f"remove it, or set {SCRATCH} to a folder of your own",
            )

    def settings(self) -> WorkspaceSettings:
        """The workspace's settings; defaults where it has no file.

        Raises
        ------
        InputError
            The file cannot be read, is no YAML or holds unknown keys.
        """
        path = self.folder / SETTINGS_FILE
        if not path.is_file():
            return WorkspaceSettings()
        values = read_yaml(path).values
        try:
            return WorkspaceSettings.model_validate({} if values is None else values)
        except ValidationError as error:
            problems = "; ".join(
                f"`{'.'.join(map(str, item['loc'])) or 'the file'}`: {item['msg']}" for item in error.errors()
            )
            raise InputError(
                problems, where=str(path), mend="it holds `database: {uri_file: ..., name: ...}`, or nothing"
            ) from None

    def server(self) -> PrivateMongod:
        """The private server, running or not.

        Raises
        ------
        InputError
            The settings cannot be used.
        """
        return PrivateMongod(self.folder, self.settings().database.idle_minutes)

    def database_uri(self, *, start: bool) -> tuple[str, str]:
        """URI and name of the database; `start` starts the private server where it is not running.

        Raises
        ------
        InputError
            The URI of the user's own server cannot be had, or others may read it.
        GodeltaError
            The private server is not running (and was not to be started), or cannot start, or the
            workspace cannot be written.
        """
        database = self.settings().database
        if not database.is_private:
            return read_uri(database, self.folder / SETTINGS_FILE), database.name
        if start:
            self.prepare()
        server = self.server()
        uri = server.start() if start else server.uri()
        remember_uri(uri)
        return uri, database.name

    def connect(self, *, start: bool = False) -> Store:
        """Open the database and make its indexes."""
        uri, name = self.database_uri(start=start)
        store = connect(uri, name)
        store.ensure_indexes()
        return store
