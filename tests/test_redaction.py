"""Passwords are struck out of whatever a person or a file gets to see."""

import ast
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import godelta
from godelta import logs, redaction
from godelta.errors import InputError
from godelta.redaction import is_secret, password_of, redact, redact_all, remember_uri

ROOT = Path(godelta.__file__).parents[2]


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(redaction, "_known", set())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mongodb://me:hush@h:27017/?tls=true", "mongodb://***@h:27017/?tls=true"),
        ("at 'mongodb+srv://me:hush@h/', and on", "at 'mongodb+srv://***@h/', and on"),
        ("MONGODB://me:hu@sh/hush@h/x", "MONGODB://***@h/x"),
        ("mongodb://me@h/ mongodb://h2/", "mongodb://***@h/ mongodb://h2/"),
        ("x?tlsCertificateKeyFilePassword=hush&a=b", "x?tlsCertificateKeyFilePassword=***&a=b"),
        ("mail me@h, nothing else", "mail me@h, nothing else"),
        ("mongodb://user:password@host:27017/", "mongodb://user:password@host:27017/"),
    ],
)  # fmt: skip
def test_texts(text, expected):
    assert redact(text) == expected


def test_a_password_that_is_known_goes_wherever_it_stands():
    remember_uri("mongodb://me:pa%20ss%2Fwo%40rd@h/")
    for spelling in ("pa ss/wo@rd", "pa%20ss%2Fwo%40rd", "pa+ss%2Fwo%40rd"):
        assert redact(f"said: {spelling}!") == "said: ***!"
    assert redact_all({"a": ["pa ss/wo@rd", 1, None], "b": ("x",)}) == {"a": ["***", 1, None], "b": ["x"]}


def test_a_short_password_garbles_no_other_text():
    remember_uri("mongodb://me:atoms@h/")
    assert redact("4 atoms, mongodb://me:atoms@h/") == "4 atoms, mongodb://***@h/"


@pytest.mark.parametrize(
    ("uri", "password"),
    [
        ("mongodb://me:p@h/", "p"), ("mongodb://me:p@ss@h/x", "p@ss"), ("mongodb://me:p/s?s@h", "p/s?s"),
        ("mongodb://me@h/", None), ("mongodb://h:27017/", None), ("", None),
    ],
)  # fmt: skip
def test_the_password_of_a_uri(uri, password):
    assert password_of(uri) == password


def test_what_an_engine_does_not_get():
    remember_uri("mongodb://me:long-secret@h/")
    assert is_secret("mongodb://a:b@h/")
    assert is_secret("long-secret")
    assert not is_secret("/home/long-secret/bin")  # a PATH is not to be lost
    assert not is_secret("mongodb://h/")


def test_log_lines_and_tracebacks(tmp_path):
    remember_uri("mongodb://me:long-secret@h/")
    handler = logs.LogFolder(tmp_path / "logs")
    logger = logging.getLogger("godelta.test_redaction")
    logger.addHandler(handler)
    try:
        raise RuntimeError("no: mongodb://me:other@h/ nor long-secret")
    except RuntimeError as error:
        logger.exception("ended: %s", error)
    logger.error("%s", ["mongodb://me:other@h/"])
    logger.removeHandler(handler)
    handler.close()
    (file,) = (tmp_path / "logs").iterdir()
    text = file.read_text()
    assert "other" not in text
    assert "long-secret" not in text
    assert "RuntimeError: no: mongodb://***@h/ nor ***" in json.loads(text.splitlines()[0])["traceback"]


def test_messages_of_errors():
    error = InputError("x mongodb://me:hush@h/", where="mongodb://me:hush@h/", mend="mongodb://me:hush@h/")
    assert "hush" not in str(error) + repr(error) + str(vars(error))


@pytest.mark.parametrize("thread", [False, True])
def test_errors_that_nobody_caught(thread):
    fail = "fail()" if not thread else "threading.Thread(target=fail).start()"
    code = (
        "import threading\n"
        "from godelta.redaction import show_without_passwords\n"
        "def fail(): raise RuntimeError('mongodb://me:' + 'hu' + 'sh@h/')\n"
        f"show_without_passwords()\n{fail}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RuntimeError: mongodb://***@h/" in done.stderr
    assert "hush" not in done.stderr


def test_no_array_is_unpickled():
    """Every np.load says so, and nothing else that unpickles is imported.

    But for the files that MACE publishes: what may be one of those, the workspace's `programs` tell.
    """
    sources = [
        path for part in ("src/godelta", "makers", "workflows") for path in (ROOT / part).rglob("*.py")
    ]
    loads, pickles = 0, set[str]()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "np.load",
                "numpy.load",
                "torch.load",
            ):
                if path.name == "mace.py" and "programs" not in pickles:
                    pickles.add("programs")
                    continue
                loads += 1
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert keywords.get("allow_pickle") == "False" or keywords.get("weights_only") == "True", path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec"):
                pytest.fail(f"{path}:{node.lineno} evaluates text")
    assert loads >= 1
