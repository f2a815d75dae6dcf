"""Sections about what a search did: walkers, moves, refinement, failures."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from godelta.analysis.report.data import CampaignData
from godelta.analysis.report.figures import acceptance_over_rounds, ladder_of_walkers
from godelta.analysis.report.parts import Part, Plot, Prose, Section, Table
from godelta.analysis.report.words import number, percent


def search_section(data: CampaignData) -> Section | None:
    """What walkers accept and exchange; None for methods without walkers."""
    shares = [row.acceptance for row in data.rounds if row.acceptance]
    if not shares:
        return None
    parts: list[Part] = []
    width = max(len(values) for values in shares)
    means = [_mean([values[i] for values in shares if i < len(values)]) for i in range(width)]
    swaps = [row.done / row.tried if row.tried else None for row in data.swaps]
    if data.ladder and any(value is not None for value in means):
        parts.append(
            Plot(
                ladder_of_walkers(data.ladder, means, swaps),
                "Share of moves accepted by each walker, and of exchanges done with the next, over kT",
                "Moves: the last ten rattles of each walker, mean over rounds and chains; the hottest walker"
                " takes whatever comes." + (" Exchanges: between neighbours." if swaps else ""),
            )
        )
    by_chain: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in data.rounds:
        if (value := _mean(row.acceptance)) is not None:
            by_chain[row.chain].append((row.round, value))
    if by_chain:
        parts.append(
            Plot(
                acceptance_over_rounds(by_chain),
                "Mean share of moves accepted at the end of each round, for each chain",
                "Mean over a chain's walkers, of the last ten "
                + ("rattles of each." if data.ladder else "verdicts on each."),
            )
        )
    if data.ladder:
        columns = ["walker", "kT, eV", "accepted", "exchanges with the next", "tried"]
        rows = [
            [
                str(i),
                f"{kT:.4g}",
                percent(means[i] if i < width else None),
                percent(swaps[i]) if i < len(swaps) else "-",
                str(data.swaps[i].tried) if i < len(data.swaps) else "-",
            ]
            for i, kT in enumerate(data.ladder)
        ]
        parts.append(Table("walkers", columns, rows))
    title = "Acceptance and swaps" if data.ladder else "Acceptance"
    return Section("search", title, parts) if parts else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def moves_section(data: CampaignData) -> Section | None:
    """What became of each kind of move; None before the first."""
    if not data.moves:
        return None
    columns = [
        "move", "proposed", "relaxed", "accepted", "share accepted", "impossible", "evaluated", "failed",
        "improved", "share improved",
    ]  # fmt: skip
    rows = [
        [
            one.move, str(one.proposed), str(one.relaxed), str(one.accepted),
            percent(one.accepted / one.proposed if one.proposed else None), str(one.impossible),
            str(one.evaluated), str(one.failed), str(one.improved),
            percent(one.improved / one.evaluated if one.evaluated else None),
        ]
        for one in data.moves
    ]  # fmt: skip
    note = "Improved: evaluations lower than all before them. A structure counts for what proposed it first."
    return Section(
        "moves", "Moves and generators", [Table("moves", columns, rows, frozenset({"move"}), note)]
    )


def refinement_section(data: CampaignData) -> Section | None:
    """What is refined; None where nothing is."""
    if data.refinement is None:
        return None
    columns = ["structure", "from", "status", "evaluations", "energy before", "now, eV", "below", "fmax"]
    rows = [
        [
            one.structure_id[:8], one.start_id[:8], one.status, str(one.evaluations),
            number(one.start_energy), f"{one.energy:.4f}",
            number(None if one.start_energy is None else one.start_energy - one.energy), f"{one.fmax:.3f}",
        ]
        for one in data.refined
    ]  # fmt: skip
    parts: list[Part] = [Prose(data.refinement)]
    if rows:
        texts = frozenset({"structure", "from", "status"})
        parts.append(Table("refinement", columns, rows, texts, "fmax: largest reference force, eV/Å."))
    return Section("refinement", "Refinement", parts)


def failures_section(data: CampaignData) -> Section | None:
    """Why evaluations failed; None where none did."""
    if not data.failures:
        return None
    rows = [[one.reason, str(one.count), one.message] for one in data.failures]
    table = Table(
        "failed evaluations by reason",
        ["reason", "how often", "the latest said"],
        rows,
        frozenset({"reason", "the latest said"}),
    )
    return Section("failures", "Failures by reason", [table])
