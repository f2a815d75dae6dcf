"""The search problem: template, composition and confinement."""

from godelta.systems.confinement import Confinement
from godelta.systems.problem import SearchProblem

__all__ = ["Confinement", "SearchProblem"]
