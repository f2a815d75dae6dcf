"""`godelta lattice`: the lattice constants of a surface's metal, for foundation and reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from godelta.cli.options import FormatOption, WorkspaceOption

if TYPE_CHECKING:
    from ase import Atoms

    from godelta.arrays import FloatArray
    from godelta.campaign import CampaignConfig
    from godelta.store.workspace import Workspace
    from godelta.systems.lattice import Energies, Lattice


def lattice(
    campaign: Annotated[Path, typer.Argument(help="Campaign file with a surface")],
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """Relax the bulk metal of a surface: its lattice constant in the foundation and in the reference."""
    from godelta import logs
    from godelta.campaign_file import read_campaigns
    from godelta.cli.console import print_json
    from godelta.cli.longwork import interruptible
    from godelta.errors import InputError
    from godelta.store.workspace import Workspace
    from godelta.systems.lattice import equilibrium, guess
    from godelta.systems.settings import SurfaceSettings

    place = Workspace.find(workspace)
    logs.take_over(place.logs)
    config = read_campaigns(campaign)[0]  # those of a study have one slab
    if not isinstance(config.system, SurfaceSettings):
        raise InputError(
            "there is no metal whose lattice constant could be relaxed",
            where=f"{campaign}, system.kind",
            mend="`godelta lattice` is for `kind: surface`",
        )
    _see_that_crystals_can_be_done(config)
    element = config.system.element
    given = config.system.lattice_constant
    found: dict[str, Lattice] = {}
    with interruptible("the same command goes on where it was") as interrupted:
        for level, energies in _levels(config, place).items():
            found[level] = equilibrium(element, energies, given)
    if interrupted:
        raise typer.Exit(130)
    used = guess(element) if given is None else given
    if output == "json":
        print_json(_plain(element, used, found))
    else:
        _show(element, used, found)


def _see_that_crystals_can_be_done(config: "CampaignConfig") -> None:
    from ase.data import atomic_numbers

    from godelta.errors import InputError
    from godelta.reference.registry import check_engine
    from godelta.reference.settings import GPAWSettings
    from godelta.systems.settings import SurfaceSettings

    assert isinstance(config.system, SurfaceSettings)
    reference = config.reference
    check_engine(reference, [atomic_numbers[config.system.element]])
    if (
        isinstance(reference, GPAWSettings)
        and reference.settings == "pbe-light"
        and "kpts" not in reference.overrides
    ):
        raise InputError(
            "pbe-light has no k-points, and a crystal needs them",
            where="reference.settings",
            mend="take `settings: pbe-production`, or `overrides: {kpts: {density: 5.0, gamma: true}}`",
        )


def _levels(config: "CampaignConfig", workspace: "Workspace") -> "dict[str, Energies]":
    """What gives energies at each level, by its name."""
    from godelta.foundation import load_foundation
    from godelta.reference.registry import name_of

    foundation = load_foundation(config.foundation)

    def by_foundation(crystals: "Sequence[Atoms]") -> "FloatArray":
        return foundation.evaluate(crystals).energies

    return {
        f"foundation {foundation.identity.name}": by_foundation,
        f"reference {name_of(config.reference)}": _reference(config, workspace),
    }


def _reference(config: "CampaignConfig", workspace: "Workspace") -> "Energies":
    """Evaluations in processes of their own; results of a command that was stopped are found again."""
    from godelta.cli.longwork import bar
    from godelta.reference.kept import kept_energies, kept_folder
    from godelta.reference.registry import name_of, reference_hash

    workspace.prepare()
    folder = kept_folder(workspace.scratch, reference_hash(config.reference))

    def energies(crystals: "Sequence[Atoms]") -> "FloatArray":
        with bar(name_of(config.reference)) as report:
            return kept_energies(config.reference, folder, report)(crystals)

    return energies


def _plain(element: str, used: float, found: "dict[str, Lattice]") -> dict[str, object]:
    from dataclasses import asdict

    return {
        "element": element,
        "campaign": used,
        "levels": {name: asdict(row) for name, row in found.items()},
    }


def _show(element: str, used: float, found: "dict[str, Lattice]") -> None:
    from godelta.cli.console import console, table

    shown = table("level", "a, Å", "bulk modulus, GPa", "energy, eV/atom", "strain of the campaign's slab")
    for name, row in found.items():
        strain = used / row.constant - 1.0
        shown.add_row(
            name, f"{row.constant:.4f}", f"{row.bulk_modulus:.0f}", f"{row.energy:.4f}", f"{strain:+.2%}"
        )
    console.print(shown)
    reference = list(found.values())[-1]
    console.print(f"The slab of {element} in the campaign file has {used:.4f} Å.")
    console.print(f"At the reference's: `lattice_constant: {reference.constant:.4f}` in `system`.")
