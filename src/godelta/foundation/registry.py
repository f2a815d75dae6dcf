"""From settings to a loaded foundation potential; each is loaded once per process."""

from functools import lru_cache
from importlib.util import find_spec

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


def check_foundation(settings: FoundationSettings) -> None:
    """Whether the potential can be loaded, without loading its weights.

    Raises
    ------
    MissingExtraError
        The potential's package is not installed.
    InputError
        The settings name no usable calculator.
    """
    match settings:
        case CHGNetSettings():
            if find_spec("chgnet") is None:
                raise MissingExtraError("the foundation chgnet", "chgnet")
        case SevenNetSettings():
            check_environment("sevennet-0", "sevennet")
        case MACEMP0Settings() | MACEMPA0Settings():
            check_environment(settings.name, "mace")
        case ORBSettings():
            if find_spec("orb_models") is None:
                raise MissingExtraError("the foundation orb-v2-mptrj", "orb")
        case ASEFoundationSettings():
            load_foundation(settings)


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
