"""`godelta explain`: where the energy of a structure comes from."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from rich.markup import escape

from godelta.cli.console import console, print_json, table
from godelta.cli.drawing import save_figure
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns, models, rounds, structures
from godelta.store.database import Store
from godelta.store.documents import StructureDocument

if TYPE_CHECKING:
    from godelta.analysis.environments import Neighbourhood
    from godelta.arrays import FloatArray
    from godelta.campaign import CampaignConfig
    from godelta.delta.explain import Influence
    from godelta.delta.model import AnyCorrection
    from godelta.foundation import Foundation


@dataclass(frozen=True)
class ExplainOptions:
    """What the command line said.

    Parameters
    ----------
    top
        How many evaluations to list.
    data
        Structures to look for similar environments in, in any format that ASE reads.
    near
        How many environments for each atom.
    image
        Picture to write.
    output
        table or json.
    """

    top: int = 10
    data: Path | None = None
    near: int = 3
    image: Path | None = None
    output: str = "table"


@dataclass(frozen=True)
class _Answer:
    document: StructureDocument
    atoms: Atoms
    foundation: "FloatArray | None"
    correction: "FloatArray | None"
    learnt: "AnyCorrection | None"
    influences: "list[Influence]"
    neighbourhoods: "list[Neighbourhood]"


def explain_structure(start: str, folder: Path | None, options: ExplainOptions) -> None:
    """Print where the energy of a structure comes from, and draw it where asked to.

    Raises
    ------
    InputError
        There is no such structure, or a file cannot be used.
    """
    store = open_existing(folder).connect(start=True)
    document = structures.find_structure(store, start)
    answer = _explain(store, document, options)
    if options.output == "json":
        print_json(_as_dict(store, answer))
    else:
        _print(store, answer, options)
    if options.image is not None:
        _draw(answer, options.image)
        if options.output == "table":
            console.print(f"picture: {options.image}")


def _explain(store: Store, document: StructureDocument, options: ExplainOptions) -> _Answer:
    from godelta.campaign import CampaignConfig
    from godelta.delta.explain import atomic_corrections, environments_of, influences
    from godelta.foundation import load_foundation
    from godelta.foundation.base import EmbeddingFoundation

    campaign = campaigns.get_campaign(store, document.campaign_id)
    config = CampaignConfig.model_validate(campaign.config)
    atoms = document.atoms()
    with console.status("Loading the foundation"):
        foundation = load_foundation(config.foundation)
    learnt = _learnt(store, document)
    x = None if learnt is None else environments_of(learnt, foundation, atoms)
    embedding = foundation if isinstance(foundation, EmbeddingFoundation) else None
    sites = embedding.site_energies([atoms]) if embedding is not None else None
    return _Answer(
        document=document,
        atoms=atoms,
        foundation=None if sites is None else sites[0],
        correction=None if learnt is None or x is None else atomic_corrections(learnt, x),
        learnt=learnt,
        influences=[] if learnt is None or x is None else influences(learnt, x)[: options.top],
        neighbourhoods=[] if options.data is None else _nearest(foundation, config, atoms, options),
    )


def _learnt(store: Store, document: StructureDocument) -> "AnyCorrection | None":
    """What the structure's chain has learnt by now."""
    from godelta.delta.model import Learnt

    model_id = rounds.latest_model(store, document.campaign_id, document.chain)
    return None if model_id is None else Learnt.from_bytes(models.load_model(store, model_id)).correction


def _nearest(
    foundation: "Foundation", config: "CampaignConfig", atoms: Atoms, options: ExplainOptions
) -> "list[Neighbourhood]":
    from godelta.analysis.environments import EnvironmentIndex
    from godelta.foundation.base import EmbeddingFoundation

    assert options.data is not None
    if not isinstance(foundation, EmbeddingFoundation):
        raise InputError(
            f"the foundation {config.foundation.name} has no features of atoms to compare",
            where="--data",
            mend="leave --data out, or use a foundation with an embedding: `godelta foundations`",
        )
    with console.status("Looking at environments") as line:
        index = EnvironmentIndex.build(
            foundation,
            _read(options.data),
            numbers=sorted({int(number) for number in atoms.numbers}),
            done=lambda count: line.update(f"Looking at environments of {count} structures"),
        )
    return index.nearest(atoms, options.near)


def _read(path: Path) -> Iterator[Atoms]:
    """The structures of a file, one by one.

    Raises
    ------
    InputError
        It cannot be read.
    """
    from ase.io import iread

    try:
        yield from iread(path, ":")
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), mend="give a file of structures") from None
    except Exception as error:  # noqa: BLE001 - ASE's readers raise anything
        raise InputError(
            f"cannot be read: {error}", where=str(path), mend="give a format that ASE reads, e.g. .extxyz"
        ) from None


