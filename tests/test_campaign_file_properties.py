"""Campaign files damaged in every way: a campaign comes out, or one message that says what to mend."""

import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from bson import BSON
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaign
from godelta.errors import GodeltaError, InputError
from godelta.settings import digest
from godelta.systems.builders import build_problem

EXAMPLES = {
    path.name: path.read_text(encoding="utf-8")
    for path in sorted((Path(str(files("godelta.examples")))).glob("*.yaml"))
}
TEMPLATE = """\
name: template
system:
  kind: template
  file: slab.xyz
  formula: Cu2
  fixed: [0, 1]
  confinement: {cell: [[5.1, 0, 0], [0, 5.1, 0], [0, 0, 4]], corner: [0, 0, 2]}
foundation: {name: ase, calculator: ase.calculators.emt.EMT, arguments: {asap_cutoff: true}}
search: {method: rss}
reference: {engine: emt, limits: {wall_seconds: 60.0, command_prefix: [nice, '-n', '5']}}
"""
SLAB = """\
4
Lattice="5.1 0 0 0 5.1 0 0 0 20" Properties=species:S:1:pos:R:3 pbc="T T F"
Cu 0 0 0
Cu 2.55 0 0
Cu 0 2.55 0
Cu 2.55 2.55 0
"""
VALID = [*EXAMPLES.values(), TEMPLATE]
DATA = [YAML(typ="safe").load(text) for text in VALID]
WORDS = sorted(
    {key for text in VALID for key in text.replace("{", " ").replace(":", " ").split() if key.isidentifier()}
)

# What numpy only warns about is printed in the user's terminal.
pytestmark = pytest.mark.filterwarnings("error")

bounded = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def examined(path: Path, content: bytes) -> CampaignConfig | None:
    """The campaign of a file of these bytes; None where it is refused with a proper message."""
    path.write_bytes(content)
    try:
        config = read_campaign(path)
    except InputError as error:
        proper(error)
        return None
    # What is accepted can be stored, and read again as it was.
    values = config.model_dump(mode="json")
    assert CampaignConfig.model_validate(json.loads(json.dumps(values, allow_nan=False))) == config
    assert BSON.encode(values)
    assert digest(config.identity())
    return config


def built(config: CampaignConfig, base: Path) -> None:
    """Its search problem can be built, or the message says why not."""
    try:
        problem = build_problem(config.system, base)
    except GodeltaError as error:
        proper(error)
    else:
        assert len(problem.numbers) > 0


def proper(error: GodeltaError) -> None:
    """A message says what, where, and how to mend it, and can be printed."""
    assert error.what.strip()
    assert error.where
    assert error.mend
    assert str(error).encode("utf-8")
    assert len(str(error)) < 5000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slab.xyz").write_text(SLAB)
    return tmp_path


@pytest.mark.parametrize("text", VALID)
def test_the_files_are_valid_before_they_are_damaged(folder, text):
    config = examined(folder / "c.yaml", text.encode())
    assert config is not None
    built(config, folder)


NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63 - 1, 2**63, 10**30, 1e300, 1e-300, 5e-324, 1e6, 200.0, 1000, -0.0]),
)
SCALARS = st.one_of(
    NUMBERS,
    st.booleans(),
    st.none(),
    st.text(max_size=12),
    st.sampled_from(
        [
            *WORDS,
            "Ag8S4",
            "H" * 3000,
            "Cu1000",
            "(Cu",
            "C9999",
            "é",
            "日本",
            "a\0b",
            "\u2028",
            "../..",
            "/dev/zero",
        ]
    ),
    st.dates(),
    st.binary(max_size=6),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), SCALARS), inner, max_size=3),
    ),
    max_leaves=6,
)


def _places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        found += _places(value, (*at, key))
    return found


