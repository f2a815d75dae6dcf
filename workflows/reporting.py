"""What a report tells of a campaign, read from the database."""

import io
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from godelta.analysis.report.data import (
    CampaignData,
    CostRow,
    FailureRow,
    Found,
    History,
    ModelRow,
    MoveRow,
    Provenance,
    RefinedRow,
    RoundRow,
    SwapRow,
)
from godelta.analysis.report.page import extxyz
from godelta.campaign import CampaignConfig
from godelta.redaction import redact
from godelta.search.settings import OwnSearchSettings, REXSettings
from godelta.store import campaigns, evaluations, rounds
from godelta.store.blobs import DamagedError
from godelta.store.database import Raw, Store
from godelta.store.detail import Detail, detail
from godelta.store.documents import REFINEMENT_CHAIN, CampaignDocument, RoundDocument, chain_title
from godelta.store.moves import move_records
from godelta.store.overview import system_label
from godelta.store.progress import snapshot
from godelta.store.query import images
from godelta.store.refining import RefinementStatus, largest_forces, refinement_status
from godelta.store.spending import evaluation_cost
from godelta.systems.packing import unpack_problem
from godelta.workflows.minima import best_minima
from godelta.workflows.model_records import held_out, model_record, proposals_of

METHODS = {
    "rex": "replica exchange",
    "rss": "random structure search",
    "bh": "basin hopping",
    "gofee": "GOFEE",
}


def _method(config: CampaignConfig) -> str:
    if isinstance(config.search, OwnSearchSettings):
        return config.search.program.rpartition(".")[2]
    return METHODS[config.search.method]


def campaign_data(store: Store, campaign: CampaignDocument, count: int = 10) -> CampaignData:
    """All that a report tells of a campaign, with its `count` lowest structures."""
    config = CampaignConfig.model_validate(campaign.config)
    progress = snapshot(store, campaign.campaign_id)
    looked = detail(store, campaign, [], every_round=True)
    documents = rounds.rounds_of(store, campaign.campaign_id)
    history = evaluations.history(store, campaign.campaign_id, campaign.reference_hash)
    refined = refinement_status(store, campaign, config)
    has_delta = config.delta.preset != "none"
    learnt = [one for one in documents if one.next_model_id is not None]
    times = [campaign.updated_at, *(one.changed_at for one in documents)]
    return CampaignData(
        name=campaign.name,
        system=system_label(campaign.config["system"]),
        state=campaign.state,
        reason=campaign.reason,
        told=_told(config),
        method=_method(config),
        has_delta=has_delta,
        budget=progress.budget,
        evaluated=progress.ok + progress.failed,
        failed=progress.failed,
        closed_rounds=sum(one.state == "closed" for one in documents),
        elapsed_s=campaign.elapsed_s,
        created_at=campaign.created_at,
        changed_at=max(times),
        read_at=store.now(),
        best=_best(store, campaign, history, count),
        history=_history(history),
        rounds=_rounds(looked, documents),
        models=_models(store, campaign, learnt) if has_delta else [],
        held_out=_held_out(store, learnt, share=config.share) if has_delta else None,
        ladder=_ladder(config),
        swaps=_swaps(documents),
        moves=[
            MoveRow(**{name: getattr(one, name) for name in MoveRow.__dataclass_fields__})
            for one in move_records(store, campaign)
        ],
        failures=_failures(looked),
        costs=_costs(store, campaign, documents),
        worker_s=campaign.worker_s,
        refinement=_sentence(refined),
        refined=_refined(refined),
        provenance=_provenance(store, campaign, config),
    )


