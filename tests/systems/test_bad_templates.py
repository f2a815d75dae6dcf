"""Template files that nobody can use: each is refused with what, where and how to mend it."""

import re

import pytest

from godelta.errors import InputError
from godelta.systems.builders import build_problem
from godelta.systems.settings import TemplateSettings

HEAD = 'Lattice="5.1 0 0 0 5.1 0 0 0 20" Properties=species:S:1:pos:R:3 pbc="T T F"'
ATOMS = ["Cu 0 0 0", "Cu 2.55 0 0", "Cu 0 2.55 0", "Cu 2.55 2.55 0"]


def xyz(*atoms, head=HEAD, count=None):
    return "\n".join([str(len(atoms) if count is None else count), head, *atoms, ""])


BAD = {
    "empty file": ("", "cannot read"),
    "no atoms": (xyz(), "no atoms|cannot read"),
    "cut off": (xyz(*ATOMS, count=9), "cannot read"),
    "words": ("hello\nworld\n", "cannot read"),
    "no numbers": (xyz("Cu a b c"), "cannot read"),
    "not finite": (xyz(*ATOMS[:3], "Cu 2.55 nan 0"), "not finite"),
    "infinite": (xyz(*ATOMS[:3], "Cu 2.55 inf 0"), "not finite"),
    "cell not finite": (xyz(*ATOMS, head=HEAD.replace("20", "nan")), "not finite|cannot read"),
    "no cell": (xyz(*ATOMS, head="Properties=species:S:1:pos:R:3"), "no three-dimensional cell"),
    "flat cell": (xyz(*ATOMS, head=HEAD.replace("20", "0")), "no three-dimensional cell"),
    "tiny cell": (xyz(*ATOMS, head=HEAD.replace("20", "1e-9")), "no three-dimensional cell"),
    "dummy atoms": (xyz(*ATOMS, "X 1 1 1"), "no known element: X"),
    "unknown element": (xyz(*ATOMS, "Zz 1 1 1"), "cannot read"),
    "element without a radius": (xyz(*ATOMS, "Og 1 1 1"), "no known element: Og"),
    "overlap": (xyz(*ATOMS, "Cu 2.55 2.55 0.3"), "Cu3 and Cu4 are 0.30 Å apart"),
    "overlap across the cell": (xyz(*ATOMS, "Cu 5.0 0 0"), "Cu0 and Cu4 are 0.10 Å apart"),
    "no place above": (xyz(*ATOMS, "Cu 0 0 18"), "Å lie between"),
    "not periodic": (xyz(*ATOMS, head=HEAD.replace("T T F", "F F F")), "periodic in the xy plane"),
    "too many atoms": (xyz(*(f"H {3 * k} 0 0" for k in range(2100))), "2100 atoms"),
}


def refused(folder, file="slab.xyz", **settings):
    with pytest.raises(InputError) as caught:
        build_problem(TemplateSettings(file=file, formula="Cu", **settings), folder)
    assert caught.value.where.startswith("system")
    assert caught.value.mend
    return str(caught.value)


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    text, expected = BAD[case]
    (tmp_path / "slab.xyz").write_text(text)
    message = refused(tmp_path)
    assert re.search(expected, message), message


def test_the_file_of_these_cases_is_good_without_their_mistake(tmp_path):
    (tmp_path / "slab.xyz").write_text(xyz(*ATOMS))
    assert build_problem(TemplateSettings(file="slab.xyz", formula="Cu"), tmp_path).n_template == 4


@pytest.mark.parametrize("content", [b"\x00\xff" * 500, b"\xff\xfe4\x00\n\x00", "4\né\n".encode("latin-1")])
@pytest.mark.parametrize("ending", ["xyz", "cif", "traj", "json", "vasp", "pdb", "nothing"])
def test_bytes_of_no_format(tmp_path, ending, content):
    (tmp_path / f"slab.{ending}").write_bytes(content)
    assert f"slab.{ending}" in refused(tmp_path, f"slab.{ending}")


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "slab1.xyz").write_text(xyz(*ATOMS))
    assert "there is no template" in refused(tmp_path, "folder")
    assert "did you mean slab1.xyz?" in refused(tmp_path, "slab.xyz")
    assert "folder of the campaign file" in refused(tmp_path, "none/at/all.xyz")
    assert "too long" in refused(tmp_path, "a" * 300)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "slab.xyz").write_text(xyz(*ATOMS))

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "slab.xyz")

    monkeypatch.setattr("godelta.systems.builders.read", denied)  # root may read anything
    assert "Permission denied" in refused(tmp_path)


@pytest.mark.parametrize("cell", [[(5, 0, 0), (10, 0, 0), (0, 0, 4)], [(5, 0, 0), (0, 1e-9, 0), (0, 0, 4)]])
def test_a_confinement_without_inside(tmp_path, cell):
    (tmp_path / "slab.xyz").write_text(xyz(*ATOMS))
    message = refused(tmp_path, confinement={"cell": cell, "corner": (0, 0, 2)})
    assert "span nothing" in message
