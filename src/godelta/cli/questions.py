"""Commands that ask about what campaigns have found; nothing heavy is imported here."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from godelta.cli.options import FormatOption, WorkspaceOption


def best(
    campaign: Annotated[str, typer.Argument(help="Name of a campaign")],
    count: Annotated[int, typer.Option("-n", min=1, help="How many")] = 10,
    export: Annotated[
        Path | None, typer.Option(help="Write the structures to a file, in any format that ASE writes")
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="List every evaluation; of a refinement steps that led up as well"),
    ] = False,
    trajectory: Annotated[
        str | None,
        typer.Option(help="Beginning of the id of a refined structure: list its refinement, step by step"),
    ] = None,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """List a campaign's lowest structures at the reference level."""
    from godelta.cli.best import BestOptions, show_best

    show_best(campaign, workspace, BestOptions(count, every, trajectory, export, output))


def models(
    campaign: Annotated[str, typer.Argument(help="Name of a campaign")],
    plot: Annotated[Path | None, typer.Option(help="Draw whether uncertainties are right")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write foundation + Δ as an ASE calculator, a folder of its own")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Beginning of the id of the model to export [default: the latest]")
    ] = None,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """List a campaign's Δ-models: errors over rounds, and how right their uncertainties are."""
    from godelta.cli.models import ModelsOptions, show_models

    show_models(campaign, workspace, ModelsOptions(plot, export, model, output))


def moves(
    campaign: Annotated[str, typer.Argument(help="Name of a campaign")],
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """Show how often each kind of move was made, accepted, evaluated, and lowered the lowest energy."""
    from godelta.cli.moves import show_moves

    show_moves(campaign, workspace, output)


def report(
    campaign: Annotated[list[str], typer.Argument(help="Names of campaigns")],
    file: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File; folder of several [default: results/NAME/report.html]"),
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, max=200, help="How many structures to show")] = 10,
    workspace: WorkspaceOption = None,
) -> None:
    """Write all there is to know of a campaign into one HTML file, which needs nothing else."""
    from godelta.cli.report import write_reports

    write_reports(campaign, workspace, file, count)


def explain(
    structure: Annotated[str, typer.Argument(help="Id of a structure, or its beginning")],
    top: Annotated[int, typer.Option(min=1, help="How many evaluations to list")] = 10,
    data: Annotated[
        Path | None, typer.Option(help="Structures to look for similar environments in, e.g. .extxyz")
    ] = None,
    near: Annotated[int, typer.Option(min=1, help="How many environments for each atom")] = 3,
    image: Annotated[Path | None, typer.Option(help="Draw the atoms' energies into this file")] = None,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """Show where a structure's energy comes from: atoms, evaluations, similar environments."""
    from godelta.cli.explain import ExplainOptions, explain_structure

    explain_structure(structure, workspace, ExplainOptions(top, data, near, image, output))


def query(
    formula: Annotated[str | None, typer.Option(help="Formula of the whole structure, e.g. Ag4S2")] = None,
    elements: Annotated[str | None, typer.Option(help="Elements that must occur, e.g. Ag,S")] = None,
    campaign: Annotated[list[str] | None, typer.Option(help="Name of a campaign, repeatable")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag of the campaign, repeatable: all")] = None,
    foundation: Annotated[str | None, typer.Option(help="Name of the foundation, e.g. chgnet")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Engine, e.g. gpaw or gpaw-pbe-light, or the start of a reference hash")
    ] = None,
    round_: Annotated[
        int | None, typer.Option("--round", min=0, help="Round that proposed it, from 0")
    ] = None,
    status: Annotated[
        Literal["ok", "failed", "pending"], typer.Option(help="What became of its evaluation")
    ] = "ok",
    max_energy: Annotated[float | None, typer.Option(help="Highest reference energy, eV")] = None,
    above: Annotated[
        float | None,
        typer.Option(min=0, help="Highest energy above the best of the same formula and reference, eV"),
    ] = None,
    above_per_atom: Annotated[float | None, typer.Option(min=0, help="The same, eV/atom")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows")] = 50,
    export: Annotated[Path | None, typer.Option(help="Write the structures to a file")] = None,
    workspace: WorkspaceOption = None,
    output: Annotated[Literal["table", "json", "csv", "extxyz"], typer.Option("--format")] = "table",
) -> None:
    """Find structures of all campaigns, the lowest energy per atom first."""
    from godelta.cli.query import show_query
    from godelta.store.query import Query

    wanted = Query(
        formula=formula,
        elements=tuple(elements.split(",")) if elements else (),
        campaigns=tuple(campaign or ()),
        tags=tuple(tag or ()),
        foundation=foundation,
        reference=reference,
        round=round_,
        status=status,
        max_energy=max_energy,
        above=above,
        above_per_atom=above_per_atom,
        limit=limit,
    )
    show_query(wanted, workspace, export=export, output=output)


def phase_diagram(
    campaign: Annotated[
        list[str], typer.Argument(help="Names of campaigns or studies: on one slab, or of clusters")
    ],
    gas: Annotated[
        str | None, typer.Option(help="Element that comes from a gas [default: the only one]")
    ] = None,
    gas_energy: Annotated[
        float | None, typer.Option(help="Energy of half its molecule, eV [default: evaluated]")
    ] = None,
    solid: Annotated[
        list[str] | None,
        typer.Option(help="SYMBOL=ENERGY per atom of a solid, eV, repeatable [default: fcc]"),
    ] = None,
    temperature: Annotated[
        list[float] | None, typer.Option(help="Temperature of an axis of pressures, K, repeatable")
    ] = None,
    low: Annotated[float, typer.Option("--from", help="Lowest chemical potential, eV")] = -3.0,
    high: Annotated[float, typer.Option("--to", help="Highest chemical potential, eV")] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Draw the diagram to a file")] = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="Write diagram, structures and energies to an HTML file")
    ] = None,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """Which surface structures are stable at which potential of a gas, or how stable clusters are."""
    from godelta.cli.phase_diagram import PhaseOptions, show_phases

    span = (low, high)
    given = PhaseOptions(gas, gas_energy, tuple(solid or ()), span=span, plot=plot, page=page, output=output)
    if temperature:
        given = replace(given, temperatures=tuple(temperature))
    raise typer.Exit(show_phases(campaign, workspace, given))


def compare(
    campaign: Annotated[list[str], typer.Argument(help="Names of campaigns with one reference")],
    foundation: Annotated[
        list[str] | None,
        typer.Option(help="Name or {name: ..., ...}, repeatable [default: own, and those compared before]"),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(help="Python of another environment, or FOUNDATION=PYTHON, repeatable"),
    ] = None,
    model: Annotated[bool, typer.Option("--model", help="Show the campaigns' Δ-models as well")] = False,
    within: Annotated[
        float | None, typer.Option(min=0, help="Highest reference energy above the lowest, eV [default: all]")
    ] = None,
    lowest: Annotated[int, typer.Option("-n", min=1, help="How many low minima to rank")] = 5,
    plot: Annotated[Path | None, typer.Option(help="Draw parity and errors to a file")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write a line for each structure to a file, CSV")
    ] = None,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """Evaluate campaigns' structures with several foundations, and compare them with the reference."""
    from godelta.cli.compare import CompareOptions, show_comparison

    options = CompareOptions(
        tuple(foundation or ()), tuple(python or ()), model, within, lowest, plot, export, output
    )
    raise typer.Exit(show_comparison(campaign, workspace, options))
