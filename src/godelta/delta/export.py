"""Foundation + Δ as a folder of its own: an ASE calculator without a database."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from pydantic import Field, ValidationError

from godelta.delta.calculator import DeltaCalculator
from godelta.delta.model import DeltaModel, Learnt
from godelta.errors import GodeltaError, InputError
from godelta.foundation import FoundationIdentity, FoundationSettings, load_foundation
from godelta.settings import Settings

SCHEMA_VERSION = 1
MODEL, ABOUT, SCRIPT, README = "model.npz", "model.json", "calculator.py", "README.md"

_SCRIPT = '''"""Foundation + Δ: `from calculator import calculator; atoms.calc = calculator`."""

from pathlib import Path

from godelta.delta.export import load_calculator

calculator = load_calculator(Path(__file__).parent)
'''

_README = """# {foundation} + Δ{campaign}

An ASE calculator: energy in eV, forces in eV/Å, and `results["uncertainty"]` in eV.

    from pathlib import Path
    from godelta.delta.export import load_calculator

    atoms.calc = load_calculator(Path("{folder}"))

It needs godelta {godelta} or newer, with the foundation {foundation} installed: `godelta foundations`.
Structures may hold the elements {elements}; the correction has been trained on {count} evaluations, and says
nothing reliable far from them.

Energies are on the scale of the reference that it was trained on.
"""


class ExportedModel(Settings):
    """What `model.json` holds."""

    schema_version: int = SCHEMA_VERSION
    godelta: str = Field(description="version that wrote it")
    foundation: FoundationSettings
    identity: FoundationIdentity
    sha256: str = Field(description="of model.npz")


def export_model(folder: Path, learnt: Learnt, foundation: FoundationSettings, *, campaign: str = "") -> None:
    """Write a folder that `load_calculator` reads.

    Parameters
    ----------
    folder
        Made where it is not there; has to be empty.
    learnt
        With a correction.
    foundation
        What it corrects; a local weight file is named, and not copied.
    campaign
        For people.

    Raises
    ------
    InputError
        Nothing has been learnt, or the folder is not empty, or cannot be written.
    """
    if learnt.correction is None:
        raise InputError("there is no correction to export", mend="wait for the first round's end")
    blob = learnt.to_bytes()
    about = ExportedModel(
        godelta=version("godelta"),
        foundation=foundation,
        identity=load_foundation(foundation).identity,
        sha256=hashlib.sha256(blob).hexdigest(),
    )
    training, species = learnt.correction.training, learnt.correction.species
    text = _README.format(
        foundation=about.identity.name,
        campaign=f" of the campaign {campaign}" if campaign else "",
        folder=folder.name,
        godelta=about.godelta,
        elements=", ".join(_symbols(species)),
        count=int(training.evaluated.sum()),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError("the folder is not empty", where=str(folder), mend="name a new one")
        (folder / MODEL).write_bytes(blob)
        (folder / SCRIPT).write_text(_SCRIPT, encoding="utf-8")
        (folder / README).write_text(text, encoding="utf-8")
        (folder / ABOUT).write_text(about.model_dump_json(indent=1), encoding="utf-8")  # last: whole now
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(folder), mend="choose another folder"
        ) from None


def load_calculator(folder: Path, *, uncertainty: bool = True) -> DeltaCalculator:
    """The ASE calculator of an exported model.

    Raises
    ------
    GodeltaError
        The folder is no exported model, is damaged, or comes from a newer godelta; or the foundation here has
        other weights than the one that was corrected.
    InputError
        The foundation cannot be loaded.
    """
    about, blob = _read(folder)
    if hashlib.sha256(blob).hexdigest() != about.sha256:
        raise GodeltaError(
            "the model's arrays are damaged: their hash is another one",
            where=str(folder / MODEL),
            mend="export the model anew: `godelta models CAMPAIGN --export FOLDER`",
        )
    foundation = load_foundation(about.foundation)
    here, there = foundation.identity, about.identity
    if (here.weights_sha256, here.energy_scale) != (there.weights_sha256, there.energy_scale):
        raise GodeltaError(
            f"the weights of {there.name} here are not those that were corrected"
            f" ({_short(here.weights_sha256)}, not {_short(there.weights_sha256)})",
            where=str(folder),
            mend=f"install the version that was used, {there.version}, or give its weight file",
        )
    learnt = Learnt.from_bytes(blob)
    return DeltaCalculator(
        DeltaModel(foundation, learnt.correction, learnt.repulsion), uncertainty=uncertainty
    )


def _read(folder: Path) -> tuple[ExportedModel, bytes]:
    mend = "name a folder that `godelta models CAMPAIGN --export FOLDER` has written"
    try:
        raw = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        written = int(raw["schema_version"])
        if written > SCHEMA_VERSION:
            raise GodeltaError(
                f"written by a newer godelta (schema version {written})",
                where=str(folder),
                mend="upgrade godelta",
            )
        return ExportedModel.model_validate(raw), (folder / MODEL).read_bytes()
    except OSError as error:
        raise GodeltaError(f"cannot be read: {error.strerror}", where=str(folder), mend=mend) from None
    except (ValueError, KeyError, TypeError, ValidationError):
        raise GodeltaError("is no exported model", where=str(folder / ABOUT), mend=mend) from None


def _symbols(species: tuple[int, ...]) -> list[str]:
    from ase.data import chemical_symbols

    return [str(chemical_symbols[number]) for number in species]


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]
