"""The page about one campaign: sections that leave out what there is not."""

from collections import defaultdict

import numpy as np

from godelta.analysis.plots import energy_against_evaluations
from godelta.analysis.report.data import REFINEMENT, CampaignData, Found
from godelta.analysis.report.figures import lowest_after_rounds
from godelta.analysis.report.learning import model_section
from godelta.analysis.report.parts import Facts, Page, Part, Plot, Prose, Section, Shown, Table, Viewer
from godelta.analysis.report.provenance import costs_section, provenance_section
from godelta.analysis.report.searching import (
    failures_section,
    moves_section,
    refinement_section,
    search_section,
)
from godelta.analysis.report.words import MOST_ROWS, duration, folded, number, time_of


def campaign_page(data: CampaignData, *, back: str = "") -> Page:
    """All that is known of a campaign, for a person to read."""
    sections = [
        _summary(data),
        _structures(data),
        _energies(data),
        model_section(data),
        search_section(data),
        moves_section(data),
        refinement_section(data),
        failures_section(data),
        costs_section(data),
        provenance_section(data),
    ]
    return Page(
        title=data.name,
        subtitle=f"{data.system}: {data.method}, from {data.created_at:%d %B %Y}",
        sections=[section for section in sections if section is not None],
        foot=f"Written by godelta {data.provenance.versions.get('godelta', '')} at {time_of(data.read_at)}.",
        state=data.state,
        headline=_headline(data),
        back=back,
    )


def _headline(data: CampaignData) -> list[tuple[str, str]]:
    best = data.best[0] if data.best else None
    return [
        ("lowest energy", "none yet" if best is None else f"{best.energy:.4f} eV"),
        ("evaluations", f"{data.evaluated} of {data.budget}"),
        ("failed", str(data.failed)),
        ("rounds closed", str(data.closed_rounds)),
        ("time run", duration(data.elapsed_s)),
    ]


def _summary(data: CampaignData) -> Section:
    parts: list[Part] = []
    if data.state == "failed":
        parts.append(Prose(f"The campaign failed: {data.reason or 'no reason is known'}"))
    if data.best:
        parts.append(Prose(_told_of_the_best(data)))
    else:
        parts.append(Prose("No evaluation has given an energy yet."))
    if data.state not in ("finished", "failed", "cancelled"):
        parts.append(Prose(f"It is {data.state}: this page says what was known at {time_of(data.read_at)}."))
    parts.append(Facts(data.told))
    return Section("summary", "Summary", parts)


def _told_of_the_best(data: CampaignData) -> str:
    best = data.best[0]
    text = (
        f"The lowest structure has {best.energy:.4f} eV ({best.energy_per_atom:.4f} eV per atom)"
        f" and was proposed by {best.chain} in round {best.round}"
    )
    text += f"; it is evaluation {best.number} of {data.evaluated}." if best.number is not None else "."
    if len(data.best) > 1:
        text += f" The next one lies {data.best[1].energy - best.energy:.3f} eV above."
    if best.refinement == "converged":
        text += " It is a minimum of the reference."
    elif data.state == "finished":
        text += " It was not refined, so it need not be a minimum of the reference."
    return text


def _structures(data: CampaignData) -> Section | None:
    if not data.best:
        return None
    lowest = data.best[0].energy
    shown = [
        Shown(f"{rank}: {one.energy - lowest:+.3f} eV", one.atoms, _facts(one, lowest))
        for rank, one in enumerate(data.best, 1)
    ]
    refining = any(one.refinement for one in data.best)
    columns = [
        "#",
        "structure",
        "energy",
        "above lowest",
        "per atom",
        "predicted",
        "σ",
        "found",
        "chain, round",
    ]
    rows = [
        [
            str(rank), one.structure_id[:8], f"{one.energy:.4f}", f"{one.energy - lowest:.4f}",
            f"{one.energy_per_atom:.4f}",
            number(one.model_energy if one.uncertainty is not None or not data.has_delta else None),
            number(one.uncertainty, 3),
            str(one.found), f"{one.chain}, {one.round}",
            *([number(one.fmax, 3), one.refinement or "-"] if refining else []),
        ]
        for rank, one in enumerate(data.best, 1)
    ]  # fmt: skip
    note = (
        "Energies in eV. Predicted and σ: the model's energy and its deviation when the structure was"
        " selected. Found: how many evaluations of the search found it."
    )
    if refining:
        columns += ["fmax", "refinement"]
        note += " fmax: largest reference force, eV/Å."
    table = Table("the lowest structures", columns, rows, frozenset({"structure"}), note)
    return Section("structures", "Lowest structures", [Viewer(shown, f"{data.name}-lowest.extxyz"), table])


def _facts(one: Found, lowest: float) -> list[tuple[str, str]]:
    facts = [
        ("energy", f"{one.energy:.4f} eV"),
        ("above the lowest", f"{one.energy - lowest:.4f} eV"),
        ("structure", one.structure_id[:8]),
        ("evaluation", "-" if one.number is None else str(one.number)),
        ("proposed by", f"{one.chain}, round {one.round}"),
        ("refinement", one.refinement or "not refined"),
    ]
    if one.fmax is not None:
        facts.append(("largest force", f"{one.fmax:.3f} eV/Å"))
    if one.uncertainty is not None:
        facts += [
            ("Δ when selected", f"{one.model_energy - one.foundation_energy:+.3f} eV"),
            ("σ when selected", f"{one.uncertainty:.3f} eV"),
            ("error then", f"{one.model_energy - one.energy:+.3f} eV"),
        ]
    return facts


def _energies(data: CampaignData) -> Section | None:
    if not len(data.history.energies):
        return None
    history = data.history
    parts: list[Part] = [
        Plot(
            energy_against_evaluations(
                history.energies, history.chains, names=history.names, legend="below"
            ),
            f"Energies of {len(history.energies)} evaluations in the order in which they ended, and the"
            " lowest so far of each chain",
            "Each evaluation, and the lowest so far of each chain.",
        )
    ]  # fmt: skip
    lowest: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in data.rounds:
        if row.best_energy is not None and row.chain != REFINEMENT:
            lowest[row.chain].append((row.round, row.best_energy))
    if lowest:
        parts.append(
            Plot(
                lowest_after_rounds(lowest, float(np.nanmin(history.energies))),
                "The lowest energy by the end of each round, for each chain",
                "Circles: the lowest of each round. Lines: the lowest so far. Up to 2 eV above the lowest.",
            )
        )
    columns = ["chain", "round", "state", "selected", "ok", "failed", "lowest, eV"]
    rows = [
        [
            row.chain, str(row.round), row.state, str(row.selected), str(row.ok), str(row.failed),
            number(row.best_energy),
        ]
        for row in data.rounds[:MOST_ROWS]
    ]  # fmt: skip
    title = f"All {len(rows)} rounds" if len(rows) == len(data.rounds) else f"The first {len(rows)} rounds"
    parts.append(Table("rounds", columns, rows, frozenset({"chain", "state"}), folded=folded(rows, title)))
    return Section("energies", "Energy against evaluations and rounds", parts)
