"""MACE (Batatia et al., NeurIPS 2022; arXiv:2401.00096), called directly and in batches."""

import importlib.metadata
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from godelta.errors import InputError
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.device import resolve_device
from godelta.foundation.environments import check_environment
from godelta.foundation.scales import UNCORRECTED
from godelta.foundation.settings import MACEMP0Settings, MACEMPA0Settings
from godelta.foundation.species import refuse_unknown_species
from godelta.foundation.torch_graph import Latent, Pass, TorchFoundation
from godelta.foundation.weights import Source, damaged, find_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor

MACESettings = MACEMP0Settings | MACEMPA0Settings

_RELEASES = "https://github.com/ACEsuit/mace-mp/releases/download"
_FILES = {
    "mace-mp-0-small": "mace_mp_0/2023-12-10-mace-128-L0_energy_epoch-249.model",
    "mace-mp-0-medium": "mace_mp_0/2023-12-03-mace-128-L1_epoch-199.model",
    "mace-mp-0-large": "mace_mp_0/MACE_MPtrj_2022.9.model",
    "mace-mpa-0": "mace_mpa_0/mace-mpa-0-medium.model",
}


def name_of(settings: MACESettings) -> str:
    """The potential's name, with its size where there are several."""
    return f"{settings.name}-{settings.model}" if isinstance(settings, MACEMP0Settings) else settings.name


def source(name: str) -> Source:
    """Where the weights of e.g. `mace-mp-0-medium` are found; the package's own download is one place."""
    path = _FILES[name]
    file = path.rpartition("/")[2]

    def elsewhere() -> list[Path]:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mace"
        places = [cache / "".join(c for c in file if c.isalnum() or c == "_")]  # as mace names its downloads
        spec = find_spec("mace")
        if spec is not None and spec.origin is not None:
            places.append(Path(spec.origin).parent / "calculators" / "foundations_models" / file)
        return places

    return Source(name, file, f"{_RELEASES}/{path}", elsewhere)


class MACEFoundation(TorchFoundation):
    """Energies, forces and features of a MACE model for many structures per call.

    Structures are taken as 3-D periodic, whatever their own periodicity: leave vacuum in the cell.

    Raises
    ------
    MissingExtraError
        mace-torch is not installed.
    InputError
        This environment is one for SevenNet, or the weights are missing, damaged or no MACE model.
    """

    cpu_atoms = 200  # 8 slabs of 60 atoms take 609 ms each in one pass, 496 in two, 467 by themselves

    def __init__(self, settings: MACESettings) -> None:
        name = name_of(settings)
        check_environment(name, "mace")
        with _quiet():
            # Before e3nn, whose own constants do not load without the variable that mace sets.
            import torch
            from e3nn.o3 import Irrep, Irreps

        self._torch = torch
        self._device = resolve_device(settings.device)
        self._dtype = torch.float32 if settings.dtype == "float32" else torch.float64
        path = find_weights(source(name), settings.weights)
        model, sha256 = _load(path, source(name), self._device)
        self._model = model.to(self._dtype).to(self._device).eval().requires_grad_(False)
        self._numbers = np.array([int(z) for z in model.atomic_numbers])
        self._cutoff = float(model.r_max)
        self._head = _default_head(model, path)
        irreps = Irreps(str(model.products[-1].linear.irreps_out))
        scalars = [part for part, kind in zip(irreps.slices(), irreps, strict=True) if kind.ir == Irrep("0e")]
        self._layer = irreps.dim
        invariant = torch.cat([torch.arange(part.start, part.stop) for part in scalars])
        self._invariant = invariant.to(self._device)
        own = settings.weights is not None
        self._identity = FoundationIdentity(
            name=f"mace:{sha256[:12]}" if own else name,
            version=importlib.metadata.version("mace-torch"),
            weights_sha256=sha256,
            dtype=settings.dtype,
            device=self._device,
            energy_scale=f"mace:{sha256[:12]}" if own else UNCORRECTED,
        )

    @property
    def identity(self) -> FoundationIdentity:
        """Version, weights and energy scale of this MACE."""
        return self._identity

    @property
    def feature_size(self) -> int:
        """Invariant features of the last layer."""
        return len(self._invariant)

    def _forward(self, structures: Sequence[Atoms], *, stress: bool) -> Pass:
        refuse_unknown_species(self._identity.name, self._numbers.tolist(), structures)
        data = self._batch(structures)
        positions, owners, cells = data["positions"], data["batch"], data["cell"].view(-1, 3, 3)
        output = self._model(data, compute_force=False, compute_displacement=stress)
        last = output["node_feats"][:, -self._layer :]
        return Pass(
            energies=output["energy"],
            latent=Latent(last[:, self._invariant], data["numbers"], owners, len(structures)),
            positions=[positions],
            strains=[output["displacement"]] if stress else [],
            volumes=self._torch.linalg.det(cells).abs(),
            site_energies=output["node_energy"],
        )

    def _batch(self, structures: Sequence[Atoms]) -> "dict[str, Tensor]":
        """What the model reads; the package's own way there builds each structure by itself."""
        torch = self._torch
        counts = np.array([len(atoms) for atoms in structures])
        first = np.concatenate([[0], np.cumsum(counts)])
        numbers = np.concatenate([atoms.numbers for atoms in structures])
        places = np.searchsorted(self._numbers, numbers)
        pairs, shifts, vectors = _neighbours(structures, self._cutoff)
        one_hot = torch.nn.functional.one_hot(torch.as_tensor(places), len(self._numbers))
        positions = self._real(np.concatenate([atoms.positions for atoms in structures]))
        return {
            "positions": positions.requires_grad_(True),
            "node_attrs": one_hot.to(self._dtype).to(self._device),
            "numbers": self._whole(numbers),
            "edge_index": self._whole(pairs),
            "unit_shifts": self._real(shifts),
            "shifts": self._real(vectors),
            "cell": self._real(np.concatenate([atoms.cell.array for atoms in structures])),
            "batch": self._whole(np.repeat(np.arange(len(counts)), counts)),
            "ptr": self._whole(first),
            "head": self._whole(np.full(len(counts), self._head)),
        }

    def _real(self, values: Any) -> "Tensor":
        return self._torch.as_tensor(values, dtype=self._dtype, device=self._device)

    def _whole(self, values: Any) -> "Tensor":
        return self._torch.as_tensor(values, dtype=self._torch.int64, device=self._device)


