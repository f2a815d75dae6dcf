"""Write docs/cli.md, campaign-file.md and collections.md from the code; a test keeps them up to date.

Usage: python docs/generate.py [--check]; with --check nothing is written, and pages out of date are named.
"""

import json
import os
import re
import sys
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

os.environ["TERMINAL_WIDTH"] = "100"

import typer
from bson import ObjectId
from pydantic import BaseModel
from typer.testing import CliRunner

from godelta.campaign import CampaignConfig
from godelta.cli.main import app
from godelta.store import documents
from godelta.store.database import INDEXES

DOCS = Path(__file__).parent

JSON_FIELDS = """
## JSON

`status --format json` prints a list of objects, one for each campaign, and `status NAME --format json` one
object with more in it: [their fields](how-to/status.md#json).

`best --format json` prints a list of objects:

| field | meaning |
|---|---|
| rank | 1 is the lowest |
| structure_id | id in the database |
| formula | Hill order, all atoms |
| energy | reference energy, eV |
| energy_per_atom | the same divided by the number of atoms, eV |
| foundation_energy | energy of the foundation potential, eV |
| uncertainty | standard deviation of the prediction at selection, eV; null before the first training |
| round | round that proposed it, from 0 |
| evaluated_at | UTC |
| found | how many evaluations of the search found it; null with `--all` and `--trajectory` |
| refined | whether it is a minimum of the reference: [refinement](how-to/refine.md) |
| fmax | largest reference force on a moving atom, eV/Å |

With `--trajectory`, `rank` counts steps from 0, where the refinement began, and `refined` is null.

`query --format json` and `--format csv` have the same (`energy` and what follows from it is null unless the
evaluation is ok), and:

| field | meaning |
|---|---|
| campaign, campaign_id, tags | the campaign's |
| status | ok, failed or pending (selected, or being computed) |
| reason | of a failure |
| above_best | energy above the lowest of the same formula at the same reference level, eV |
| model_energy | foundation + Δ at the proposal, eV |
| chain | chain of the round; 1000 is refinement |
| foundation, reference, reference_hash | what the campaign uses |
"""

CAMPAIGN_HEAD = """\
# Campaign file

YAML. Every key has a default except `name` and `system`; unknown keys are errors. `godelta schema` prints the
JSON schema, for editors that complete and check.

Units: eV, Å, eV/Å; kT in eV.

*Identity* keys decide the results (`system`, `foundation`, `delta`, `search`, `reference`, `share`, `seed`);
changing one makes another campaign, which needs another name. `budget`, `refine`, `resources`, `tags` and
`reference.limits` may be changed when a campaign is resumed.

`system.formula` may be a list: [a study](how-to/studies.md), one campaign for each formula.
"""


COLLECTIONS_HEAD = f"""\
# Collections

What `godelta` keeps in MongoDB, schema version {documents.SCHEMA_VERSION}. Units: eV, Å, eV/Å, seconds; times are UTC, by the server's clock. Documents are read
through these models: a key that is not listed is refused, as is a newer schema version.
[Questions](how-to/query.md) are answered by `godelta query` and [from Python](how-to/python-api.md#the-database); look with
any client of MongoDB, but change nothing by hand.
"""

COLLECTIONS: dict[str, type[BaseModel]] = {
    "campaigns": documents.CampaignDocument,
    "rounds": documents.RoundDocument,
    "structures": documents.StructureDocument,
    "evaluations": documents.EvaluationDocument,
    "models": documents.ModelDocument,
}
PARTS = (documents.Sighting, documents.Request, documents.Lease, documents.Attempt)

COLLECTIONS_END = """\
## Others

| collection | one document per |
|---|---|
| `features` | structure and descriptor: `structure_id`, `descriptor` (digest of its settings), `shape`, `data` (little-endian doubles); a cache that may be dropped |
| `workers` | worker process: its `name` (host, boot, pid, start) and its signs of life; an old one may be dropped |
| `blobs.files`, `blobs.chunks` | GridFS: search problems, walkers, Δ-models; npz and JSON, never pickles |
| `checks` | note of `godelta check --slurm`, kept for a day |
| `meta` | note of godelta's own: the schema's version, a restore or a migration under way |
| `fireworks`, `workflows`, `launches`, `job_outputs`, ... | what FireWorks and jobflow keep; all of it can be rebuilt from the collections above |
"""


