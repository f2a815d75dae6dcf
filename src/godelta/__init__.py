"""godelta: global structure optimisation with active Δ-learning on foundation potentials."""

from importlib.metadata import version

__version__ = version("godelta")
