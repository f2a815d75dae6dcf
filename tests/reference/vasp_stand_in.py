"""In VASP's place: EMT's numbers as a vasprun.xml, for the POSCAR that it finds."""

import sys
from pathlib import Path

from ase.calculators.emt import EMT
from ase.io import read

XML = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<generator><i name="program" type="string">vasp </i><i name="version" type="string">6.4.3  </i></generator>
<kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
<parameters><i type="int" name="NELM">{nelm}</i></parameters>
<atominfo><array name="atoms"><set>{names}</set></array></atominfo>
<structure name="initialpos">{structure}</structure>
<calculation>
{steps}
<structure>{structure}</structure>
<varray name="forces">{forces}</varray>
{energies}
</calculation>
</modeling>
"""
REFUSAL = (
    " |     VERY BAD NEWS! internal error in subroutine SGRCON:   |\n |   Found some non-integer element   |"
)


def rows(array):
    return "".join("<v>" + " ".join(f"{x:.10f}" for x in row) + "</v>" for row in array)


def vasprun(words, incar):
    """The file's text; `slow` takes all iterations of ALGO = Normal, `never` those of any."""
    nelm = int(incar.split("NELM = ")[1].split()[0])
    all_of_them = "never" in words or ("slow" in words and "ALGO = Normal" in incar)
    atoms = read("POSCAR", format="vasp")
    atoms.pbc = False  # the box is wide
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    names = "".join(f"<rc><c>{symbol}</c><c>1</c></rc>" for symbol in atoms.symbols)
    levels = {"e_fr_energy": energy, "e_wo_entrp": energy + 1, "e_0_energy": energy + 0.5}
    energies = "".join(f'<i name="{name}">{value}</i>' for name, value in levels.items())
    energies = f"<energy>{energies}</energy>"
    cell = f'<crystal><varray name="basis">{rows(atoms.cell)}</varray></crystal>'
    return XML.format(
        nelm=nelm,
        names=names,
        structure=f'{cell}<varray name="positions">{rows(atoms.get_scaled_positions())}</varray>',
        steps=(nelm if all_of_them else 7) * f"<scstep>{energies}</scstep>",
        forces=rows(atoms.get_forces()),
        energies=energies,
    )


def main(words):
    assert all(Path(name).stat().st_size for name in ("INCAR", "KPOINTS", "POSCAR", "POTCAR"))
    if "bad" in words:
        sys.stdout.write(REFUSAL)
        sys.exit(1)
    text = vasprun(words, Path("INCAR").read_text())
    Path("vasprun.xml").write_text(text[:900] if "cut" in words else text)


if __name__ == "__main__":
    main(sys.argv[1:])
