"""Reading a benchmark file: one campaign for each cell (a choice from every axis) and seed."""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from godelta.campaign import CampaignConfig
from godelta.campaign_file import describe, in_vain
from godelta.errors import InputError
from godelta.yaml_file import YamlFile, read_yaml

AXES = ("search", "foundation", "delta")
KEYS = ("name", "campaign", "vary", "seeds", "target", "price_s", "stop_at_target")
SEEDS = 20
TOLERANCE = 0.05  # eV
MOST_SEEDS = 1000
MOST_CAMPAIGNS = 10_000
# A key that says what kind of thing the others describe: another kind shares nothing with the common part.
_KINDS = ("name", "method", "preset")
_PROGRAMS = ("calculator", "program")  # another one takes other `arguments`
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,29}")
_HELP = "docs/how-to/benchmarks-of-methods.md has an example"


@dataclass(frozen=True)
class BenchmarkCampaign:
    """One campaign of the set: its cell, its seed and its configuration."""

    cell: str
    seed: int
    config: CampaignConfig


@dataclass(frozen=True)
class Benchmark:
    """A set of campaigns to compare.

    Parameters
    ----------
    campaigns
        Seed by seed, so that an interrupted benchmark has as many of each cell.
    target
        Energy in eV to reach; None: the lowest that the set finds.
    tolerance
        A run succeeds with an evaluation at most this far above the target, eV.
    price_s
        Seconds that one evaluation is accounted with.
    stop_at_target
        Whether a campaign ends when it succeeds.
    """

    name: str
    cells: tuple[str, ...]
    campaigns: tuple[BenchmarkCampaign, ...]
    target: float | None
    tolerance: float
    price_s: float
    stop_at_target: bool


def is_benchmark(path: Path) -> bool:
    """Whether a file describes a benchmark, and not one campaign."""
    try:
        values = read_yaml(path).values
    except (FileNotFoundError, InputError):
        return False
    return isinstance(values, dict) and "vary" in values


def read_benchmark(path: Path) -> Benchmark:
    """Read and check a benchmark file.

    Raises
    ------
    InputError
        The file cannot be read, is no YAML, or a cell of it is no valid campaign; the message names the
        cell and its keys.
    """
    try:
        file = read_yaml(path)
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), mend=_HELP) from None
    return _Reader(path, file).read()


