"""Where the evaluations of a foundation come from: kept ones, this environment, another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ase import Atoms
from pydantic import TypeAdapter

from godelta.campaign_file import read_foundation
from godelta.cli.longwork import bar
from godelta.errors import GodeltaError, InputError
from godelta.foundation.catalogue import CATALOGUE
from godelta.foundation.elsewhere import evaluate_elsewhere
from godelta.foundation.kept import Kept, evaluate_kept, read_kept
from godelta.foundation.registry import check_foundation
from godelta.foundation.settings import ASEFoundationSettings, FoundationSettings


@dataclass(frozen=True)
class Pythons:
    """Programs of other environments: those for one foundation, and those for whichever they can evaluate."""

    named: tuple[tuple[str, str], ...]
    general: tuple[str, ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Pythons":
        """Read `NAME=PROGRAM` and `PROGRAM`.

        Raises
        ------
        InputError
            A name is missing, or that of no foundation.
        """
        named, general = [], []
        for text in texts:
            name, equals, program = text.rpartition("=")
            if equals and not any(entry.settings.name.startswith(name) for entry in CATALOGUE if name):
                raise InputError(
                    f"{name!r} begins no foundation's name",
                    where=f"--python {text}",
                    mend="--python PROGRAM or --python sevennet-0=PROGRAM; `godelta foundations` lists names",
                )
            program = str(Path(program).expanduser())
            if equals:
                named.append((name, program))
            else:
                general.append(program)
        return cls(tuple(named), tuple(general))

    def of(self, settings: FoundationSettings) -> list[str]:
        """Those for this foundation by name."""
        return [program for name, program in self.named if settings.name.startswith(name)]


@dataclass(frozen=True)
class Missing:
    """A foundation that cannot be shown, and why."""

    name: str
    error: GodeltaError


def parse_foundation(text: str) -> FoundationSettings:
    """A name of `godelta foundations`, or what stands after `foundation:` in a campaign file.

    Raises
    ------
    InputError
        There is no such foundation.
    """
    if text.lstrip().startswith("{"):
        return read_foundation(text, "--foundation")
    adapter: TypeAdapter[FoundationSettings] = TypeAdapter(FoundationSettings)
    by_name = {entry.name: entry.settings for entry in CATALOGUE}
    by_name |= {
        name: adapter.validate_python({"name": name}) for name in {e.settings.name for e in CATALOGUE}
    }
    if text not in by_name:
        raise InputError(
            f"no such foundation: {text}",
            where="--foundation",
            mend=f"known are {', '.join(sorted(by_name))}; or give '{{name: ase, calculator: ...}}'",
        )
    return by_name[text]


def label_of(settings: FoundationSettings) -> str:
    """What to call a foundation in messages."""
    if isinstance(settings, ASEFoundationSettings):
        return f"ase {settings.calculator.rpartition('.')[2]}"
    model = getattr(settings, "model", None)
    return f"{settings.name} {model}" if model else settings.name


def evaluations_of(
    settings: FoundationSettings, folder: Path, structures: Mapping[str, Atoms], pythons: Pythons
) -> Kept:
    """Evaluations of all structures; what is kept is not computed again, nor is the potential loaded for it.

    Raises
    ------
    InputError
        The potential cannot be had, here or in another environment.
    GodeltaError
        It fails.
    """
    try:
        sha256 = check_foundation(settings)
    except InputError as error:
        absent: InputError | None = error
        kept = complete_among(read_kept(folder), settings, structures)
    else:
        absent = None
        same = [one for one in read_kept(folder) if _is_installed(one, sha256)]
        kept = complete_among(same, settings, structures)
    if kept is not None:
        return kept
    named = pythons.of(settings)
    if absent is None and not named:
        with bar(label_of(settings)) as report:
            return evaluate_kept(settings, folder, structures, report)
    refusals: list[InputError] = [absent] if absent is not None else []
    for program in named or pythons.general:
        try:
            with bar(label_of(settings)) as report:
                evaluate_elsewhere(program, settings, folder, structures, report)
        except InputError as error:
            refusals.append(error)
            continue
        found = complete_among(read_kept(folder), settings, structures)
        assert found is not None
        return found
    raise _refused(settings, refusals, tried=bool(named or pythons.general))


def complete_among(
    kept: Sequence[Kept], settings: FoundationSettings, structures: Mapping[str, Atoms]
) -> Kept | None:
    """The one written last with these settings that knows all structures; None where there is none."""
    fitting = [one for one in kept if one.settings == settings and one.has(structures)]
    return fitting[0] if fitting else None


def _is_installed(kept: Kept, sha256: str | None) -> bool:
    """Whether kept evaluations are of the package and the weights that are here."""
    if kept.identity.weights_sha256 != sha256:
        return False
    packages = [entry.package for entry in CATALOGUE if entry.settings.name == kept.settings.name]
    try:
        return version(packages[0] if packages else _package(kept.settings)) == kept.identity.version
    except PackageNotFoundError:
        return kept.identity.version == "unversioned"


def _package(settings: FoundationSettings) -> str:
    return settings.calculator.split(".")[0] if isinstance(settings, ASEFoundationSettings) else ""


def _refused(settings: FoundationSettings, refusals: list[InputError], *, tried: bool) -> InputError:
    """All that was tried, and what to do."""
    if tried and len(refusals) == 1:
        return refusals[0]
    if tried:
        told = "; there: ".join(f"{one.where}: {one.what}" if one.where else one.what for one in refusals)
        return InputError(told, mend=refusals[-1].mend)
    first = refusals[0]
    if isinstance(settings, ASEFoundationSettings):
        return first
    elsewhere = "give the same command in an environment that has it, or --python with the Python of that one"
    return InputError(first.what, where=first.where, mend=f"{first.mend}; or {elsewhere}")
