"""Foundation potentials: one file each, one registry."""

from godelta.foundation.base import (
    Foundation,
    FoundationBatch,
    FoundationIdentity,
    Potential,
    PotentialBatch,
)
from godelta.foundation.registry import check_foundation, load_foundation
from godelta.foundation.settings import (
    ASEFoundationSettings,
    CHGNetSettings,
    FoundationSettings,
    MACEMP0Settings,
    MACEMPA0Settings,
    ORBSettings,
    SevenNetSettings,
)

__all__ = [
    "ASEFoundationSettings",
    "CHGNetSettings",
    "Foundation",
    "FoundationBatch",
    "FoundationIdentity",
    "FoundationSettings",
    "MACEMP0Settings",
    "MACEMPA0Settings",
    "ORBSettings",
    "Potential",
    "PotentialBatch",
    "SevenNetSettings",
    "check_foundation",
    "load_foundation",
]
