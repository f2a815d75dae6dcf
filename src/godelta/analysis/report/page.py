"""A page as one file of HTML: styles, scripts, pictures and structures in it, nothing fetched."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

import matplotlib as mpl
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.io import write
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from godelta.analysis.plots import INK
from godelta.analysis.report.parts import Index, Page, Part, Plot, Viewer

VIEWER = ("3Dmol-min.js", "viewer.js")
_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(page: Page) -> str:
    """The page as HTML that loads nothing: its Content-Security-Policy forbids any request.

    Scripts run by their hash alone, so that nothing that a database holds ever becomes one.
    """
    seen = any(isinstance(part, Viewer) for section in page.sections for part in section.parts)
    scripts = [asset(name) for name in VIEWER] if seen else []
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            policy=policy(scripts),
            scripts=[Markup(script) for script in scripts],
            style=Markup(asset("style.css")),
            license=asset("3Dmol-LICENSE.txt") if seen else "",
        )
    )


def render_index(index: Index) -> str:
    """The page of all campaigns, which fetches itself again and again from where it came."""
    script = asset("live.js")
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            index=index,
            policy=policy([script], connect="'self'"),
            script=Markup(script),
            style=Markup(asset("style.css")),
        )
    )


def policy(scripts: list[str], connect: str = "'none'") -> str:
    """The Content-Security-Policy of a page with these scripts in it."""
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:;"
        f" connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


@cache
def asset(name: str) -> str:
    """The text of a file that comes with the package."""
    return (files("godelta.analysis.report") / "assets" / name).read_text(encoding="utf-8").strip()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("godelta.analysis.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "svg": svg, "scene": scene, "extxyz": extxyz, "data_url": data_url, "runs": _runs,
    }  # fmt: skip
    return environment


def _runs(parts: Sequence[Part]) -> list[tuple[bool, list[Part]]]:
    """Parts one after the other, with plots that follow each other together: they stand side by side."""
    grouped = groupby(parts, lambda part: isinstance(part, Plot))
    return [(are_plots, list(run)) for are_plots, run in grouped]


def svg(figure: Figure, alt: str) -> Markup:
    """A figure as SVG that takes the width it gets, with ink in the page's colour."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(re.escape(INK), "currentColor", text, flags=re.IGNORECASE)
    opening = Markup('<svg role="img" aria-label="{}"').format(alt)
    return Markup(text.replace("<svg", opening, 1))


def scene(viewer: Viewer) -> Markup:
    """The structures as JSON for the viewer's script, safe within HTML."""
    structures = [
        {"title": one.title, "facts": [list(pair) for pair in one.facts], **_drawn(one.atoms)}
        for one in viewer.structures
    ]
    return Markup(json.dumps(structures, ensure_ascii=False, separators=(",", ":")).translate(_UNSAFE))


def _drawn(atoms: Atoms) -> dict[str, Any]:
    kinds = {
        symbol: {
            "radius": round(float(covalent_radii[number]), 3),
            "colour": "#" + "".join(f"{round(255 * float(x)):02x}" for x in jmol_colors[number]),
        }
        for symbol, number in zip(atoms.get_chemical_symbols(), atoms.numbers.tolist(), strict=True)
    }
    periodic = [bool(x) for x in atoms.pbc]
    return {
        "xyz": extxyz([atoms]),
        "kinds": kinds,
        "cell": [[round(float(x), 5) for x in row] for row in atoms.cell.array] if any(periodic) else None,
        "pbc": periodic,
        "fixed": sorted({int(i) for constraint in atoms.constraints for i in constraint.get_indices()}),
    }


def extxyz(images: list[Atoms]) -> str:
    """Structures as extended XYZ, with energy [eV] and forces [eV/Å] where they have them."""
    buffer = io.StringIO()
    write(buffer, [_plain(atoms) for atoms in images], format="extxyz")
    return buffer.getvalue()


def _plain(atoms: Atoms) -> Atoms:
    """A structure without what no file can hold."""
    plain: Atoms = atoms.copy()
    plain.calc = atoms.calc
    plain.info = {key: value for key, value in atoms.info.items() if isinstance(value, str | int | float)}
    return plain


def data_url(text: str) -> Markup:
    """A text as an address that holds it."""
    return Markup(f"data:text/plain;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}")
