"""A MongoDB server that asks for TLS and a password, with a certificate of an authority of our own."""

import json
import stat
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.uri_parser import parse_uri

from godelta.errors import GodeltaError, InputError
from godelta.store.database import connect
from godelta.store.mongod import _free_port
from godelta.store.mongod_binary import find_mongod
from godelta.store.workspace import Workspace

PASSWORD = "p:a/s s@word%1"
QUOTED = "p%3Aa%2Fs%20s%40word%251"


@dataclass(frozen=True)
class TlsServer:
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        return f"mongodb://somebody:{QUOTED}@localhost:{self.port}/?authSource=admin&directConnection=true"


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_certificates(folder: Path) -> None:
    """An authority, and certificates of the server and of a client that it has signed."""
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(
        *new,
        "-x509",
        "-days",
        2,
        "-subj",
        "/CN=our authority",
        "-keyout",
        folder / "ca.key",
        "-out",
        folder / "ca.pem",
    )
    for name in ("server", "client"):
        key, request, certificate = (folder / f"{name}.{ending}" for ending in ("key", "csr", "crt"))
        openssl(*new, "-subj", f"/O=us/CN={name}", "-keyout", key, "-out", request)
        extensions = folder / f"{name}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signed = ("-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", 2)
        openssl("x509", "-req", "-in", request, *signed, "-extfile", extensions, "-out", certificate)
        (folder / f"{name}.pem").write_text(certificate.read_text() + key.read_text())
        (folder / f"{name}.pem").chmod(0o600)
    openssl(
        *new,
        "-x509",
        "-days",
        2,
        "-subj",
        "/CN=a stranger",
        "-keyout",
        folder / "x.key",
        "-out",
        folder / "other.pem",
    )


