"""Where the database's URI comes from, and what is said when it does not open the database."""

import os
import re
import stat
from pathlib import Path
from urllib.parse import quote, unquote

from pydantic import Field, SecretStr, model_validator
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.uri_parser import parse_uri, split_options

from godelta.errors import GodeltaError, InputError
from godelta.redaction import password_of, remember_uri
from godelta.settings import Settings

SCHEMES = ("mongodb://", "mongodb+srv://")
MAX_BYTES = 10_000
_FORM = "mongodb://user:password@host:27017/?authSource=admin"
_ESCAPE = "write the signs : / ? # [ ] @ % of user and password as %3A %2F %3F %23 %5B %5D %40 %25"
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18


class TlsSettings(Settings):
    """Files for an encrypted connection; relative paths start from the workspace."""

    ca_file: Path | None = Field(None, description="certificates (PEM) of whom the server's is signed by")
    certificate_key_file: Path | None = Field(
        None, description="own certificate and key (PEM), where the server asks for one"
    )


class UriSource(Settings):
    """A server of the user's own: one of three places that hold its URI; none of them: the private server."""

    uri: SecretStr | None = Field(
        None, description="mongodb:// URI; with a password only in a file of mode 0600"
    )
    uri_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="environment variable that holds the URI"
    )
    uri_file: Path | None = Field(None, description="file that holds the URI, which only its owner may read")
    tls: TlsSettings | None = Field(None, description="files for an encrypted connection to that server")

    @model_validator(mode="after")
    def _one_place(self) -> "UriSource":
        given = [name for name in ("uri", "uri_env", "uri_file") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"the URI has to stand in one place, not in {' and '.join(given)}")
        if self.tls is not None and not given:
            raise ValueError("tls belongs to a server of your own: give its uri_env, uri_file or uri as well")
        return self

    @property
    def is_private(self) -> bool:
        """Whether campaigns are kept by the workspace's private server."""
        return self.uri is None and self.uri_env is None and self.uri_file is None


def read_uri(source: UriSource, settings_file: Path) -> str:
    """The URI of the user's own server, with its TLS options.

    Raises
    ------
    InputError
        It is not where it should be, others may read it, or it is no URI of a MongoDB server.
    """
    uri, where = _find(source, settings_file)
    remember_uri(uri)
    if not uri.startswith(SCHEMES):
        raise InputError(
            "it holds no URI of a MongoDB server", where=where, mend=f"it begins with mongodb://: {_FORM}"
        )
    if source.tls is not None:
        uri = _with_tls(uri, source.tls, settings_file)
    return uri


def _find(source: UriSource, settings_file: Path) -> tuple[str, str]:
    if source.uri is not None:
        uri = source.uri.get_secret_value().strip()
        if password_of(uri):
            _refuse_readable(settings_file)
        return uri, f"{settings_file}, database.uri"
    if source.uri_env is not None:
        return _from_environment(source.uri_env, settings_file), f"environment variable {source.uri_env}"
    assert source.uri_file is not None
    path = _absolute(source.uri_file, settings_file)
    return _from_file(path), str(path)


def _absolute(path: Path, settings_file: Path) -> Path:
    return settings_file.parent / path.expanduser()


def _refuse_readable(settings_file: Path) -> None:
    mode = settings_file.stat().st_mode
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        raise InputError(
            f"others may read this file (mode {stat.S_IMODE(mode):04o}), which holds the database's password",
            where=str(settings_file),
            mend=f"chmod 600 {settings_file}; or keep the URI elsewhere: database: {{uri_file: PATH}}",
        )


def _from_environment(name: str, settings_file: Path) -> str:
    uri = os.environ.get(name, "").strip()
    if not uri:
        raise InputError(
            f"the environment variable {name}, which should hold the database's URI, is not set",
            where=str(settings_file),
            mend=f"export {name}=...; a batch job gets it by `sbatch --export=ALL` (or --export={name}),"
            "\n  or keep the URI in a file that only you may read: database: {uri_file: PATH}",
        )
    return uri


def _from_file(path: Path) -> str:
    """Read a file that must be the user's own; what is checked is what is read, whoever moves files about."""
    make = f"write the URI into it (one line, {_FORM}), then: chmod 600 {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(
            f"the file with the database's URI cannot be read: {error.strerror}", where=str(path), mend=make
        ) from None
    try:
        _refuse_shared(os.fstat(descriptor), path, make)
        content = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    lines = content.decode(errors="replace").split()
    if len(lines) != 1:
        raise InputError(
            "the file is empty" if not lines else "it has to hold the database's URI and nothing else",
            where=str(path),
            mend=make,
        )
    return lines[0]


