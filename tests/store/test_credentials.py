"""Where the database's URI comes from, who may read it, and what is said when it opens nothing."""

import os
from pathlib import Path

import pytest

from godelta import redaction
from godelta.errors import GodeltaError, InputError
from godelta.store.credentials import address_of
from godelta.store.database import connect
from godelta.store.workspace import Workspace

URI = "mongodb://me:hush-hush@127.0.0.1:9/?authSource=admin"


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(redaction, "_known", set())


@pytest.fixture
def place(tmp_path):
    """A workspace with these settings: `place("database: ...")`."""

    def make(text):
        file = tmp_path / "godelta.yaml"
        file.write_text(text)
        file.chmod(0o644)
        return Workspace(tmp_path)

    return make


@pytest.fixture
def secret_file(tmp_path):
    file = tmp_path / "uri"
    file.write_text(f"{URI}\n")
    file.chmod(0o600)
    return file


def message(workspace):
    with pytest.raises(InputError) as caught:
        workspace.database_uri(start=False)
    text = str(caught.value)
    assert "hush" not in text
    return text


def test_from_a_file_of_ones_own(place, secret_file, monkeypatch):
    monkeypatch.setenv("HOME", str(secret_file.parent))
    for path in (secret_file, "uri", "~/uri", "./uri"):
        workspace = place(f"database: {{uri_file: {path}, name: mine}}\n")
        assert workspace.database_uri(start=False) == (URI, "mine")
    secret_file.chmod(0o400)
    assert workspace.database_uri(start=False) == (URI, "mine")
    link = secret_file.with_name("link")
    link.symlink_to(secret_file)
    assert place("database: {uri_file: link}").database_uri(start=False)[0] == URI


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o601, 0o777])
def test_a_file_that_others_may_read_or_write(place, secret_file, mode):
    secret_file.chmod(mode)
    text = message(place("database: {uri_file: uri}"))
    assert f"mode {mode:04o}" in text
    assert f"chmod 600 {secret_file}" in text


