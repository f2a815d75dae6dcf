"""Reading a campaign file: YAML in, CampaignConfig out, or one message that says what to mend."""

import difflib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from godelta.campaign import CampaignConfig
from godelta.errors import InputError


def read_campaign(path: Path) -> CampaignConfig:
    """Read and check a campaign file.

    Raises
    ------
    InputError
        The file cannot be read, is no YAML, or does not describe a campaign; the message names
        every line to mend.
    """
    data = _parse(path)
    try:
        return CampaignConfig.model_validate(data)
    except ValidationError as error:
        problems = [_describe(details, data) for details in error.errors(include_url=False)]
    problems.sort()
    lines = [f"line {line}: {text}" if line else text for line, text in problems]
    raise InputError(
        ("\n  " if len(lines) > 1 else "") + "\n  ".join(lines),
        where=str(path),
        mend="`godelta schema` prints every key with its type and default",
    )


def _parse(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            "no such file", where=str(path), mend="`godelta init` makes a folder with examples"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from None
    try:
        data = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise InputError(f"not valid YAML: {error.problem}", where=where) from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"not valid YAML: {error}", where=str(path)) from None
    if not isinstance(data, dict):
        raise InputError(
            "a campaign file holds keys and values, such as `name: ag4s2`",
            where=str(path),
            mend="`godelta init` makes a folder with examples",
        )
    return data


def _describe(details: ErrorDetails, data: dict[str, Any]) -> tuple[int, str]:
    """Line (1-based, 0 unknown) and text of one problem."""
    loc = details["loc"]
    keys, line = _position(loc, data)
    dotted = ".".join(str(key) for key in keys) or "the file"
    match details["type"]:
        case "extra_forbidden":
            text = f"unknown key `{dotted}`{_suggestion(str(loc[-1]), _known_keys(loc))}"
        case "missing":
            text = f"`{dotted}` is missing"
        case "union_tag_not_found":
            tag = details["ctx"]["discriminator"].strip("'")
            text = f"`{dotted}` lacks the key `{tag}`"
        case "union_tag_invalid":
            context = details["ctx"]
            tag = context["discriminator"].strip("'")
            expected = [word.strip(" '") for word in context["expected_tags"].split(",")]
            text = (
                f"`{dotted}.{tag}` is {context['tag']!r}, known are {', '.join(expected)}"
                f"{_suggestion(context['tag'], expected)}"
            )
            _, line = _position((*keys, tag), data)
        case _:
            message = details["msg"].removeprefix("Value error, ")
            shown = details["input"]
            value = f" (given: {shown!r})" if isinstance(shown, str | int | float | bool) else ""
            text = f"`{dotted}`: {message[:1].lower()}{message[1:]}{value}"
    return line, text


def _position(loc: tuple[int | str, ...], data: Any) -> tuple[list[int | str], int]:
    """The keys of `loc` that the file has (pydantic adds the tags of unions), and the last one's line."""
    keys: list[int | str] = []
    line = 0
    node = data
    for step, key in enumerate(loc):
        position = getattr(node, "lc", None)
        if isinstance(node, dict) and key in node:
            line = position.key(key)[0] + 1 if position is not None else line
            node = node[key]
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            line = position.item(key)[0] + 1 if position is not None else line
            node = node[key]
        elif step < len(loc) - 1:
            continue  # a union's tag: not a key of the file
        keys.append(key)
    return keys, line


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that refused the last key of `loc`."""
    annotation: Any = CampaignConfig
    for key in loc[:-1]:
        annotation = _member(annotation, key)
    return [name for model in _models(annotation) for name in model.model_fields]


def _member(annotation: Any, key: int | str) -> Any:
    models = _models(annotation)
    for model in models:
        if key in model.model_fields:
            return model.model_fields[str(key)].annotation
    for model in models:  # the key is a union's tag
        if any(field.default == key for field in model.model_fields.values()):
            return model
    return annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return [model for argument in get_args(annotation) for model in _models(argument)]
    return []


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else f"; known: {', '.join(known)}" if known else ""
