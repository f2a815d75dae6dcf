"""`godelta compare`: foundations against the reference, on the structures of campaigns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from godelta.analysis.parity import Level, Truth
from godelta.arrays import FloatArray
from godelta.campaign import CampaignConfig
from godelta.cli.compare_foundations import (
    Missing,
    Pythons,
    complete_among,
    evaluations_of,
    label_of,
    parse_foundation,
)
from godelta.cli.compare_result import Comparison, as_dict, export_csv
from godelta.cli.compare_tables import show
from godelta.cli.console import console, print_json
from godelta.cli.drawing import save_figure
from godelta.cli.longwork import interruptible
from godelta.cli.workspace import open_existing
from godelta.errors import GodeltaError, InputError
from godelta.foundation.kept import Kept, read_kept
from godelta.foundation.settings import FoundationSettings
from godelta.reference.registry import name_of
from godelta.store import campaigns, evaluations, models, rounds
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument, StructureDocument, hill_formula

KEPT = "compared"  # folder in the workspace's state


@dataclass(frozen=True)
class CompareOptions:
    """What the command line said.

    Parameters
    ----------
    foundations
        Names, or mappings in YAML; none: the campaigns' own, and what is kept.
    pythons
        PROGRAM or NAME=PROGRAM of other environments.
    model
        Whether to show the Δ-models as well.
    within
        Highest reference energy above the lowest of the composition, eV.
    lowest
        How many low minima.
    plot, export
        Files to write.
    output
        table or json.
    """

    foundations: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    model: bool = False
    within: float | None = None
    lowest: int = 5
    plot: Path | None = None
    export: Path | None = None
    output: str = "table"


@dataclass(frozen=True)
class _Evaluated:
    """What campaigns have evaluated, each structure once, by structure hash."""

    documents: dict[str, StructureDocument]
    truth: Truth


def show_comparison(names: Sequence[str], folder: Path | None, options: CompareOptions) -> int:
    """Print, draw and export how foundations compare with the reference; the exit code.

    Raises
    ------
    InputError
        There is no such campaign or foundation, none of the foundations can be had, campaigns differ in
        their reference, or a file cannot be written.
    """
    wanted = [parse_foundation(text) for text in options.foundations]
    pythons = Pythons.parse(options.pythons)
    workspace = open_existing(folder)
    store = workspace.connect(start=True)
    documents = campaigns.named(store, names)
    campaigns.refuse_mixed_references(documents)
    configs = [CampaignConfig.model_validate(document.config) for document in documents]
    found = _evaluated(store, documents, options.within)
    kept_in = workspace.state / KEPT
    with interruptible("what is done is kept: the same command goes on where it was") as interrupted:
        done, missing = _evaluate(wanted or _own(configs), kept_in, found, pythons)
        if not wanted:
            _add_what_is_kept(done, missing, kept_in, found)
    if interrupted:
        return 130
    if not done:
        raise missing[0].error if len(missing) == 1 else _none(missing)
    levels = [_level(name, kept, found) for name, kept in _by_name(done).items()]
    if options.model:
        levels += _deltas(store, documents, found)
    result = Comparison.of(found.truth, levels, [document.name for document in documents], options.lowest)
    result = result.told(name_of(configs[0].reference), [kept.identity for kept in done], missing)
    if options.plot is not None:
        from godelta.analysis.parity_plot import comparison

        save_figure(comparison(result.truth, levels, result.forces, result.bonds), options.plot)
    if options.export is not None:
        export_csv(result, options.export)
    if options.output == "json":
        print_json(as_dict(result))
    else:
        show(result)
        for written in (options.plot, options.export):
            if written is not None:
                console.print(f"written: {written}")
    return 0


def _evaluated(store: Store, documents: list[CampaignDocument], within: float | None) -> _Evaluated:
    level = documents[0].reference_hash
    pairs = {}
    for document in documents:
        for structure, evaluation in evaluations.training_set(store, document.campaign_id, level):
            pairs[structure.structure_hash] = (structure, evaluation)
    lowest: dict[str, float] = {}
    for structure, evaluation in pairs.values():
        assert evaluation.energy is not None
        lowest[structure.formula] = min(lowest.get(structure.formula, np.inf), evaluation.energy)
    limit = np.inf if within is None else within
    near = {
        digest: (structure, evaluation)
        for digest, (structure, evaluation) in sorted(pairs.items())
        if (evaluation.energy or 0.0) - lowest[structure.formula] <= limit
    }
    if not near:
        raise InputError(
            "nothing has been evaluated yet",
            where=", ".join(document.name for document in documents),
            mend=f"`godelta status {documents[0].name}` tells how far it is",
        )
    truth = Truth.of(
        [structure.structure_id for structure, _ in near.values()],
        [structure.atoms() for structure, _ in near.values()],
        np.array([evaluation.energy for _, evaluation in near.values()], dtype=np.float64),
        [np.array(evaluation.forces, dtype=np.float64) for _, evaluation in near.values()],
    )
    return _Evaluated({digest: structure for digest, (structure, _) in near.items()}, truth)


def _own(configs: list[CampaignConfig]) -> list[FoundationSettings]:
    """The foundations of campaigns, each once."""
    own: list[FoundationSettings] = []
    for config in configs:
        if config.foundation not in own:
            own.append(config.foundation)
    return own


def _evaluate(
    wanted: list[FoundationSettings], folder: Path, found: _Evaluated, pythons: Pythons
) -> tuple[list[Kept], list[Missing]]:
    structures = dict(zip(found.documents, found.truth.structures, strict=True))
    done, missing = [], []
    for settings in wanted:
        try:
            done.append(evaluations_of(settings, folder, structures, pythons))
        except GodeltaError as error:
            missing.append(Missing(label_of(settings), error))
    return done, missing


def _add_what_is_kept(done: list[Kept], missing: list[Missing], folder: Path, found: _Evaluated) -> None:
    """Foundations that were compared before, here or from another environment."""
    kept = read_kept(folder)
    structures = dict(zip(found.documents, found.truth.structures, strict=True))
    seen = [one.settings for one in done]
    names = {one.name for one in missing}
    for one in kept:
        if one.settings in seen or label_of(one.settings) in names:
            continue
        seen.append(one.settings)
        whole = complete_among(kept, one.settings, structures)
        if whole is not None:
            done.append(whole)
        elif known := len(one.energies.keys() & structures.keys()):
            error = GodeltaError(
                f"{known} of {len(structures)} structures have been evaluated with it",
                mend="name it with --foundation, in its environment, and it goes on",
            )
            missing.append(Missing(label_of(one.settings), error))


def _none(missing: list[Missing]) -> InputError:
    """Every reason why there is nothing to show."""
    reasons = "\n".join(f"{one.name}: {one.error}" for one in missing)
    return InputError(
        f"none of the foundations can be had:\n{reasons}",
        mend="one is enough: `godelta foundations` lists what can be had here",
    )


def _by_name(done: list[Kept]) -> dict[str, Kept]:
    """Names for tables: a calculator's class, and no two alike."""
    named: dict[str, Kept] = {}
    for kept in done:
        name = kept.identity.name
        if name.startswith("ase:"):
            _, path, digest = name.split(":")
            name = f"{path.rpartition('.')[2]}:{digest[:4]}"
        if name in named:
            name = f"{name} {kept.identity.dtype} {kept.identity.device}"
        while name in named:
            name += "'"
        named[name] = kept
    return named


