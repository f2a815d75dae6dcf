"""Reading YAML that a person wrote: plain values out, or one message that says what to mend."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from godelta.errors import InputError

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000  # aliases can stand for far more values than the file has characters
MAX_DEPTH = 32
MAX_INTEGER = 2**63 - 1  # what the database holds

Keys = tuple[int | str, ...]


@dataclass(frozen=True)
class YamlFile:
    """A file's contents as JSON has them: str, int, float, bool, None, lists and dicts of these."""

    values: Any
    _marked: Any

    def position(self, loc: Keys) -> tuple[Keys, int]:
        """The keys of `loc` that the file has, and the line of the last one (1-based, 0 unknown).

        The last key is kept in any case; others that the file lacks are the tags that pydantic adds.
        """
        keys: list[int | str] = []
        line = 0
        node = self._marked
        for step, key in enumerate(loc):
            child = _child(node, key)
            if child is not None:
                line = _line(node, key) or line
                node = child[0]
            elif step < len(loc) - 1:
                continue
            keys.append(key)
        return tuple(keys), line


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InputError
        The file cannot be read, is no YAML, or holds what is neither text nor a finite number.
    """
    return parse_yaml(_text(path), str(path))


def parse_yaml(text: str, where: str) -> YamlFile:
    """Read YAML that stands `where`.

    Raises
    ------
    InputError
        It is no YAML, or holds what is neither text nor a finite number.
    """
    marked = _load(text, where)
    return YamlFile(_Plain(where).convert(marked, (), 0), marked)


def _text(path: Path) -> str:
    mend = "it has to be a text file that you may read, in UTF-8"
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path that cannot be one
        raise InputError(f"cannot be read: {error}", where=str(path), mend=mend) from None
    raise InputError(
        f"is larger than {MAX_BYTES / 1e6:g} MB", where=str(path), mend="is it the file that you meant?"
    )


def _load(text: str, where: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    mend = "mind the indentation, the colons and brackets; a text with signs in it goes between quotes"
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "something is out of place"
        if mark is not None:
            where = f"{where}, line {mark.line + 1}"
    except RecursionError:
        what = "it is nested too deeply"
    except Exception as error:  # noqa: BLE001 - ruamel.yaml raises anything on values with a false tag
        what = f"{error}" or type(error).__name__
    raise InputError(f"not valid YAML: {what}", where=where, mend=mend)


class _Plain:
    """Turns what ruamel.yaml made into plain values."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.left = MAX_VALUES

    def convert(self, value: Any, keys: Keys, line: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self._error(f"holds more than {MAX_VALUES} values, aliases counted", keys, line)
        if len(keys) > MAX_DEPTH:
            raise self._error(f"is nested more than {MAX_DEPTH} levels deep", keys[:3], line)
        if isinstance(value, Mapping):
            return {
                self._key(key, keys, _line(value, key) or line): self.convert(
                    value[key], (*keys, key), _line(value, key) or line
                )
                for key in value
            }
        if isinstance(value, list):
            return [self.convert(item, (*keys, k), _line(value, k) or line) for k, item in enumerate(value)]
        return self._scalar(value, keys, line)

    def _key(self, key: Any, keys: Keys, line: int) -> str:
        if not isinstance(key, str):
            raise self._error(f"has the key {str(key)!r}, which is no text", keys, line)
        return self._string(key, keys, line)

    def _scalar(self, value: Any, keys: Keys, line: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._string(value, keys, line)
        if type(value).__name__ == "ScalarBoolean":  # an int to Python
            return bool(value)
        if isinstance(value, int):
            if abs(value) > MAX_INTEGER:
                raise self._error("is a number too large to be stored", keys, line)
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise self._error(f"has to be a finite number, not {float(value)}", keys, line)
            return float(value)
        raise self._error(
            f"is neither text nor a number ({type(value).__name__}); put a text between quotes", keys, line
        )

    def _string(self, text: str, keys: Keys, line: int) -> str:
        if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
            raise self._error("holds a sign that no file or database can store", keys, line)
        return str(text)

    def _error(self, what: str, keys: Keys, line: int) -> InputError:
        dotted = ".".join(_shown(key) for key in keys) or "the file"
        where = f"{self.path}, line {line}" if line else self.path
        return InputError(f"`{dotted}` {what}", where=where, mend="correct this value, or leave the key out")


def _shown(key: Any) -> str:
    return str(key).encode("ascii", "backslashreplace").decode() if isinstance(key, str) else str(key)


def _child(node: Any, key: int | str) -> tuple[Any] | None:
    if isinstance(node, Mapping):
        return (node[key],) if key in node else None
    if isinstance(node, list) and isinstance(key, int):
        return (node[key],) if key < len(node) else None
    return None


def _line(node: Any, key: Any) -> int:
    """Line (1-based) of a key or an item, 0 where it is unknown: what a merge key brings in has none."""
    position = getattr(node, "lc", None)
    try:
        if position is None:
            return 0
        return int((position.key if isinstance(node, Mapping) else position.item)(key)[0]) + 1
    except (KeyError, TypeError, IndexError):
        return 0
