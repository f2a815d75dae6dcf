"""How much of what independent chains would find has been found: Good and Turing's estimate."""

from dataclasses import dataclass

import numpy as np

from godelta.arrays import IntArray


@dataclass(frozen=True)
class Unseen:
    """Good-Turing estimate from chains that know nothing of each other.

    An observation is a minimum found by a chain, however often that chain found it: evaluations
    within a chain depend on each other. n1/n is the part of what a chain finds that the others have not
    found, and a rough upper estimate of the part of one more chain's that would be new. It is no
    probability that the lowest minimum is missing: of a funnel that no chain has entered it knows nothing.

    Parameters
    ----------
    chains
        Chains with an evaluation in the window.
    minima
        Different structures that they found.
    observations, once
        n and n1: pairs of a minimum and a chain, and minima of one chain only.
    """

    chains: int
    minima: int
    observations: int
    once: int

    @property
    def mass(self) -> float | None:
        """n1/n; None with fewer than two chains, of which nothing can be said."""
        return self.once / self.observations if self.chains >= 2 else None


def count_unseen(labels: IntArray, chains: IntArray) -> Unseen:
    """Count from the minimum (n,) and the chain (n,) of each evaluation."""
    pairs = np.unique(np.stack([labels, chains], axis=1).reshape(-1, 2), axis=0)
    _, by_how_many = np.unique(pairs[:, 0], return_counts=True)
    return Unseen(
        chains=len(np.unique(pairs[:, 1])),
        minima=len(by_how_many),
        observations=len(pairs),
        once=int((by_how_many == 1).sum()),
    )
