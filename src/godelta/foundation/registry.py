"""From settings to a loaded foundation potential; each is loaded once per process."""

from functools import lru_cache

from pydantic import TypeAdapter

from godelta.foundation.base import Foundation
from godelta.foundation.settings import ASEFoundationSettings, CHGNetSettings, FoundationSettings

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


@lru_cache(maxsize=4)
def _load(serialised: str) -> Foundation:
    settings = _ADAPTER.validate_json(serialised)
    match settings:
        case CHGNetSettings():
            from godelta.foundation.chgnet import CHGNetFoundation

            return CHGNetFoundation(settings)
        case ASEFoundationSettings():
            from godelta.foundation.ase_calculator import ASEFoundation

            return ASEFoundation(settings)