def _told(config: CampaignConfig) -> list[tuple[str, str]]:
    foundation, reference = config.foundation, config.reference
    settings = getattr(reference, "settings", None) or getattr(reference, "method", None)
    engine = getattr(reference, "calculator", None) or reference.engine
    budget = config.budget
    shared = "which learn from each other" if config.share else "independent of each other"
    facts = [
        ("system", system_label(config.system.model_dump(mode="json"))),
        ("foundation", str(getattr(foundation, "calculator", None) or foundation.name)),
        ("Δ-model", "none" if config.delta.preset == "none" else f"{config.delta.descriptor}"),
        ("reference", f"{engine} {settings}" if isinstance(settings, str) else str(engine)),
        ("search", _method(config)),
        ("chains", "1" if budget.chains == 1 else f"{budget.chains}, {shared}"),
        ("budget", f"{budget.rounds} rounds of each chain, {budget.evaluations} evaluations"),
        ("refinement", f"the {config.refine.best} lowest" if config.refine.best else "none"),
    ]
    return [*facts, ("tags", ", ".join(config.tags))] if config.tags else facts


def _best(store: Store, campaign: CampaignDocument, history: Sequence[Raw], count: int) -> list[Found]:
    rows = best_minima(store, campaign.campaign_id, campaign.reference_hash, count)
    known = {row["structure_id"] for row in rows}
    numbers = {row["structure_id"]: i for i, row in enumerate(history, 1) if row["structure_id"] in known}
    return [
        Found(
            structure_id=row["structure_id"],
            atoms=atoms,
            energy=row["energy"],
            energy_per_atom=row["energy_per_atom"],
            foundation_energy=row["foundation_energy"],
            model_energy=row["model_energy"],
            uncertainty=row["uncertainty"],
            chain=chain_title(row["chain"]),
            round=row["round"],
            number=numbers.get(row["structure_id"]),
            found=row["found"],
            refinement=row["refinement"],
            fmax=fmax,
        )
        for row, atoms, fmax in zip(rows, images(store, rows), largest_forces(store, rows), strict=True)
    ]