class _Reader:
    """Checks the values of one file."""

    def __init__(self, path: Path, file: YamlFile) -> None:
        self.path = path
        self.file = file
        self.values: dict[str, Any] = file.values if isinstance(file.values, dict) else {}

    def read(self) -> Benchmark:
        if not isinstance(self.file.values, dict):
            raise self._error("a benchmark file holds keys and values, such as `name: methods`")
        self._known(self.values, KEYS, ())
        name = self.values.get("name")
        if not isinstance(name, str) or not _LABEL.fullmatch(name):
            raise self._error("`name` has to be up to 30 letters, digits, - and _", "name")
        cells, seeds = self._cells(), self._seeds()
        if len(cells) * len(seeds) > MOST_CAMPAIGNS:
            raise self._error(f"{len(cells)} cells x {len(seeds)} seeds are more than {MOST_CAMPAIGNS}")
        target = self._mapping("target")
        self._known(target, ("energy", "tolerance"), ("target",))
        return Benchmark(
            name=name,
            cells=tuple(cells),
            campaigns=tuple(
                BenchmarkCampaign(cell, seed, self._campaign(name, cell, seed, cells[cell]))
                for seed in seeds
                for cell in cells
            ),
            target=None if target.get("energy") is None else self._number(target["energy"], "target.energy"),
            tolerance=self._positive(target.get("tolerance", TOLERANCE), "target.tolerance"),
            price_s=self._positive(self.values.get("price_s", 0.0), "price_s"),
            stop_at_target=self._flag("stop_at_target", default=True),
        )

    def _cells(self) -> dict[str, dict[str, Any]]:
        """What each cell sets, by its name."""
        vary = self._mapping("vary")
        self._known(vary, AXES, ("vary",))
        if not vary:
            raise self._error("`vary` is missing: it names what is compared", "vary")
        for axis, choices in vary.items():
            if not isinstance(choices, dict) or not choices:
                raise self._error(f"`vary.{axis}` has to name choices, each with its settings", "vary", axis)
            for label, settings in choices.items():
                if not _LABEL.fullmatch(label):
                    raise self._error(
                        f"`vary.{axis}.{label}`: a name has letters, digits, - and _, 30 at most",
                        "vary",
                        axis,
                        label,
                    )
                if not isinstance(settings, dict):
                    raise self._error(
                        f"`vary.{axis}.{label}` has to hold settings, as {{}} or {{key: value}}",
                        "vary",
                        axis,
                        label,
                    )
        axes = [axis for axis in AXES if axis in vary]
        return {
            ".".join(labels): {axis: vary[axis][label] for axis, label in zip(axes, labels, strict=True)}
            for labels in product(*(vary[axis] for axis in axes))
        }

    def _seeds(self) -> list[int]:
        seeds = self.values.get("seeds", SEEDS)
        if isinstance(seeds, int) and not isinstance(seeds, bool) and 1 <= seeds <= MOST_SEEDS:
            return list(range(1, seeds + 1))
        if isinstance(seeds, list) and 1 <= len(seeds) <= MOST_SEEDS:
            whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
            if whole and len(set(seeds)) == len(seeds):
                return list(seeds)
        raise self._error(
            f"`seeds` has to be a number from 1 to {MOST_SEEDS}, or a list of different whole numbers"
            f" (given: {seeds!r})",
            "seeds",
        )

    def _campaign(self, name: str, cell: str, seed: int, chosen: dict[str, Any]) -> CampaignConfig:
        common = self._mapping("campaign")
        for key in ("name", "seed"):
            if key in common:
                raise self._error(f"`campaign.{key}` is set by the benchmark: leave it out", "campaign", key)
        tags = common.get("tags", [])
        values = common | {
            "name": f"{name}.{cell}.s{seed}",
            "seed": seed,
            "tags": [*(tags if isinstance(tags, list) else []), f"benchmark-{name}"],
        }
        for axis, settings in chosen.items():
            values[axis] = _over(common.get(axis), settings)
        try:
            config = CampaignConfig.model_validate(values)
        except ValidationError as error:
            whole = YamlFile(values, values)  # the keys of a campaign: no file has them like this
            found = [describe(details, whole)[1] for details in error.errors(include_url=False)]
            raise InputError(
                f"the cell {cell} is no valid campaign: " + "; ".join(sorted(found)),
                where=str(self.path),
                mend="a cell is `campaign` with the settings of its names in `vary`; `godelta schema` prints"
                " every key",
            ) from None
        if (text := in_vain(config)) is not None:
            raise self._error(f"the cell {cell}: {text}", "campaign", "resources", "wait")
        return config

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self._error(f"`{key}` has to hold keys and values", key)
        return value

    def _known(self, values: dict[str, Any], known: tuple[str, ...], where: tuple[str, ...]) -> None:
        for key in values:
            if key not in known:
                dotted = ".".join((*where, key))
                raise self._error(f"unknown key `{dotted}`; known: {', '.join(known)}", *where, key)

    def _number(self, value: object, dotted: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._error(f"`{dotted}` has to be a number (given: {value!r})", *dotted.split("."))
        return float(value)

    def _positive(self, value: object, dotted: str) -> float:
        number = self._number(value, dotted)
        if number < 0:
            raise self._error(f"`{dotted}` must not be negative (given: {value!r})", *dotted.split("."))
        return number

    def _flag(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self._error(f"`{key}` has to be true or false (given: {value!r})", key)
        return value

    def _error(self, what: str, *keys: str) -> InputError:
        line = self.file.position(keys)[1] if keys else 0
        return InputError(what, where=f"{self.path}, line {line}" if line else str(self.path), mend=_HELP)


def _over(common: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """A cell's settings on the common ones, level by level; another kind of thing replaces them."""
    if not isinstance(common, dict):
        return settings
    if _differ(common, settings, _KINDS):
        return settings
    kept: dict[str, Any] = common
    if _differ(common, settings, _PROGRAMS) and "arguments" in settings:
        kept = kept | {"arguments": None}
    return kept | {
        key: _over(kept.get(key), value) if isinstance(value, dict) else value
        for key, value in settings.items()
    }


def _differ(common: dict[str, Any], settings: dict[str, Any], keys: tuple[str, ...]) -> bool:
    return any(key in settings and key in common and settings[key] != common[key] for key in keys)
