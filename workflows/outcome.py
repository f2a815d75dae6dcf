"""How a campaign ends: finished with results, or failed with a reason that a person can mend."""

import re
from collections import Counter

from godelta.store import evaluations, rounds
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument, CampaignState, EvaluationDocument, RoundDocument
from godelta.store.structures import get_structures

# Reasons that lie with the reference's installation, settings or limits rather than with one structure.
OF_THE_REFERENCE = frozenset(
    {"engine_error", "crashed", "killed", "invalid_result", "wall_limit", "memory_limit", "lost"}
)
PATIENCE = 3, 6  # rounds and evaluations that have to fail alike: a search learns to avoid failures in two
MESSAGE_CHARACTERS = 300
LINE_CHARACTERS = 100
# Of the machines rather than of the campaign: over by itself, or mended without a word to it.
INFRASTRUCTURE = re.compile(
    r"pymongo\.errors\.|no MongoDB server answers|No space left on device|Disk quota exceeded"
    r"|Read-only file system|Input/output error|Stale file handle|cannot be written"
    r"|MemoryError|CUDA error|out of memory"
)


def end_state(store: Store, campaign: CampaignDocument) -> tuple[CampaignState, str | None]:
    """The state of a campaign whose rounds are all closed, and the reason if it found nothing at all."""
    counts = evaluations.counts(store, campaign.campaign_id, campaign.reference_hash)
    if counts["ok"]:
        return "finished", None
    closed = rounds.rounds_of(store, campaign.campaign_id)
    if not counts["failed"]:
        return "failed", _nothing_to_evaluate(closed)
    failed = _evaluations(store, campaign, closed)
    mend = "mend that, then give the campaign another name, or a larger budget to go on with what it learned"
    return "failed", f"none of its {len(failed)} evaluations succeeded: {_commonest(failed)}\n  {mend}"


def hopeless(store: Store, campaign: CampaignDocument) -> str | None:
    """Why a campaign should stop before its budget is spent on failures; None where it should not.

    Only rounds that were closed since the campaign was last started count: a mended one gets its chance.
    """
    recent = rounds.closed_since(store, campaign.campaign_id, campaign.updated_at, limit=PATIENCE[1])
    if len(recent) < PATIENCE[0]:
        return None
    if not any(round_.selection for round_ in recent):
        counts = evaluations.counts(store, campaign.campaign_id, campaign.reference_hash)
        return None if counts["ok"] or counts["failed"] else _nothing_to_evaluate(recent)
    done: list[EvaluationDocument] = []
    for number, round_ in enumerate(recent, start=1):
        done += _evaluations(store, campaign, [round_])
        if number >= PATIENCE[0] and len(done) >= PATIENCE[1]:
            break
    else:
        return None
    reasons = {evaluation.reason if evaluation.state == "failed" else "ok" for evaluation in done}
    if len(reasons) > 1 or not reasons <= OF_THE_REFERENCE:
        return None
    mend = (
        "mend the reference or its limits, then the same command goes on,"
        f" and `godelta restart {campaign.name} --retry REASON` tries those again"
    )
    return f"the last {len(done)} evaluations all failed: {_commonest(done)}\n  {mend}"


def _evaluations(
    store: Store, campaign: CampaignDocument, of: list[RoundDocument]
) -> list[EvaluationDocument]:
    """What was evaluated of the selections of these rounds, well or badly."""
    selected = {structure_id for round_ in of for structure_id in round_.selection}
    hashes = [document.structure_hash for document in get_structures(store, selected)]
    return evaluations.evaluated(store, hashes, campaign.reference_hash)


def _commonest(failed: list[EvaluationDocument]) -> str:
    reasons = Counter(evaluation.reason for evaluation in failed)
    reason, count = reasons.most_common(1)[0]
    messages = Counter(evaluation.message for evaluation in failed if evaluation.reason == reason)
    message = (messages.most_common(1)[0][0] or "").strip()[:MESSAGE_CHARACTERS]
    share = f"{reason}" if len(reasons) == 1 else f"most often {reason} ({count} of {len(failed)})"
    return f"{share}, {message}" if message else share


def _nothing_to_evaluate(closed: list[RoundDocument]) -> str:
    dropped: Counter[str] = Counter()
    for round_ in closed:
        dropped.update(round_.progress.get("dropped") or {})
    why = f": {dropped.most_common(1)[0][0]}" if dropped else ""
    return (
        f"the search found no structure to evaluate in {len(closed)} rounds{why}\n"
        "  look at the foundation (`godelta check FILE`), and at the confinement"
    )


def is_infrastructure(reason: str | None) -> bool:
    """Whether a campaign failed of its machines: a full disk, a database that was away, too little memory."""
    return reason is not None and INFRASTRUCTURE.search(reason) is not None


def first_line(reason: str) -> str:
    """The reason on one line, not too long for a table."""
    line = reason.strip().partition("\n")[0]
    return line if len(line) <= LINE_CHARACTERS else f"{line[: LINE_CHARACTERS - 3]}..."
