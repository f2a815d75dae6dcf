"""From settings to a loaded foundation potential; each is loaded once per process."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from pydantic import TypeAdapter

from godelta.errors import MissingExtraError
from godelta.foundation.base import Foundation
from godelta.foundation.environments import check_environment
from godelta.foundation.settings import (
    ASEFoundationSettings,
    CHGNetSettings,
    FoundationSettings,
    MACEMP0Settings,
    MACEMPA0Settings,
    ORBSettings,
    SevenNetSettings,
)
from godelta.foundation.weights import Shipped, file_sha256, find_weights, shipped_file, verify_shipped

_ADAPTER: TypeAdapter[FoundationSettings] = TypeAdapter(FoundationSettings)


def load_foundation(settings: FoundationSettings) -> Foundation:
    """Load a foundation potential, or return the one that this process has loaded already.

    Raises
    ------
    MissingExtraError
        The potential's package is not installed.
    InputError
        The settings name no usable calculator.
    """
    return _load(settings.model_dump_json())


def check_foundation(settings: FoundationSettings) -> str | None:
    """Whether the potential can be loaded, without loading its weights.

    Returns
    -------
    str or None
        SHA-256 of its weight file; None for a calculator, which has none.

    Raises
    ------
    MissingExtraError
        The potential's package is not installed.
    InputError
        The settings name no usable calculator; the weights are missing, or damaged; this environment is
        one for another potential.
    """
    match settings:
        case CHGNetSettings():
            if find_spec("chgnet") is None:
                raise MissingExtraError("the foundation chgnet", "chgnet")
            from godelta.foundation import chgnet

            return _whole(*chgnet.weight_file(settings))
        case SevenNetSettings():
            check_environment("sevennet-0", "sevennet")
            from godelta.foundation import sevennet

            shipped = shipped_file("sevenn", sevennet.CHECKPOINT)
            chosen = settings.weights
            return _whole(find_weights(sevennet.SOURCE, chosen) if chosen else shipped.path, shipped)
        case MACEMP0Settings() | MACEMPA0Settings():
            check_environment(settings.name, "mace")
            from godelta.foundation import mace

            return file_sha256(find_weights(mace.source(mace.name_of(settings)), settings.weights))
        case ORBSettings():
            from godelta.foundation import orb

            orb.check_installed()
            return file_sha256(find_weights(orb.source(), settings.weights))
        case ASEFoundationSettings():
            load_foundation(settings)
            return None


def _whole(path: Path, shipped: Shipped) -> str:
    """The hash of a file; one that a package ships has to be as it was shipped."""
    sha256 = file_sha256(path)
    if path == shipped.path:
        verify_shipped(shipped, sha256)
    return sha256


@lru_cache(maxsize=4)
def _load(serialised: str) -> Foundation:
    settings = _ADAPTER.validate_json(serialised)
    match settings:
        case CHGNetSettings():
            from godelta.foundation.chgnet import CHGNetFoundation

            return CHGNetFoundation(settings)
        case SevenNetSettings():
            from godelta.foundation.sevennet import SevenNetFoundation

            return SevenNetFoundation(settings)
        case MACEMP0Settings() | MACEMPA0Settings():
            from godelta.foundation.mace import MACEFoundation

            return MACEFoundation(settings)
        case ORBSettings():
            from godelta.foundation.orb import ORBFoundation

            return ORBFoundation(settings)
        case ASEFoundationSettings():
            from godelta.foundation.ase_calculator import ASEFoundation

            return ASEFoundation(settings)
