"""What `godelta phase-diagram` tells of clusters."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from godelta.analysis.cluster_energies import Cluster, Stability, stabilities
from godelta.cli.console import console, print_json, table
from godelta.cli.drawing import save_figure

if TYPE_CHECKING:
    from godelta.cli.phase_diagram import PhaseOptions


def show_cluster_energies(
    clusters: Sequence[Cluster],
    refined: Mapping[str, bool],
    elements: Mapping[str, float],
    atomic: AbstractSet[str],
    options: "PhaseOptions",
) -> None:
    """Print formation energies, distances to the hull and second differences, and draw them where asked to.

    Parameters
    ----------
    refined
        By the clusters' names.
    elements
        Energy in eV per atom of each element.
    atomic
        Elements whose energy is that of a free atom.
    """
    rows = stabilities(clusters, elements)
    if options.plot is not None:
        from godelta.analysis.cluster_plot import cluster_energies

        save_figure(cluster_energies(rows), options.plot)
    if options.output == "json":
        print_json(
            {
                "elements": dict(elements),
                "clusters": [
                    {
                        "name": row.cluster.name,
                        "atoms": dict(row.cluster.atoms),
                        "energy": row.cluster.energy,
                        "formation": row.formation,
                        "above_hull": row.above_hull,
                        "units": row.units,
                        "second_difference": row.second_difference,
                        "refined": refined[row.cluster.name],
                    }
                    for row in rows
                ],
            }
        )
        return
    _show(rows, refined, elements, atomic)


def _show(
    rows: Sequence[Stability],
    refined: Mapping[str, bool],
    elements: Mapping[str, float],
    atomic: AbstractSet[str],
) -> None:
    series = any(row.second_difference is not None for row in rows)
    columns = ["campaign", "formula", "energy, eV", "formation, eV/atom", "above hull, eV/atom"]
    shown = table(*columns, *(["second difference, eV"] if series else []), "refined")
    for row in rows:
        second = "-" if row.second_difference is None else f"{row.second_difference:+.3f}"
        shown.add_row(
            row.cluster.name,
            "".join(f"{symbol}{n}" for symbol, n in row.cluster.atoms.items()),
            f"{row.cluster.energy:.4f}",
            f"{row.formation:.4f}",
            f"{row.above_hull:.4f}",
            *([second] if series else []),
            "yes" if refined[row.cluster.name] else "no",
        )
    console.print(shown)
    zero = ", ".join(
        f"{symbol} {energy:.4f}{' (free atom)' if symbol in atomic else ''}"
        for symbol, energy in sorted(elements.items())
    )
    console.print(f"[dim]formation from, eV per atom: {zero}[/]")
    if series:
        console.print("[dim]second difference E(n+1) + E(n-1) - 2 E(n): positive is more stable than both[/]")
    if not all(refined.values()):
        console.print("[dim]What is not refined is no minimum of the reference: take `refine: {best: 1}`.[/]")