def test_a_file_of_somebody_else(place, secret_file, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "belongs to another user" in message(place("database: {uri_file: uri}"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        (f"{URI}\n{URI}\n", "nothing else"),
        ("http://me:hush-hush@h/", "no URI of a MongoDB server"),
        ("me:hush-hush@h", "no URI of a MongoDB server"),
    ],
    ids=["missing", "empty", "blank", "two", "scheme", "bare"],
)
def test_files_without_a_uri(place, secret_file, content, words):
    secret_file.unlink() if content is None else secret_file.write_text(content)
    text = message(place("database: {uri_file: uri}"))
    assert words in text
    assert str(secret_file) in text
    assert "mongodb://user:password@host" in text  # what it should look like


def test_a_folder_or_a_pipe_is_no_such_file(place, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("folder", "pipe"):
        assert "has to stand in a file" in message(place(f"database: {{uri_file: {name}}}"))


def test_from_the_environment(place, monkeypatch):
    workspace = place("database: {uri_env: MY_MONGODB}")
    for value in (None, "", "  "):
        monkeypatch.delenv("MY_MONGODB", raising=False)
        if value is not None:
            monkeypatch.setenv("MY_MONGODB", value)
        text = message(workspace)
        assert "MY_MONGODB" in text
        assert "sbatch --export" in text
        assert "uri_file" in text
    monkeypatch.setenv("MY_MONGODB", f" {URI}\n")
    assert workspace.database_uri(start=False) == (URI, "godelta")
    monkeypatch.setenv("MY_MONGODB", "me:hush-hush@h")
    assert "environment variable MY_MONGODB" in message(workspace)


def test_a_password_in_the_settings_needs_a_private_file(place):
    workspace = place(f"database: {{uri: '{URI}'}}")
    file = workspace.folder / "godelta.yaml"
    for mode in (0o644, 0o640, 0o604):
        file.chmod(mode)
        text = message(workspace)
        assert f"chmod 600 {file}" in text
        assert "uri_file" in text
    file.chmod(0o600)
    assert workspace.database_uri(start=False)[0] == URI
    # Without a password there is nothing to hide.
    assert place("database: {uri: 'mongodb://h:1/'}").database_uri(start=False)[0] == "mongodb://h:1/"


@pytest.mark.parametrize(
    "text",
    [
        "database: {uri: 'mongodb://h/', uri_env: X}",
        "database: {uri_env: X, uri_file: y}",
        "database: {uri_env: '$X'}",
        "database: {uri_env: ''}",
        "database: {tls: {ca_file: x}}",
        "database: {uri_file: y, tls: {ca: x}}",
        f"database: {{uri: ['{URI}']}}",
        f"database: {{url: '{URI}'}}",
        f"database: {{uri_env: '{URI}'}}",
        f"database: {{uri: '{URI}'",
        f"{URI}: 1",
    ],
)
def test_settings_that_cannot_be_meant(place, text):
    message(place(text))


def test_private_is_what_names_no_server(place):
    assert place("").settings().database.is_private
    for key in ("uri: 'mongodb://h/'", "uri_env: X", "uri_file: x"):
        assert not place(f"database: {{{key}}}").settings().database.is_private


@pytest.mark.parametrize(
    "base", ["mongodb://h:1", "mongodb://h:1/", "mongodb://h:1/?a=b", "mongodb://h:1/db?a=b"]
)
def test_tls_files_become_options_of_the_uri(place, tmp_path, monkeypatch, base):
    (tmp_path / "a folder").mkdir()
    for name in ("a folder/ca.pem", "me.pem"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("MY_MONGODB", base)
    workspace = place(
        "database: {uri_env: MY_MONGODB, tls: {ca_file: a folder/ca.pem, certificate_key_file: me.pem}}"
    )
    uri, _ = workspace.database_uri(start=False)
    assert uri.startswith(base)
    quoted = str(tmp_path).replace(" ", "%20")
    options = f"tls=true&tlsCAFile={quoted}/a%20folder/ca.pem&tlsCertificateKeyFile={quoted}/me.pem"
    assert uri.endswith(options)
    assert uri.removesuffix(options)[-1] in "?&"
    (tmp_path / "me.pem").chmod(0o644)
    assert "others may read this private key" in message(workspace)
    (tmp_path / "me.pem").unlink()
    assert "me.pem: cannot be read" in message(workspace)
    monkeypatch.setenv("MY_MONGODB", "mongodb://h/?tls=true")
    assert "TLS options too" in message(workspace)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://me:hu@sh-hush@h/", "mongodb://me:hush/hush@h/", "mongodb://me:hush?hush@h/",
"mongodb://me:hush%zz@h/", "mongodb://me:hush:hush@h/",
        "mongodb://me:hush", "mongodb://me:hush@[h/", "mongodb://me:hush@h:port/",
        "mongodb://me:hush@h:99999/", "mongodb://me:hush@h/?tls=perhaps", "mongodb://me:hush@h/?colour=red",
        "mongodb://me:hush@h/a b", "mongodb://me:hush@h/?authMechanism=hush", "mongodb://",
        "mongodb+srv://me:hush@h.example.org:27017/", "mongodb+srv://me:hush@h.example.org/?colour=red",
        "mongodb://me:hush@h/?tls=true&tlsCAFile=/is/not/there.pem",
    ],
)  # fmt: skip
def test_malformed_uris_do_not_show_their_password(uri):
    with pytest.raises(InputError) as caught:
        connect(uri, timeout_ms=300)
    text = f"{caught.value} {caught.value!r}"
    assert "hush" not in text
    assert "sh-hu" not in text


def test_uris_of_a_cluster_by_name_are_read_without_a_name_server():
    assert address_of("mongodb+srv://me:hush-hush@cluster.example.org/db?tls=true") == "cluster.example.org"
    with pytest.raises(InputError, match="cannot be looked up") as caught:
        connect("mongodb+srv://me:hush-hush@nobody.invalid/", timeout_ms=300)
    assert "hush" not in str(caught.value)
    assert "mongodb:// URI that lists the hosts" in str(caught.value)


def test_a_dead_host_and_a_changed_password(mongod_uri: str) -> None:
    redaction.remember_uri(mongod_uri)
    with pytest.raises(GodeltaError, match="no MongoDB server answers") as caught:
        connect(URI, timeout_ms=300)
    assert "Connection refused" in str(caught.value)
    assert "hush" not in str(caught.value)
    password = redaction.password_of(mongod_uri)
    assert password is not None
    with pytest.raises(GodeltaError, match="was the password changed") as caught:
        connect(mongod_uri.replace(password, "hush-hush"), timeout_ms=5000)
    assert "hush" not in str(caught.value)
    with pytest.raises(GodeltaError, match="refuses the connection"):
        connect(mongod_uri.replace(f"godelta:{password}@", ""), timeout_ms=5000)


def test_lines_of_help_name_existing_keys(place: object) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "security.md").read_text()
    for key in ("uri_env", "uri_file", "ca_file", "certificate_key_file", "chmod 600"):
        assert key in text