def _print(store: Store, answer: _Answer, options: ExplainOptions) -> None:
    document = answer.document
    console.print(f"[bold]{document.formula}[/] {document.structure_id[:8]}")
    _print_atoms(answer)
    if answer.learnt is None:
        console.print("Nothing has been learnt yet: there is no correction to explain.")
    elif answer.correction is None:
        console.print(
            f"The correction compares whole structures (aggregation: {answer.learnt.settings.aggregation}):"
            " nothing of it is on one atom."
        )
    if answer.influences:
        _print_influences(store, answer)
    if answer.neighbourhoods:
        _print_neighbourhoods(answer, options)


def _print_atoms(answer: _Answer) -> None:
    from godelta.analysis.pictures import above_the_mean

    columns = ["atom", "element", "x", "y", "z"]
    energies = {"foundation": answer.foundation, "Δ": answer.correction}
    known = {name: values for name, values in energies.items() if values is not None}
    shown = table(*columns, *(name for energy in known for name in (energy, "above mean")))
    above = {name: above_the_mean(answer.atoms, values) for name, values in known.items()}
    for k, atom in enumerate(answer.atoms):
        place = [f"{x:.2f}" for x in atom.position]
        pairs = [
            f"{values[name][k]:{sign}.4f}" for name in known for values, sign in ((known, ""), (above, "+"))
        ]
        shown.add_row(str(k), atom.symbol, *place, *pairs)
    sums = [text for values in known.values() for text in (f"{values.sum():.4f}", "")]
    shown.add_row("all", "", "", "", "", *sums)
    console.print(shown)
    console.print("[dim]energies in eV, positions in Å; above mean: of the element in this structure[/]")
    if answer.foundation is None:
        console.print("[dim]this foundation does not say what energy is on which atom[/]")


def _print_influences(store: Store, answer: _Answer) -> None:
    console.print("\n[bold]Evaluations that make the correction what it is here[/]")
    shown = table("structure", "shift", "error of the foundation")
    for one, structure_id in zip(answer.influences, _ids(store, answer), strict=True):
        shown.add_row(structure_id[:8], f"{one.shift:+.4f}", f"{one.residual:+.4f}")
    console.print(shown)
    console.print(
        "[dim]eV; shift: E_Δ with this evaluation minus E_Δ without it;"
        " error: beyond what is usual for the composition[/]"
    )


def _ids(store: Store, answer: _Answer) -> list[str]:
    """Ids of the evaluated structures; the model knows them by their hashes."""
    hashes = [one.structure_id for one in answer.influences]
    query = {"structure_hash": {"$in": hashes}, "campaign_id": answer.document.campaign_id}
    found = {
        raw["structure_hash"]: raw["structure_id"]
        for raw in store.structures.find(query, {"structure_hash": 1, "structure_id": 1})
    }
    return [found.get(digest, digest) for digest in hashes]


def _print_neighbourhoods(answer: _Answer, options: ExplainOptions) -> None:
    console.print(f"\n[bold]Nearest environments in {escape(str(options.data))}[/]")
    shown = table("atom", "element", "distance", "novelty", "nearest")
    for one in answer.neighbourhoods:
        names = ", ".join(f"{near.formula} (structure {near.structure})" for near in one.nearest)
        distance = f"{one.nearest[0].distance:.3f}" if one.nearest else "-"
        shown.add_row(str(one.atom), one.symbol, distance, _ratio(one.novelty), escape(names) or "none")
    console.print(shown)
    console.print(
        "[dim]distance in the foundation's embedding; novelty: over the usual distance in the data set[/]"
    )


def _ratio(novelty: float) -> str:
    import math

    return "-" if math.isnan(novelty) else "no such element" if math.isinf(novelty) else f"{novelty:.1f}"


def _as_dict(store: Store, answer: _Answer) -> dict[str, Any]:
    atoms = [
        {
            "atom": k,
            "symbol": atom.symbol,
            "position": [float(x) for x in atom.position],
            "foundation": None if answer.foundation is None else float(answer.foundation[k]),
            "delta": None if answer.correction is None else float(answer.correction[k]),
        }
        for k, atom in enumerate(answer.atoms)
    ]
    evaluations = [
        {"structure_id": structure_id, "shift": one.shift, "residual": one.residual}
        for one, structure_id in zip(answer.influences, _ids(store, answer), strict=True)
    ]
    return {
        "structure_id": answer.document.structure_id,
        "formula": answer.document.formula,
        "atoms": atoms,
        "evaluations": evaluations,
        "environments": [asdict(one) for one in answer.neighbourhoods],
    }


def _draw(answer: _Answer, path: Path) -> None:
    from godelta.analysis.pictures import energies_of_atoms

    panels = {"foundation": answer.foundation, "Δ": answer.correction}
    known = {name: values for name, values in panels.items() if values is not None}
    if not known:
        raise InputError(
            "there is no energy of atoms to draw",
            where=str(path),
            mend="wait for the first round, or use a foundation that has energies of atoms",
        )
    figure = energies_of_atoms(answer.atoms, known, title=answer.document.formula)
    save_figure(figure, path)
