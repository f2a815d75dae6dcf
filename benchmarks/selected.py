"""What became of the structures that searches selected: known ones again, and promises that were not kept.

    python benchmarks/selected.py NAME --workspace DIR

NAME is a benchmark that `methods.py` or `godelta benchmark` has run in DIR. Two questions to its campaigns:

- How often was a structure evaluated again that was known, how much lower was it then, and how many of these
  would be refused now, since the last repetition had been in vain?
- Foundation + Δ may promise an energy by a correction below every one that had been seen by then. How much of
  what lies beyond them was true?

Results go to results/selected_NAME.json.
"""

import argparse
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from record import save

from godelta.analysis.duplicates import group
from godelta.cli.workspace import open_existing
from godelta.makers.repeats import WORTH_A_SECOND
from godelta.store import campaigns, evaluations
from godelta.store.database import Store

BEYOND = (0.0, 0.2, 0.5, 1.0, np.inf)  # eV below the lowest correction seen
ROUNDS = (1, 3, 6, np.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--workspace", type=Path, required=True)
    options = parser.parse_args()
    store = open_existing(options.workspace).connect(start=True)
    again: list[tuple[int, float, float]] = []
    promises: list[tuple[int, float, float]] = []
    total, names = 0, 0
    for document in store.db.campaigns.find({"name": {"$regex": f"^{options.name}\\."}}, {"name": 1}):
        rows = evaluated(store, document["name"])
        names, total = names + 1, total + len(rows)
        again += repeats(rows)
        promises += promised(rows)
    if not names:
        parser.error(f"no campaign of a benchmark {options.name} in {options.workspace}")
    results = {
        "name": options.name,
        "campaigns": names,
        "evaluations": total,
        "repeats": repeats_by_count(again),
        "promises": promises_by_round(promises),
    }
    print(save(f"selected_{options.name}", results))


def evaluated(store: Store, name: str) -> list[dict[str, Any]]:
    """A campaign's evaluations by rounds, each with its structure."""
    campaign = campaigns.get_campaign(store, name)
    known = evaluations.training_set(store, campaign.campaign_id, campaign.reference_hash)
    atoms = {structure.structure_id: structure.atoms() for structure, _ in known}
    rows = evaluations.history(store, campaign.campaign_id, campaign.reference_hash)
    rows = [row | {"atoms": atoms[row["structure_id"]]} for row in rows if row["structure_id"] in atoms]
    return sorted(rows, key=lambda row: row["round"] or 0)


def repeats(rows: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    """Of each evaluation of a known structure: how many were before, and how much lower it is, eV.

    Then how much lower the last repetition was; infinity where there was none.
    """
    kinds = group([row["atoms"] for row in rows], np.zeros(len(rows)))
    lowest: dict[int, float] = {}
    last: dict[int, float] = {}
    count: Counter[int] = Counter()
    found = []
    for row, kind in zip(rows, kinds.tolist(), strict=True):
        if count[kind]:
            gain = lowest[kind] - row["energy"]
            found.append((count[kind], gain, last.get(kind, np.inf)))
            last[kind] = gain
        lowest[kind] = min(row["energy"], lowest.get(kind, np.inf))
        count[kind] += 1
    return found


def repeats_by_count(found: list[tuple[int, float, float]]) -> list[dict[str, Any]]:
    """For those evaluated once, twice and more often before."""
    lines = []
    for low, high in ((1, 2), (2, 3), (3, np.inf)):
        some = np.array([one[1:] for one in found if low <= one[0] < high]).reshape(-1, 2)
        lower, refused = some[:, 0] > WORTH_A_SECOND, some[:, 1] <= WORTH_A_SECOND
        lines.append(
            {
                "before": low,
                "n": len(some),
                "lower": int(lower.sum()),
                "median_ev": float(np.median(some[:, 0])) if len(some) else None,
                "refused": int(refused.sum()),
                "refused_and_lower": int((refused & lower).sum()),
            }
        )
    return lines


def promised(rows: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    """Round, how far the correction is below all seen before it, and how far it was in truth, eV."""
    found = []
    for row in rows:
        past = [one for one in rows if (one["round"] or 0) < (row["round"] or 0)]
        if not past or row["model_energy"] is None or row["uncertainty"] is None:
            continue
        lowest = min(one["energy"] - one["foundation_energy"] for one in past)
        beyond = lowest - (row["model_energy"] - row["foundation_energy"])
        found.append((row["round"], beyond, lowest - (row["energy"] - row["foundation_energy"])))
    return found


def promises_by_round(found: list[tuple[int, float, float]]) -> list[dict[str, Any]]:
    """Medians of what was promised beyond the lowest correction, and of what was true of it."""
    lines = []
    for first, end in pairwise(ROUNDS):
        for low, high in pairwise(BEYOND):
            some = np.array([one[1:] for one in found if first <= one[0] < end and low < one[1] <= high])
            if not len(some):
                continue
            lines.append(
                {
                    "rounds": [first, None if np.isinf(end) else end - 1],
                    "beyond": [low, None if np.isinf(high) else high],
                    "n": len(some),
                    "promised_ev": float(np.median(some[:, 0])),
                    "true_ev": float(np.median(some[:, 1])),
                }
            )
    return lines


if __name__ == "__main__":
    main()
