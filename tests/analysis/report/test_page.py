"""Pages: self-contained, and whatever is in their data is text."""

import base64
import hashlib
import json
import re
from html import unescape

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read
from matplotlib.figure import Figure

from godelta.analysis.plots import INK
from godelta.analysis.report.page import extxyz, policy, render, render_index, scene, svg
from godelta.analysis.report.parts import (
    Code,
    Facts,
    Index,
    IndexRow,
    Page,
    Plot,
    Prose,
    Section,
    Shares,
    Shown,
    Table,
    Viewer,
)

EVIL = "</script><script>alert('&\"')</script>\u2028"


@pytest.fixture
def slab():
    atoms = fcc111("Cu", (1, 1, 2), vacuum=6.0)
    atoms.info.clear()
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=np.full((2, 3), 0.25))
    return atoms


def page_of(*parts):
    return Page("a title", "of something", [Section("one", "One", parts)], "the end")


def test_a_page_without_structures_has_no_script():
    html = unescape(render(page_of(Prose("some words"))))
    assert "some words" in html
    assert "<script" not in html
    assert "script-src 'none'" in html


def test_scripts_are_allowed_by_what_they_are(slab):
    html = render(page_of(Viewer([Shown("slab", slab, [("energy", "-1.5 eV")])], "slab.extxyz")))
    allowed = re.search(r"script-src [^;]*", unescape(html))[0]
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in allowed
    assert "Redistribution and use in source and binary forms" in html
    assert "unsafe" not in allowed


def test_data_are_text(slab):
    figure = Figure()
    html = render(
        Page(
            EVIL,
            EVIL,
            [
                Section(
                    "one",
                    EVIL,
                    [
                        Prose(EVIL),
                        Facts([(EVIL, EVIL)]),
                        Table(EVIL, [EVIL], [[EVIL]], note=EVIL, folded=EVIL),
                        Plot(figure, EVIL, EVIL),
                        Shares(EVIL, [(EVIL, 1.0)]),
                        Viewer([Shown(EVIL, slab, [(EVIL, EVIL)])], EVIL),
                        Code(EVIL, EVIL, folded=True),
                    ],
                )
            ],
            EVIL,
            state=EVIL,
            headline=[(EVIL, EVIL)],
        )
    )
    assert "<script>alert" not in html
    assert html.count("<script") == 3  # the structures, the viewer, and what drives it
    index = Index(EVIL, EVIL, ["a"], [IndexRow(EVIL, "a", EVIL, [EVIL])], [EVIL], [(EVIL, "b")], EVIL)
    assert "<script>alert" not in render_index(index)


def test_structures_come_back(slab):
    shown = Viewer([Shown(EVIL, slab, [("energy", "-1.5 eV")]), Shown("two", Atoms("AgS"), [])], "a.extxyz")
    text = str(scene(shown))
    assert not set("<>&\u2028") & set(text)
    first, second = json.loads(text)
    assert first["title"] == EVIL
    assert first["fixed"] == [0]
    assert first["kinds"]["Cu"]["colour"].startswith("#")
    assert np.allclose(first["cell"], slab.cell, atol=1e-4)
    assert (second["cell"], set(second["kinds"])) == (None, {"Ag", "S"})


def test_what_is_saved_has_energies_and_forces(slab, tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_text(extxyz([slab]))
    again = read(path)
    assert again.get_potential_energy() == -1.5
    assert np.allclose(again.get_forces(apply_constraint=False), 0.25)
    assert (again.pbc == slab.pbc).all()


def test_pictures_take_the_pages_ink_and_width():
    figure = Figure(figsize=(4, 3))
    figure.text(0.5, 0.5, "words", color=INK)
    found = str(svg(figure, 'a "picture"'))
    opening = found[: found.index(">")]
    assert 'aria-label="a &#34;picture&#34;"' in opening
    assert "viewBox" in opening
    assert not re.search(r' (width|height)="', opening)
    assert "currentColor" in found
    assert INK.lower() not in found.lower()
    assert ">words<" in found
    assert "metadata" not in found


def test_a_policy_lets_nothing_in():
    said = dict(rule.strip().split(" ", 1) for rule in policy([]).split(";"))
    assert said["default-src"] == said["script-src"] == said["connect-src"] == "'none'"
    assert said["base-uri"] == said["form-action"] == "'none'"
