"""Every error that a user may see says how to mend it: read from the sources, so that none is forgotten."""

import ast
import importlib
from pathlib import Path

import pytest

from godelta import errors
from godelta.errors import GodeltaError

ROOT = Path(errors.__file__).parents[2]
SOURCES = sorted(
    path for folder in ("src/godelta", "makers", "workflows") for path in (ROOT / folder).rglob("*.py")
)
# They name the mending themselves, or are caught by those who call and never reach a user.
EXEMPT = {"MissingExtraError", "Superseded"}


def subclasses(cls):
    return {cls} | {deeper for sub in cls.__subclasses__() for deeper in subclasses(sub)}


def error_calls(tree):
    """The calls of a module that make one of our errors: class name, line, keywords."""
    known = {cls.__name__ for cls in subclasses(GodeltaError)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in known:
                yield name, node.lineno, {keyword.arg for keyword in node.keywords}


@pytest.fixture(scope="module", autouse=True)
def _every_class_is_known():
    for module in ("store.database", "store.blobs", "campaign_file", "reference.registry"):
        importlib.import_module(f"godelta.{module}")


def test_the_classes_are_those_that_the_sources_define():
    defined = {
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and {getattr(base, "id", "") for base in node.bases}
        & {cls.__name__ for cls in subclasses(GodeltaError)}
    }
    assert defined == {cls.__name__ for cls in subclasses(GodeltaError)} - {"GodeltaError"}
    assert defined >= EXEMPT


def test_every_error_says_how_to_mend_it():
    lacking = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in SOURCES
        for name, line, keywords in error_calls(ast.parse(path.read_text()))
        if name not in EXEMPT and "mend" not in keywords
    ]
    assert not lacking, "errors without `mend`:\n" + "\n".join(lacking)


def test_an_error_without_is_found():
    tree = ast.parse("raise GodeltaError('x', where='y')\nraise InputError('x', mend='z')\n")
    assert [("mend" in keywords) for _, _, keywords in error_calls(tree)] == [False, True]


def texts():
    """All pieces of text in the sources; an f-string gives the pieces between its values."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_messages_that_the_docs_explain_are_those_of_the_sources():
    """The first column of docs/errors.md quotes messages; `...` stands for what differs."""
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    quoted = [part for row in rows for message in row.split("`")[1::2] for part in message.split("...")]
    pieces = [part.strip(" ,;:") for part in quoted if part.strip(" ,;:")]
    known = "\n".join(texts())
    assert len(pieces) > 40
    assert [piece for piece in pieces if piece not in known] == []