def cli_page() -> str:
    """The help of every command."""
    runner = CliRunner()
    command = typer.main.get_command(app)
    parts = ["# Command line\n", _help(runner, [])]
    for name, sub in command.commands.items():
        parts.append(_help(runner, [name]))
        parts += [_help(runner, [name, inner]) for inner in getattr(sub, "commands", {})]
    return "\n".join(parts) + JSON_FIELDS


def _help(runner: CliRunner, words: list[str]) -> str:
    output = runner.invoke(app, [*words, "--help"], prog_name="godelta", color=False).output
    text = "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", output).strip().splitlines())
    return f"## `{' '.join(['godelta', *words])}`\n\n```text\n{text}\n```\n"


def campaign_page() -> str:
    """A table for every settings model that a campaign file may hold."""
    schema = CampaignConfig.model_json_schema()
    definitions = schema["$defs"]
    parts = [CAMPAIGN_HEAD, _section("The file", schema)]
    parts += [_section(name, definitions[name]) for name in _in_order(schema, definitions)]
    return "\n".join(parts)


def _in_order(schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema["properties"])):
        if name not in found:
            found.append(name)
            found += [n for n in _in_order(definitions[name], definitions) if n not in found]
    return found


def _section(title: str, model: dict[str, Any]) -> str:
    rows = [
        f"| `{key}` | {_type(field)} | {_default(key, field, model)} | {field.get('description', '')} |"
        for key, field in model["properties"].items()
    ]
    text = "" if title == "The file" else model.get("description", "") + "\n\n"
    head = f"## {title}\n\n{text}| key | type | default | meaning |"
    return "\n".join([head, "|---|---|---|---|", *rows, ""])


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(_type(option) for option in field[key]))
    return str(field.get("type", "any"))


def _default(key: str, field: dict[str, Any], model: dict[str, Any]) -> str:
    if key in model.get("required", []):
        return "needed"
    value = field.get("default")
    if value is None:
        return ""
    return "see there" if isinstance(value, dict) else f"`{json.dumps(value)}`"


def collections_page() -> str:
    """A table for every document that the database holds, and for what is nested in them."""
    parts = [COLLECTIONS_HEAD]
    for name, model in COLLECTIONS.items():
        keys = [f"({', '.join(fields)})" for where, fields, unique in INDEXES if where == name and unique]
        parts.append(_document(f"`{name}`", model) + f"\nUnique: {', '.join(keys)}.\n")
    parts += [_document(model.__name__, model) for model in PARTS]
    return "\n".join([*parts, COLLECTIONS_END])


def _document(title: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {_stored(field.annotation)} | {field.description or ''} |"
        for name, field in model.model_fields.items()
    ]
    head = f"## {title}\n\n{(model.__doc__ or '').strip()}\n\n| field | type | meaning |"
    return "\n".join([head, "|---|---|---|", *rows, ""])


NAMES = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    datetime: "time",
    ObjectId: "ObjectId",
}


def _stored(kind: Any) -> str:
    """How a field's type is told to people who read the database."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in {Union, UnionType}:
        return " or ".join("null" if option is NoneType else _stored(option) for option in inner)
    if origin is Annotated:
        return _stored(inner[0])
    if origin is tuple:
        count = "list of" if inner[-1] is Ellipsis else f"{len(inner)} ×"
        return f"{count} {_stored(inner[0])}"
    if kind in PARTS:
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return NAMES.get(kind, "object")


def main(check: bool) -> int:
    """Write the pages, or name those that are out of date; the exit code."""
    pages = {
        DOCS / "cli.md": cli_page(),
        DOCS / "campaign-file.md": campaign_page(),
        DOCS / "collections.md": collections_page(),
    }
    if check:
        stale = [path.name for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
        print(f"out of date: {', '.join(stale)}" if stale else "up to date")
        return 1 if stale else 0
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