def _refuse_shared(state: os.stat_result, path: Path, make: str) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise InputError("the database's URI has to stand in a file", where=str(path), mend=make)
    if state.st_uid != os.geteuid():
        raise InputError(
            f"the file with the database's URI belongs to another user (number {state.st_uid})",
            where=str(path),
            mend="use a file of your own: whoever owns it could send you to another server",
        )
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"others may read the file with the database's URI (mode {stat.S_IMODE(state.st_mode):04o})",
            where=str(path),
            mend=f"chmod 600 {path}",
        )


def _with_tls(uri: str, tls: TlsSettings, settings_file: Path) -> str:
    """The URI with TLS options: FireWorks and jobflow get nothing else."""
    where = f"{settings_file}, database.tls"
    if re.search(r"[?&](tls|ssl)", uri, re.IGNORECASE):
        raise InputError("the URI has TLS options too", where=where, mend="keep those of one place")
    options = ["tls=true"]
    for name, given in (("tlsCAFile", tls.ca_file), ("tlsCertificateKeyFile", tls.certificate_key_file)):
        if given is None:
            continue
        path = _absolute(given, settings_file)
        if not os.access(path, os.R_OK) or not path.is_file():
            raise InputError(
                "cannot be read", where=f"{where}: {path}", mend="it has to be a PEM file that you may read"
            )
        if name == "tlsCertificateKeyFile" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError("others may read this private key", where=str(path), mend=f"chmod 600 {path}")
        options.append(f"{name}={quote(str(path.resolve()), safe='/')}")
    base, mark, rest = uri.partition("?")
    if "/" not in base.partition("://")[2].rpartition("@")[2]:
        base += "/"
    return f"{base}?{'&'.join([*([rest] if mark and rest else []), *options])}"


def address_of(uri: str) -> str:
    """The hosts of a URI; a mongodb+srv one is read without asking the name server.

    Raises
    ------
    InputError
        The URI cannot be read.
    """
    remember_uri(uri)
    try:
        if uri.startswith("mongodb+srv://"):
            rest = uri.partition("://")[2].rpartition("@")[2]
            if options := rest.partition("?")[2]:
                split_options(options)
            return re.split("[/?]", rest)[0]
        return ", ".join(f"{host}:{port}" for host, port in parse_uri(uri)["nodelist"])
    except FileNotFoundError as error:
        raise InputError(
            f"a file of the URI's TLS options is not there: {error.filename}",
            mend="give its path on this host",
        ) from None
    except (PyMongoError, ValueError, OSError) as error:
        raise unusable(uri, error) from None


def unusable(uri: str, error: Exception) -> InputError:
    """What to say of a URI that pymongo does not take, without any piece of its password."""
    text = str(error)
    if "DNS" in text or "nameserver" in text:
        return InputError(
            f"the hosts of this mongodb+srv URI cannot be looked up: {text}",
            mend="is the name right, and does this host reach a name server?"
            " A mongodb:// URI that lists the hosts needs none",
        )
    pieces = re.split(r"[:/@?#%\[\]]", unquote(password_of(uri) or uri.partition("://")[2]))
    if "@" in text or any(len(piece) > 2 and piece in text for piece in pieces):
        text = "a sign in it has another meaning there"
    return InputError(f"the database's URI cannot be used: {text}", mend=f"its form is {_FORM}\n  {_ESCAPE}")


def refused(error: OperationFailure, address: str) -> GodeltaError:
    """What to say where a server does not let the user in."""
    said = (error.details or {}).get("errmsg", str(error))
    if error.code in (_UNAUTHORIZED, _AUTHENTICATION_FAILED):
        return GodeltaError(
            f"the MongoDB server refuses the connection: {said}",
            where=address,
            mend="check user, password and authSource of the database's URI; was the password changed?"
            "\n  Put the new one where the URI stands, and give the same command again",
        )
    return GodeltaError(
        f"the MongoDB server refuses the connection: {said}",
        where=address,
        mend="check the database's URI, and what its user may do",
    )


def lost_access(error: Exception) -> str | None:
    """What to say where the server no longer lets this process in; None where that is not the matter."""
    if isinstance(error, OperationFailure) and error.code in (_UNAUTHORIZED, _AUTHENTICATION_FAILED):
        return str(refused(error, "database"))
    return None


def silent(error: ServerSelectionTimeoutError, address: str, seconds: float) -> GodeltaError:
    """What to say where no server answers in time."""
    why = str(error).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
    mend = "is it running and reachable from this host? private database: godelta db start"
    if "certificate" in why or "SSL" in why or "TLS" in why:
        mend = "has the server TLS, and is its certificate signed by one of `database.tls: {ca_file: PATH}`?"
    elif "connection closed" in why or "Connection reset" in why:
        mend = "it closes the connection: does it want TLS? Add `tls=true` to the URI, or `database.tls`"
    return GodeltaError(f"no MongoDB server answers within {seconds:g} s: {why}", where=address, mend=mend)
