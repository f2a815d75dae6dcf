"""What a search is told of the evaluations when a round begins."""

from collections.abc import Sequence

import numpy as np

from godelta.analysis.duplicates import equivalents
from godelta.campaign import CampaignConfig
from godelta.makers.session import Session
from godelta.reference.registry import reference_hash
from godelta.search.state import Candidate, Evaluated
from godelta.store import evaluations
from godelta.store.documents import REFINEMENT_CHAIN, RoundKey


def learns_from(config: CampaignConfig, key: RoundKey) -> int | None:
    """The chain whose evaluations a round learns from; None for all: chains share, or this is refinement."""
    return None if config.share or key.chain == REFINEMENT_CHAIN else key.chain


def evaluated(session: Session, key: RoundKey, walkers: Sequence[Candidate]) -> list[Evaluated]:
    """Good evaluations of the chain, or of all chains where they share, by structure hash.

    A walker that was not evaluated because an equivalent structure had been has that one's evaluation, the
    lowest if there are several.
    """
    config = session.parts(key.campaign_id).config
    pairs = evaluations.training_set(
        session.store, key.campaign_id, reference_hash(config.reference), chain=learns_from(config, key)
    )
    # Ids hold the campaign's random id: by hash, so that the same seed searches alike.
    pairs.sort(key=lambda pair: pair[0].structure_hash)
    names = [list(structure.candidate_ids) for structure, _ in pairs]
    energies = np.array([float(evaluation.energy or 0.0) for _, evaluation in pairs])
    atoms = [structure.atoms() for structure, _ in pairs]
    known = {name for own in names for name in own}
    others = [walker for walker in walkers if walker.id not in known]
    if pairs and others:
        for walker, twins in zip(others, equivalents([w.atoms for w in others], atoms), strict=True):
            if twins:
                names[min(twins, key=lambda i: energies[i])].append(walker.id)
    return [
        Evaluated(
            tuple(names[i]),
            atoms[i].positions.copy(),
            float(energies[i]),
            np.array(evaluation.forces, dtype=np.float64).reshape(-1, 3),
        )
        for i, (_, evaluation) in enumerate(pairs)
    ]
