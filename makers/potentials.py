"""Foundation potentials of one process: loaded once, shared by campaigns, bounded in memory."""

import gc
import logging
import math
import os
from collections import OrderedDict
from dataclasses import dataclass, field

import psutil

from godelta.errors import InputError
from godelta.foundation import Foundation, load_foundation
from godelta.foundation.settings import FoundationSettings

MEMORY_VARIABLE = "GODELTA_POTENTIALS_MB"

log = logging.getLogger(__name__)


def default_bound_mb() -> float:
    """Half of the machine's memory, or $GODELTA_POTENTIALS_MB.

    Raises
    ------
    InputError
        The variable holds no positive number.
    """
    asked = os.environ.get(MEMORY_VARIABLE)
    if not asked:
        return psutil.virtual_memory().total / 2 / 1024**2
    try:
        bound = float(asked)
    except ValueError:
        bound = math.nan
    if not bound > 0:
        raise InputError(
            f"{asked!r} is no amount of memory",
            where=f"${MEMORY_VARIABLE}",
            mend="give megabytes, e.g. 4000, or unset the variable",
        )
    return bound


@dataclass
class PotentialCache:
    """Potentials by settings; the least recently used ones go when the bound is passed.

    Parameters
    ----------
    bound_mb
        What loading all kept potentials may have added to the process, in MB. The one in use always stays.
    """

    bound_mb: float = field(default_factory=default_bound_mb)
    _kept: OrderedDict[str, tuple[Foundation, float]] = field(default_factory=OrderedDict)

    def get(self, settings: FoundationSettings) -> Foundation:
        """The potential of these settings, loaded where it is not there."""
        key = settings.digest()
        if key not in self._kept:
            before = _resident_mb()
            loaded = load_foundation(settings)
            self._kept[key] = (loaded, max(0.0, _resident_mb() - before))
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self.bound_mb:
            _, (_, size) = self._kept.popitem(last=False)
            log.info("let go of a potential of %.0f MB", size)
            gc.collect()
        return self._kept[key][0]


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1024**2
