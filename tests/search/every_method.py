"""Every search method with small settings, a cheap potential, and rounds of a search."""

import numpy as np

from godelta.foundation.base import PotentialBatch
from godelta.search.settings import (
    BHSettings,
    GOFEESettings,
    OwnSearchSettings,
    RelaxSettings,
    REXSettings,
    RSSSettings,
)
from godelta.search.state import Evaluated, InformedMethod
from godelta.search.weights import GeneratorWeights, MoveWeights
from godelta.systems.geometry import MinimumImage, radii_of

FEW = RelaxSettings(steps=3, fmax=0.05)
EVERY = {
    "moves": MoveWeights(rattle=1, permutation=1, centre_of_geometry=1, symmetric_rattle=1),
    "generators": GeneratorWeights(random=1, symmetric=1, reuse=1),
}
METHODS = {
    "rss": RSSSettings(structures_per_round=3, batch=2, relax=FEW),
    "rss-paper": RSSSettings(preset="paper", relax=FEW, relax_from=2),
    "rex": REXSettings(walkers=3, iterations_per_round=2, swap_every=1, relax=FEW),
    "rss-every": RSSSettings(structures_per_round=3, relax=FEW, generators=EVERY["generators"]),
    "rex-every": REXSettings(walkers=3, iterations_per_round=3, relax=FEW, **EVERY),
    "bh-every": BHSettings(walkers=2, iterations_per_round=2, relax=FEW, **EVERY),
    "gofee-every": GOFEESettings(candidates=4, random_until=1, relax=FEW, **EVERY),
    "bh": BHSettings(walkers=2, iterations_per_round=2, relax=FEW),
    "bh-paper": BHSettings(preset="paper", relax=FEW),
    "gofee": GOFEESettings(candidates=4, random_until=1, iterations_per_round=2, relax=FEW),
    "rss-plain": RSSSettings(relax_in="reference", batch=2, relax=FEW),
    "bh-plain": BHSettings(relax_in="reference", walkers=2, relax=FEW, **EVERY),
    "own": OwnSearchSettings(
        program="godelta.examples.monotonic_hopping.MonotonicHopping",
        arguments={"climbers": 2, "iterations": 3},
        relax=FEW,
    ),
    "gofee-paper": GOFEESettings(preset="paper", candidates=4, random_until=1, relax=FEW),
}


class Springs:
    """Pairs at a distance r of R, the sum of covalent radii, have the energy 4 (r/R - 1)² - 1 up to 1.5 R."""

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        energies, forces = [], []
        for atoms in structures:
            image = MinimumImage.of(atoms.cell.array, atoms.pbc)
            d = image.vectors(atoms.positions[:, None] - atoms.positions[None])
            r = np.linalg.norm(d, axis=-1) + 1e3 * np.eye(len(atoms))
            radii = radii_of(atoms.numbers)
            x = r / (radii[:, None] + radii)
            near = x < 1.5
            energies.append(0.5 * float((near * (4 * (x - 1) ** 2 - 1)).sum()))
            slope = near * 8 * (x - 1) / (radii[:, None] + radii)
            forces.append(-((slope / r)[..., None] * d).sum(axis=1))
        e = np.array(energies)
        return PotentialBatch(e, forces, e - 1.0, np.full(len(e), 0.1))


def rounds(method, potential, count, seed):
    """All candidates of some rounds, and the statistics of all steps; every third candidate is evaluated."""
    candidates, statistics, told, state = [], [], [], None
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        state = method.start(potential, rng) if state is None else method.next_round(state, potential, rng)
        if isinstance(method, InformedMethod):
            state = method.inform(state, told, potential)
        while not method.finished(state):
            result = method.step(state, potential)
            state = result.state
            statistics.append(result.statistics)
            candidates += result.candidates
            told += [
                Evaluated((c.id,), c.atoms.positions, c.energy, rng.normal(size=(len(c.atoms), 3)) * 5)
                for c in result.candidates[::3]
            ]
    return candidates, statistics
