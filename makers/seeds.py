"""Random numbers of a job, from the campaign's seed and the job's place in the graph."""

from enum import IntEnum

import numpy as np

from godelta.store.documents import RoundKey


class Stream(IntEnum):
    """Which job of a round draws."""

    SEARCH = 0
    SELECT = 1
    RETRAIN = 2


def generator(seed: int, key: RoundKey, stream: Stream) -> np.random.Generator:
    """An independent generator per chain, round and job; the same every time it is asked for."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key.chain, key.k, int(stream))))