def _level(name: str, kept: Kept, found: _Evaluated) -> Level:
    energies = np.array([kept.energies[digest] for digest in found.documents], dtype=np.float64)
    return Level(name, energies, [kept.forces[digest] for digest in found.documents])


def _deltas(store: Store, documents: list[CampaignDocument], found: _Evaluated) -> list[Level]:
    """What the campaigns' Δ-models say: of different formulas, as in a study, together, else one by one."""
    each = [_with_delta(store, document, found) for document in documents]
    formulas = {hill_formula(str(document.config["system"]["formula"])) for document in documents}
    if len(formulas) < len(documents):
        return [
            Level(f"{document.name}: {name}", energies, None)
            for document, told in zip(documents, each, strict=True)
            for name, energies in told.items()
        ]
    together: dict[str, FloatArray] = {}
    for told in each:
        for name, energies in told.items():
            known = together.get(name, energies)
            together[name] = np.where(np.isfinite(known), known, energies)
    return [Level(name, energies, None) for name, energies in together.items()]


def _with_delta(store: Store, campaign: CampaignDocument, found: _Evaluated) -> dict[str, FloatArray]:
    """What foundation + Δ said of structures not learnt from, and the foundation of the same; (N,) in eV."""
    place = {structure: k for k, structure in enumerate(found.truth.ids)}
    bare, corrected = (np.full(len(place), np.nan) for _ in range(2))
    for row in evaluations.history(store, campaign.campaign_id, campaign.reference_hash):
        if row["uncertainty"] is not None and row["structure_id"] in place:
            bare[place[row["structure_id"]]] = row["foundation_energy"]
            corrected[place[row["structure_id"]]] = row["model_energy"]
    levels = {"no Δ, selected": bare, "Δ, selected": corrected}
    levels["Δ, left out"] = _left_out(store, campaign, found)
    return {key: energies for key, energies in levels.items() if np.isfinite(energies).any()}


def _left_out(store: Store, campaign: CampaignDocument, found: _Evaluated) -> FloatArray:
    """(N,) in eV: what the campaign's latest models say of an evaluation without having learnt from it."""
    from godelta.delta.model import Learnt

    energies = np.full(len(found.documents), np.nan)
    place = {digest: k for k, digest in enumerate(found.documents)}
    closed = rounds.rounds_of(store, campaign.campaign_id)
    closed.sort(key=lambda round_: round_.changed_at)
    share = bool(campaign.config.get("share", True))
    latest = {0 if share else one.chain: one.next_model_id for one in closed if one.next_model_id is not None}
    for model_id in sorted({model_id for model_id in latest.values() if model_id is not None}):
        correction = Learnt.from_bytes(models.load_model(store, model_id)).correction
        if correction is None or correction.left_out is None:
            continue
        training, left_out = correction.training, correction.left_out
        own = np.flatnonzero(training.evaluated)
        for k, error, inside in zip(own, left_out.errors, left_out.inside, strict=True):
            if inside and training.ids[k] in place:
                energies[place[training.ids[k]]] = training.reference_energies[k] - error
    return energies
