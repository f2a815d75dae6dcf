"""From settings to a search method."""

from typing import Any

from godelta.search.basin_hopping import BasinHopping
from godelta.search.gofee import GOFEE
from godelta.search.own import make_own
from godelta.search.plain import PlainSearch
from godelta.search.replica_exchange import ReplicaExchange
from godelta.search.rss import RandomStructureSearch
from godelta.search.settings import (
    BHSettings,
    GOFEESettings,
    OwnSearchSettings,
    RSSSettings,
    SearchSettings,
    is_plain,
)
from godelta.search.state import SearchMethod
from godelta.systems.problem import SearchProblem


def make_method(settings: SearchSettings, problem: SearchProblem) -> SearchMethod[Any]:
    """The search method that the settings name, bound to a problem.

    Raises
    ------
    InputError
        A method of one's own cannot be imported, or is none.
    """
    if is_plain(settings):
        return PlainSearch(settings, problem)
    if isinstance(settings, RSSSettings):
        return RandomStructureSearch(settings, problem)
    if isinstance(settings, BHSettings):
        return BasinHopping(settings, problem)
    if isinstance(settings, GOFEESettings):
        return GOFEE(settings, problem)
    if isinstance(settings, OwnSearchSettings):
        return make_own(settings, problem)
    return ReplicaExchange(settings, problem)