def _at(data: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        data = data[key]
    return data


@st.composite
def damaged_values(draw: st.DrawFn) -> Any:
    """A valid file's values, with keys deleted, renamed, moved, swapped, or of other values."""
    data = json.loads(json.dumps(draw(st.sampled_from(DATA))))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(data)
        if not places:
            break
        *parent, key = draw(st.sampled_from(places))
        node = _at(data, tuple(parent))
        other = draw(st.sampled_from(places))
        match draw(
            st.sampled_from(["value", "value", "delete", "rename", "copy", "wrap", "number", "number"])
        ):
            case "value":
                node[key] = draw(VALUES)
            case "number":
                node[key] = draw(NUMBERS)
            case "delete":
                del node[key]
            case "rename" if isinstance(node, dict):
                node[draw(st.sampled_from(WORDS))] = node.pop(key)
            case "copy":
                node[key] = json.loads(json.dumps(_at(data, other), default=str))
            case "wrap":
                node[key] = draw(st.sampled_from([lambda v: [v], lambda v: {"a": v}, str]))(node[key])
            case _:
                pass
    return data


@bounded
@given(data=damaged_values())
def test_other_values(folder, data):
    stream = io.BytesIO()
    YAML(typ="safe", pure=True).dump(data, stream)
    config = examined(folder / "c.yaml", stream.getvalue())
    if config is not None:
        built(config, folder)


SAD = [
    0,
    -1,
    1e-300,
    1e-9,
    1e9,
    1e300,
    2**31,
    2**63 - 1,
    2**63,
    ".nan",
    "-.inf",
    "''",
    "~",
    "true",
    "[]",
    "{}",
]


@pytest.mark.parametrize("number", range(len(VALID)))
def test_each_value_by_each_sad_one(folder, number):
    """Every leaf of every file, one at a time."""
    for place in _places(DATA[number]):
        for sad in SAD:
            data = json.loads(json.dumps(DATA[number]))
            *parent, key = place
            _at(data, tuple(parent))[key] = "SAD"
            config = examined(folder / "c.yaml", json.dumps(data).replace('"SAD"', str(sad)).encode())
            if config is not None:
                built(config, folder)


SNIPPETS = [
    "\t", "\0", "\r", "\x85", "\ufeff", "\u2028", "'", '"', "{", "}", "[", "]", ": ", "- ", "? ", "| ", "> ",
    "#", "&a ", "*a", "<<: *a\n", "<<: {name: x}\n", "---\n", "...\n", "%YAML 1.1\n", "!!python/object:os.x ",
    "!!int x", "!!binary é", "!!set ", "!!timestamp x", "!foo ", "2020-01-01", ".nan", ".inf", "1e999",
    "0x", "0o9", "12:30:45", "~", "yes", "null", "\\ud800", '"\\ud800"', '"\\0"', "9" * 5000, "[" * 500,
    "{a: " * 400, "seed: 1\n", "name: again\n", "&a [*a]", "&a {b: *a}", "á", "日本語", "😀",
]  # fmt: skip


@st.composite
def damaged_text(draw: st.DrawFn) -> bytes:
    """A valid file's text with lines deleted, doubled or swapped, pieces put in, and cut at any byte."""
    text = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        lines = text.splitlines(keepends=True) or [""]
        i = draw(st.integers(0, len(lines) - 1))
        j = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["delete", "double", "swap", "insert", "insert", "indent", "cut"])):
            case "delete":
                del lines[i]
            case "double":
                lines.insert(i, lines[j])
            case "swap":
                lines[i], lines[j] = lines[j], lines[i]
            case "insert":
                at = draw(st.integers(0, len(lines[i])))
                lines[i] = lines[i][:at] + draw(st.sampled_from(SNIPPETS)) + lines[i][at:]
            case "indent":
                lines[i] = draw(st.sampled_from([" ", "\t", "   "])) + lines[i]
            case "cut":
                lines = lines[: i + 1]
                lines[-1] = lines[-1][: draw(st.integers(0, len(lines[-1])))]
        text = "".join(lines)
    return text.encode()


@bounded
@given(content=damaged_text())
def test_other_text(folder, content):
    config = examined(folder / "c.yaml", content)
    if config is not None:
        built(config, folder)


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """A valid file in another encoding, or with some bytes changed or cut off."""
    text = draw(st.sampled_from(VALID))
    data = bytearray(
        text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-32", "utf-8-sig", "gb18030"])))
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@bounded
@given(content=damaged_bytes())
def test_other_bytes(folder, content):
    examined(folder / "c.yaml", content)