def _history(rows: Sequence[Raw]) -> History:
    def column(name: str) -> Any:
        return np.array([math.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)

    # Before the first training the model's energy is the foundation's: no prediction of a Δ-model.
    unknown = np.array([row["uncertainty"] is None for row in rows], dtype=np.bool_)
    return History(
        energies=column("energy"),
        foundation=column("foundation_energy"),
        predicted=np.where(unknown, math.nan, column("model_energy")),
        deviations=column("uncertainty"),
        chains=np.array([row["chain"] for row in rows], dtype=np.int64),
        rounds=np.array([row["round"] for row in rows], dtype=np.int64),
        names={REFINEMENT_CHAIN: chain_title(REFINEMENT_CHAIN)},
    )


def _rounds(looked: Detail, documents: Sequence[RoundDocument]) -> list[RoundRow]:
    accepted = {(one.chain, one.k): tuple(one.progress.get("acceptance") or ()) for one in documents}
    return [
        RoundRow(
            chain_title(one.chain), one.round, one.state, one.selected, one.ok, one.failed, one.best_energy,
            accepted.get((one.chain, one.round), ()),
        )
        for one in looked.rounds
    ]  # fmt: skip


def _models(store: Store, campaign: CampaignDocument, learnt: Sequence[RoundDocument]) -> list[ModelRow]:
    proposals = proposals_of(store, campaign)
    rows = [model_record(store, one, proposals) for one in learnt]
    return [
        ModelRow(
            chain_title(row["chain"]), row["after_round"], row["model_id"], row["evaluations"],
            row["metrics"].get("loo_rmse_ev"), row["metrics"].get("loo_z_rms"),
            *((0, None, None) if met is None else (met["n"], met["mae"], met["z_rms"])),
        )
        for row in rows
        for met in [row["next_round"]]
    ]  # fmt: skip


def _held_out(store: Store, learnt: list[RoundDocument], *, share: bool) -> Any:
    try:
        return held_out(store, learnt, share=share)
    except DamagedError:  # a campaign trains it anew; a report tells of what is whole
        return None


def _ladder(config: CampaignConfig) -> list[float]:
    search = config.search
    if not isinstance(search, REXSettings):
        return []
    return [float(kT) for kT in np.geomspace(search.kT_min, search.kT_max, search.walkers)]


def _swaps(documents: Sequence[RoundDocument]) -> list[SwapRow]:
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for one in documents:
        for pair, count in one.statistics.get("swaps", {}).items():
            counts[int(pair)].update(count)
    return [SwapRow(counts[i]["tried"], counts[i]["done"]) for i in range(max(counts, default=-1) + 1)]


def _failures(looked: Detail) -> list[FailureRow]:
    counts = Counter(one.reason for one in looked.failed)
    latest = {one.reason: one.message for one in looked.failed}
    return [
        FailureRow(reason, count, redact(latest[reason].strip())) for reason, count in counts.most_common()
    ]


def _costs(store: Store, campaign: CampaignDocument, documents: Sequence[RoundDocument]) -> list[CostRow]:
    cost = evaluation_cost(store, campaign.campaign_id, campaign.reference_hash)
    search = [one for one in documents if one.chain < REFINEMENT_CHAIN]
    refining = [one for one in documents if one.chain == REFINEMENT_CHAIN]
    rows = [
        _cost("search", f"{len(search)} rounds", search, ("loading_s", "search_s"), "search_cpu_s"),
        CostRow("evaluations", f"{cost.attempts} attempts", cost.wall_s, cost.cpu_s),
        _cost("training", f"{sum('training_s' in one.timings for one in documents)} trainings", documents,
              ("training_s",), "training_cpu_s"),
    ]  # fmt: skip
    if refining:
        steps = ("loading_s", "search_s")
        rows.append(_cost("refinement", f"{len(refining)} steps", refining, steps, "search_cpu_s"))
    return rows


def _cost(
    role: str, count: str, documents: Sequence[RoundDocument], walls: Sequence[str], cpu: str
) -> CostRow:
    wall = sum(one.timings.get(name, 0.0) for one in documents for name in walls)
    known = [one.timings[cpu] for one in documents if cpu in one.timings]
    return CostRow(role, count, wall, sum(known) if known else None)


def _sentence(refined: RefinementStatus | None) -> str | None:
    if refined is None:
        return None
    text = (
        f"{refined.count.told}, {refined.count.evaluations} evaluations;"
        f" asked: the {refined.best} lowest, to {refined.fmax:g} eV/Å."
    )
    return f"{text} It has ended: {refined.ended}." if refined.ended else text


def _refined(refined: RefinementStatus | None) -> list[RefinedRow]:
    if refined is None:
        return []
    return [
        RefinedRow(one.at, one.start, one.status, one.evaluations, one.start_energy, one.energy, one.fmax)
        for one in refined.each
    ]


def _provenance(store: Store, campaign: CampaignDocument, config: CampaignConfig) -> Provenance:
    values, files = portable(store, campaign)
    hashes = {
        "campaign": campaign.campaign_id,
        "identity": campaign.identity_hash,
        "reference": campaign.reference_hash,
    }
    if campaign.weights_sha256 is not None:
        hashes["weights, SHA-256"] = campaign.weights_sha256
    return Provenance(redact(as_yaml(values)), files, hashes, campaign.versions, config.seed)


def portable(store: Store, campaign: CampaignDocument) -> tuple[dict[str, Any], dict[str, str]]:
    """A campaign's configuration without paths of one machine, and the files that it names, by name."""
    values = dict(campaign.config)
    files: dict[str, str] = {}
    if values["system"]["kind"] == "template":
        template = unpack_problem(campaigns.load_problem(store, campaign.campaign_id)).template
        name = f"{campaign.name}-template.extxyz"
        files[name] = extxyz([template])
        values["system"] = {**values["system"], "file": name}
    weights = values["foundation"].get("weights")
    if isinstance(weights, str) and "/" in weights:
        values["foundation"] = {**values["foundation"], "weights": PurePath(weights).name}
    return values, files


def as_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, as a campaign file."""
    buffer = io.StringIO()
    writer = YAML()
    writer.default_flow_style = False
    writer.width = 100
    writer.dump(_without_none(values), buffer)
    return buffer.getvalue()


def _without_none(value: Any) -> Any:
    """What is not given is left out; lists of numbers stay on one line."""
    if isinstance(value, Mapping):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return value
