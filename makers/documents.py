"""From what a search proposes to what the database keeps."""

import math

from godelta.search import Candidate
from godelta.store.documents import RoundKey, StructureDocument


def candidate_document(key: RoundKey, candidate: Candidate, model_id: str | None) -> StructureDocument:
    """The document of a candidate of a round."""
    return StructureDocument.from_atoms(
        candidate.atoms,
        campaign_id=key.campaign_id,
        chain=key.chain,
        round=key.k,
        foundation_energy=candidate.foundation_energy,
        model_energy=candidate.energy,
        uncertainty=None if math.isnan(candidate.uncertainty) else candidate.uncertainty,
        iteration=candidate.iteration,
        walker=candidate.walker,
        move=candidate.move,
        candidate_id=candidate.id,
        parents=candidate.parents,
        accepted=candidate.accepted,
        model_id=model_id,
    )