def _neighbours(structures: Sequence[Atoms], cutoff: float) -> tuple[Any, Any, Any]:
    """(2, E) atoms of each pair, (E, 3) how many cells lie between them, and (E, 3) the same in Å."""
    from matscipy.neighbours import neighbour_list

    pairs, shifts, vectors, first = [], [], [], 0
    for atoms in structures:
        cell = atoms.cell.array
        i, j, shift = neighbour_list(
            "ijS", positions=atoms.positions, cell=cell, pbc=(True, True, True), cutoff=cutoff
        )
        pairs.append(np.stack([i, j]) + first)
        shifts.append(shift)
        vectors.append(shift @ cell)
        first += len(atoms)
    return np.concatenate(pairs, axis=1), np.concatenate(shifts), np.concatenate(vectors)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the packages tell of an accelerator for GPUs, and of how they load their constants."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", UserWarning)
        yield


def _load(path: Path, wanted: Source, device: str) -> tuple[Any, str]:
    """The model of a file, and the file's hash.

    A MACE file is a pickled module: it can run any code, so that nothing but the file that the user named,
    or has put where the potential's weights belong, is ever read this way.
    """
    import torch

    content, sha256 = read_weights(path)
    try:
        with _quiet():
            model = torch.load(content, map_location=device, weights_only=False)
    except Exception as error:
        raise damaged(wanted, path, error) from error
    needed = ("atomic_numbers", "r_max", "products", "atomic_energies_fn")
    if not isinstance(model, torch.nn.Module) or not all(hasattr(model, name) for name in needed):
        raise InputError(
            f"holds no MACE model, but {type(model).__name__}",
            where=str(path),
            mend="give the file of a whole model, as MACE saves it (NAME.model)",
        )
    return model, sha256


def _default_head(model: Any, path: Path) -> int:
    """Which of the energies of a model with several heads; the package's calculator chooses the same."""
    heads = list(getattr(model, "heads", ["Default"]))
    fit = [place for place, head in enumerate(heads) if len(heads) == 1 or head.lower() == "default"]
    if not fit:
        raise InputError(
            f"is a model of several heads ({', '.join(heads)}), which godelta does not choose from",
            where=str(path),
            mend="take a model of one head: mace_select_head of the package mace-torch makes one",
        )
    return fit[0]
