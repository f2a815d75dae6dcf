"""The foundation potentials that godelta knows by name, and what of them is on this machine."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ase.data import chemical_symbols

from godelta.errors import InputError
from godelta.foundation import chgnet, mace, orb, sevennet
from godelta.foundation.registry import check_foundation
from godelta.foundation.scales import MP2020, R2SCAN, UNCORRECTED
from godelta.foundation.settings import (
    CHGNetSettings,
    FoundationSettings,
    MACEMP0Settings,
    MACEMPA0Settings,
    ORBSettings,
    SevenNetSettings,
)
from godelta.foundation.species import MPTRJ
from godelta.foundation.weights import find_weights, shipped_file


@dataclass(frozen=True)
class Entry:
    """One potential with its published weights.

    Parameters
    ----------
    settings
        What to write as `foundation:` of a campaign.
    package, extra
        The distribution that evaluates it, and godelta's extra that installs it.
    licence
        Of the package, and of the weights where they have another.
    energy_scale
        Convention of its energies.
    environment
        `mace` or `sevennet` where it lives in only one of the two; None where it lives in both.
    """

    settings: FoundationSettings
    package: str
    extra: str
    licence: str
    energy_scale: str
    environment: str | None = None

    @property
    def name(self) -> str:
        """The name in the registry, with the model's where there are several."""
        model = getattr(self.settings, "model", None)
        return f"{self.settings.name} {model}" if model else self.settings.name

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the species that it was trained on: all were trained on those of MPtrj."""
        return tuple(chemical_symbols[z] for z in sorted(MPTRJ))


@dataclass(frozen=True)
class Found:
    """What of a potential is on this machine.

    Parameters
    ----------
    installed
        Version of its package; None where it is not installed.
    weights, sha256
        The weight file and its hash; None where it is missing or damaged.
    missing
        What to do before it can be used here; None where it can.
    """

    installed: str | None
    weights: Path | None
    sha256: str | None
    missing: InputError | None


CATALOGUE = (
    Entry(CHGNetSettings(), "chgnet", "chgnet", "BSD-3-Clause (modified)", MP2020),
    Entry(CHGNetSettings(model="r2scan"), "chgnet", "chgnet", "BSD-3-Clause (modified)", R2SCAN),
    Entry(MACEMP0Settings(model="small"), "mace-torch", "mace", "MIT", UNCORRECTED, "mace"),
    Entry(MACEMP0Settings(model="medium"), "mace-torch", "mace", "MIT", UNCORRECTED, "mace"),
    Entry(MACEMP0Settings(model="large"), "mace-torch", "mace", "MIT", UNCORRECTED, "mace"),
    Entry(MACEMPA0Settings(), "mace-torch", "mace", "MIT", UNCORRECTED, "mace"),
    Entry(SevenNetSettings(), "sevenn", "sevennet", "MIT", UNCORRECTED, "sevennet"),
    Entry(ORBSettings(), "orb-models", "orb", "Apache-2.0", UNCORRECTED),
)


def look(entry: Entry) -> Found:
    """What of a potential is on this machine; nothing is loaded, and no network asked."""
    try:
        installed = version(entry.package)
    except PackageNotFoundError:
        installed = None
    weights = sha256 = missing = None
    try:
        sha256 = check_foundation(entry.settings)
    except InputError as error:
        missing = error
    try:
        weights = _weight_file(entry.settings)
    except InputError as error:
        missing = missing or error
    return Found(installed, weights, sha256, missing)


def _weight_file(settings: FoundationSettings) -> Path | None:
    """Where the weights of published potentials lie."""
    match settings:
        case CHGNetSettings():
            return chgnet.weight_file(settings)[0]
        case SevenNetSettings():
            return shipped_file("sevenn", sevennet.CHECKPOINT).path
        case MACEMP0Settings() | MACEMPA0Settings():
            return find_weights(mace.source(mace.name_of(settings)))
        case ORBSettings():
            return find_weights(orb.source())
        case _:
            return None
