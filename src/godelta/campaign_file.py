"""Reading a campaign file: YAML in, CampaignConfig out, or one message that says what to mend."""

import difflib
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from godelta.campaign import CampaignConfig
from godelta.errors import InputError
from godelta.foundation.settings import FoundationSettings
from godelta.search.settings import BHSettings, is_plain
from godelta.yaml_file import YamlFile, parse_yaml, read_yaml

MOST_FORMULAS = 100


def read_campaign(path: Path) -> CampaignConfig:
    """Read and check a file of one campaign.

    Raises
    ------
    InputError
        The file cannot be read, is no YAML, or does not describe one campaign; the message names
        every line to mend.
    """
    configs = read_campaigns(path)
    if len(configs) > 1:
        raise InputError(
            f"it is a study of {len(configs)} formulas, and this is about one campaign",
            where=str(path),
            mend=f"name one of them, e.g. {configs[0].name}, or leave one formula in the file",
        )
    return configs[0]


def read_campaigns(path: Path) -> list[CampaignConfig]:
    """Read and check a campaign file: one campaign, or one for each formula of a study.

    A study has a list in `system.formula`. Its campaigns are called NAME.FORMULA and have the tag NAME.

    Raises
    ------
    InputError
        As `read_campaign`.
    """
    file = _parse(path)
    formulas = _formulas(path, file)
    members = [file.values] if formulas is None else [_member_of_study(file.values, one) for one in formulas]
    configs, problems = [], set[tuple[int, str]]()
    for values in members:
        try:
            configs.append(CampaignConfig.model_validate(values))
        except ValidationError as error:
            problems |= {describe(details, file) for details in error.errors(include_url=False)}
        else:
            if (text := in_vain(configs[-1])) is not None:
                problems.add((file.position(("resources", "wait"))[1], text))
    if not problems:
        return configs
    lines = [f"line {line}: {text}" if line else text for line, text in sorted(problems)]
    raise InputError(
        ("\n  " if len(lines) > 1 else "") + "\n  ".join(lines),
        where=str(path),
        mend="`godelta schema` prints every key with its type and default",
    )


def in_vain(config: CampaignConfig) -> str | None:
    """Why a campaign would run and lead nowhere, by its `resources.wait`; None where it would not.

    It is for files: campaigns that are stored with it have to stay readable.
    """
    hops = isinstance(config.search, BHSettings)
    if config.resources.wait or not (hops or is_plain(config.search)):
        return None
    who = "basin hopping" if hops else "`relax_in: reference`"
    return (
        f"`resources.wait`: {who} goes on from the evaluations of the round before, which would always come"
        " one round late: leave `wait` at true"
    )


def _formulas(path: Path, file: YamlFile) -> list[str] | None:
    """The formulas of a study; None where the file is of one campaign."""
    system = file.values.get("system")
    formulas = system.get("formula") if isinstance(system, dict) else None
    if not isinstance(formulas, list):
        return None
    words = all(isinstance(formula, str) for formula in formulas)
    if words and 1 <= len(formulas) == len(set(formulas)) <= MOST_FORMULAS:
        return formulas
    raise InputError(
        f"`system.formula` has to be one formula, or a list of 1 to {MOST_FORMULAS} different ones",
        where=f"{path}, line {file.position(('system', 'formula'))[1]}",
        mend="e.g. formula: [Cu4O3, Cu5O4]",
    )


def _member_of_study(values: dict[str, Any], formula: str) -> dict[str, Any]:
    study = values.get("name")
    if not isinstance(study, str):
        return values  # the check of the values says so
    tags = values.get("tags", [])
    return values | {
        "name": f"{study}.{re.sub(r'[^A-Za-z0-9]+', '-', formula)}",
        "tags": [*tags, study] if isinstance(tags, list) and study not in tags else tags,
        "system": values["system"] | {"formula": formula},
    }


def read_foundation(text: str, where: str) -> FoundationSettings:
    """Read what a campaign file has after `foundation:`.

    Raises
    ------
    InputError
        It is no YAML, or describes no foundation.
    """
    file = parse_yaml(f"foundation: {text}", where)
    adapter: TypeAdapter[FoundationSettings] = TypeAdapter(FoundationSettings)
    try:
        return adapter.validate_python(file.values["foundation"])
    except ValidationError as error:
        found = error.errors(include_url=False)
    for details in found:
        details["loc"] = ("foundation", *details["loc"])
    raise InputError(
        "; ".join(describe(details, file)[1] for details in found),
        where=where,
        mend="`godelta foundations` lists names; docs/campaign-file.md has every key",
    )


def _parse(path: Path) -> YamlFile:
    try:
        file = read_yaml(path)
    except FileNotFoundError:
        raise InputError(
            "no such file", where=str(path), mend="`godelta init` makes a folder with examples"
        ) from None
    if not isinstance(file.values, dict):
        raise InputError(
            "a campaign file holds keys and values, such as `name: ag4s2`",
            where=str(path),
            mend="`godelta init` makes a folder with examples",
        )
    return file


def describe(details: ErrorDetails, file: YamlFile) -> tuple[int, str]:
    """Line (1-based, 0 unknown) and text of one problem with the values of a file."""
    loc = details["loc"]
    keys, line = file.position(loc)
    dotted = ".".join(str(key) for key in keys) or "the file"
    match details["type"]:
        case "extra_forbidden":
            text = f"unknown key `{dotted}`{_suggestion(str(loc[-1]), _known_keys(loc))}"
        case "missing":
            text = f"`{dotted}` is missing"
        case "union_tag_not_found":
            tag = details["ctx"]["discriminator"].strip("'")
            text = f"`{dotted}` lacks the key `{tag}`"
            given = [key for key in details["input"] if isinstance(key, str)]
            if close := difflib.get_close_matches(tag, given, n=1):
                text += f"; did you mean it by `{close[0]}`?"
                _, line = file.position((*keys, close[0]))
        case "union_tag_invalid":
            context = details["ctx"]
            tag = context["discriminator"].strip("'")
            expected = [word.strip(" '") for word in context["expected_tags"].split(",")]
            text = (
                f"`{dotted}.{tag}` is {_short(context['tag'])}, known are {', '.join(expected)}"
                f"{_suggestion(context['tag'], expected)}"
            )
            _, line = file.position((*keys, tag))
        case "model_attributes_type" | "model_type" | "dict_type":
            text = f"`{dotted}` wants keys and values, not {_short(details['input'])}"
        case _:
            message = details["msg"].removeprefix("Value error, ")
            shown = details["input"]
            value = f" (given: {_short(shown)})" if isinstance(shown, str | int | float | bool) else ""
            text = f"`{dotted}`: {message[:1].lower()}{message[1:]}{value}"
    return line, text


def _short(value: object, characters: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= characters else f"{text[:characters]}..."


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