@pytest.fixture(scope="module")
def tls_server(require, tmp_path_factory):
    require("openssl")
    require("mongod")
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    (folder / "keyfile").write_text("k" * 64)
    (folder / "keyfile").chmod(0o400)
    (folder / "data").mkdir()
    port = _free_port(None, 0.0)
    command = [find_mongod(), "--dbpath", folder / "data", "--port", str(port), "--bind_ip", "127.0.0.1"]
    command += ["--replSet", "rs0", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"]
    command += ["--keyFile", folder / "keyfile", "--logpath", folder / "log"]
    command += [
        "--tlsMode",
        "requireTLS",
        "--tlsCertificateKeyFile",
        folder / "server.pem",
        "--tlsCAFile",
        folder / "ca.pem",
    ]
    process = subprocess.Popen(
        [str(word) for word in command], env={"LC_ALL": "C"}, stdout=subprocess.DEVNULL
    )
    files = {"tlsCAFile": str(folder / "ca.pem"), "tlsCertificateKeyFile": str(folder / "client.pem")}
    with MongoClient(
        "localhost", port, tls=True, directConnection=True, serverSelectionTimeoutMS=60_000, **files
    ) as client:
        hosts = [{"_id": 0, "host": f"localhost:{port}"}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": hosts})
        for _ in range(300):
            if client.admin.command("hello")["isWritablePrimary"]:
                break
            time.sleep(0.1)
        client.admin.command("createUser", "somebody", pwd=PASSWORD, roles=["root"])
    yield TlsServer(folder, port, process)
    process.terminate()
    process.wait(timeout=60)


@pytest.fixture
def place(tls_server, tmp_path):
    """A workspace on that server, its URI in a file."""

    def make(tls, uri=tls_server.uri):
        (tmp_path / "uri").write_text(uri)
        (tmp_path / "uri").chmod(0o600)
        settings = {"uri_file": "uri", "name": f"test_{uuid.uuid4().hex[:12]}"} | (
            {"tls": tls} if tls else {}
        )
        (tmp_path / "godelta.yaml").write_text(json.dumps({"database": settings}))
        return Workspace(tmp_path)

    return make


@pytest.fixture
def files(tls_server):
    return {
        "ca_file": str(tls_server.folder / "ca.pem"),
        "certificate_key_file": str(tls_server.folder / "client.pem"),
    }


def said(workspace):
    """What a connection that cannot be had is answered with."""
    with pytest.raises(GodeltaError) as caught:
        connect(workspace.database_uri(start=False)[0], timeout_ms=1500)
    text = f"{caught.value} {caught.value.__cause__}"
    for piece in (PASSWORD, QUOTED, "s@word", "s%40word"):
        assert piece not in text
    return text


def test_with_both_files(place, files):
    store = place(files).connect()
    store.campaigns.insert_one({"name": "x", "campaign_id": "y"})
    assert store.campaigns.count_documents({}) == 1
    store.close()


def test_with_options_in_the_uri(place, tls_server, files):
    options = f"&tls=true&tlsCAFile={files['ca_file']}&tlsCertificateKeyFile={files['certificate_key_file']}"
    place(None, tls_server.uri + options).connect().close()


def test_fireworks_and_jobflow_are_given_them_too(place, files, monkeypatch):
    from godelta.workflows.launchpad import configure_engines, open_launchpad

    for name in ("FW_CONFIG_FILE", "JOBFLOW_CONFIG_FILE", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")
    workspace = place(files)
    configure_engines(workspace)
    from jobflow import SETTINGS, JobStore
    from monty.serialization import loadfn

    monkeypatch.setattr(SETTINGS, "JOB_STORE", SETTINGS.JOB_STORE)  # so that it is put back
    folder = workspace.state / "fw_config"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ("FW_config.yaml", "jobflow.yaml", "my_fworker.yaml", "my_launchpad.yaml"), 0o600
    )
    assert open_launchpad(workspace).fw_id_assigner.find_one()["next_fw_id"] == 1
    of_the_file = JobStore.from_dict_spec(loadfn(folder / "jobflow.yaml")["JOB_STORE"])
    for outputs in (of_the_file, SETTINGS.JOB_STORE):
        outputs.connect()
        outputs.update({"uuid": "a", "index": 1, "output": 5}, key=["uuid", "index"])
        assert outputs.get_output("a") == 5
        outputs.close()


def test_mismatches_say_what_to_do(place, tls_server, files):
    assert "tls=true" in said(place(None))
    other = files | {"ca_file": str(tls_server.folder / "other.pem")}
    assert "ca_file" in said(place(other))
    without = {"ca_file": files["ca_file"]}
    assert "no MongoDB server answers" in said(place(without))
    wrong = tls_server.uri.replace(QUOTED, "hush-hush-wrong")
    text = said(place(files, wrong))
    assert "was the password changed" in text
    assert "hush" not in text


def test_files_that_are_no_certificates(place, tls_server, files, tmp_path):
    (tmp_path / "nothing.pem").write_text("nothing\n")
    with pytest.raises(InputError) as caught:
        place(files | {"ca_file": "nothing.pem"}).connect()
    assert "word" not in str(caught.value).replace("user:password", "").replace("and password", "")


def test_tls_asked_of_a_server_without(mongod_uri: str) -> None:
    with pytest.raises(GodeltaError, match="has the server TLS") as caught:
        connect(f"{mongod_uri}&tls=true", timeout_ms=1500)
    assert mongod_uri.split("@", maxsplit=1)[0].split(":")[2] not in str(caught.value)


def test_the_private_server_lets_nobody_in_without_its_password(mongod_uri: str) -> None:
    port = parse_uri(mongod_uri)["nodelist"][0][1]
    with connect(mongod_uri).db.client as client:
        names = client["secrecy"].name
        client[names]["things"].insert_one({"a": 1})
        for user in ({}, {"username": "godelta", "password": "guess", "authSource": "admin"}):
            # After a refusal pymongo waits for the next heartbeat: by default 10 s.
            options = {"directConnection": True, "heartbeatFrequencyMS": 500, **user}
            with MongoClient("127.0.0.1", port, **options) as stranger:
                attempts = [
                    lambda c=stranger: c[names]["things"].find_one(),
                    lambda c=stranger: c[names]["things"].insert_one({"a": 2}),
                    lambda c=stranger: c.list_database_names(),
                    lambda c=stranger: c[names].list_collection_names(),
                    lambda c=stranger: c["local"]["oplog.rs"].find_one(),
                    lambda c=stranger: c.admin.command("createUser", "me", pwd="me", roles=["root"]),
                    lambda c=stranger: c.admin.command("shutdown"),
                ]
                for attempt in attempts:
                    with pytest.raises(OperationFailure):
                        attempt()
        assert client[names]["things"].count_documents({}) == 1
        client.drop_database(names)


def test_its_password_stands_in_private_files_only(mongod_uri: str, server) -> None:
    uri = server.start()
    password = uri.split("@", maxsplit=1)[0].split(":")[2]
    for name in ("password", "keyfile", "server.json"):
        assert stat.S_IMODE((server.home / name).stat().st_mode) & 0o077 == 0, name
    assert stat.S_IMODE(server.home.stat().st_mode) == 0o700
    key = (server.home / "keyfile").read_text().strip()
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        assert password not in line
        assert key not in line
    for path in server.home.rglob("*"):
        if path.is_file() and path.parent == server.home and path.name not in ("password", "keyfile"):
            assert password.encode() not in path.read_bytes(), path
    with pytest.raises(GodeltaError) as caught:
        connect(uri.replace(password, "x" * 20), timeout_ms=3000)
    assert password not in str(caught.value)
