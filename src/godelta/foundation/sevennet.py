"""SevenNet-0 (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)), called directly and in batches."""

import importlib.metadata
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from godelta.errors import InputError
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.device import resolve_device
from godelta.foundation.environments import check_environment
from godelta.foundation.scales import UNCORRECTED
from godelta.foundation.settings import SevenNetSettings
from godelta.foundation.species import refuse_unknown_species
from godelta.foundation.torch_graph import Latent, Pass, TorchFoundation
from godelta.foundation.weights import (
    Source,
    damaged,
    find_weights,
    read_weights,
    shipped_file,
    verify_shipped,
)

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "sevenn/pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth"
SOURCE = Source("SevenNet-0", "checkpoint_sevennet_0.pth", url=None)
READOUT = "reduce_input_to_hidden"  # the module that reads the energy from the last layer's features


class SevenNetFoundation(TorchFoundation):
    """Energies, forces and features of SevenNet for many structures per call.

    Structures are taken as 3-D periodic, whatever their own periodicity: leave vacuum in the cell.

    Raises
    ------
    MissingExtraError
        sevenn is not installed.
    InputError
        This environment is one for MACE, or the weights are not a checkpoint of SevenNet.
    """

    cpu_atoms = 100  # 8 slabs of 60 atoms take 331 ms each in one pass, 214 each by themselves

    def __init__(self, settings: SevenNetSettings) -> None:
        check_environment("sevennet-0", "sevennet")
        import torch

        self._torch = torch
        self.settings = settings
        self.device = resolve_device(settings.device)
        self._dtype = torch.float32 if settings.dtype == "float32" else torch.float64
        path, stream, self._sha256, self._shipped = _weights(settings)
        model = _load(path, stream)
        if model.modal_map:
            raise InputError(
                f"the model has several fidelities, {', '.join(model.modal_map)}: none can be chosen here",
                where=str(path),
                mend="take a checkpoint of one fidelity, such as SevenNet-0",
            )
        model.delete_module_by_key("force_output")
        model.set_is_batch_data(True)
        self._model = model.to(self._dtype).to(self.device).eval().requires_grad_(False)
        # The model's own conversion to one-hot vectors is in float32 whatever its weights are.
        model._modules["onehot_idx_to_onehot"].register_forward_hook(self._convert_onehot)

    @cached_property
    def identity(self) -> FoundationIdentity:
        """Version, weights and energy scale of this SevenNet."""
        own = self._sha256[:12]  # a file of the user's: what it was trained on is not known
        return FoundationIdentity(
            name="sevennet-0" if self._shipped else f"sevennet:{own}",
            version=importlib.metadata.version("sevenn"),
            weights_sha256=self._sha256,
            dtype=self.settings.dtype,
            device=self.device,
            energy_scale=UNCORRECTED if self._shipped else f"sevennet:{own}",
        )

    @property
    def feature_size(self) -> int:
        """Invariant features after the last convolution, which the energy is read from."""
        return int(self._model._modules[READOUT].linear.irreps_in.dim)

    def _forward(self, structures: Sequence[Atoms], *, stress: bool) -> Pass:
        from sevenn import _keys as KEY  # noqa: N812

        torch, device = self._torch, self.device
        refuse_unknown_species(self.identity.name, self._model.type_map, structures)
        counts = torch.tensor([len(atoms) for atoms in structures], device=device)
        owners = torch.repeat_interleave(torch.arange(len(structures), device=device), counts)
        numbers = torch.as_tensor(
            np.concatenate([atoms.numbers for atoms in structures]), device=device
        ).long()
        positions = self._float64(np.concatenate([atoms.positions for atoms in structures]))
        cells = self._float64(np.stack([atoms.cell.array for atoms in structures]))
        positions.requires_grad_(True)
        strains = torch.zeros_like(cells, requires_grad=True) if stress else None
        pairs, vectors = self._edges(structures, positions, cells, owners, strains)
        volumes = torch.linalg.det(cells).abs()
        data: dict[str, Tensor] = {
            KEY.NODE_FEATURE: numbers,
            KEY.ATOMIC_NUMBERS: numbers,
            KEY.POS: positions,
            KEY.EDGE_IDX: pairs,
            KEY.EDGE_VEC: vectors.to(self._dtype),
            KEY.CELL_VOLUME: volumes,
            KEY.NUM_ATOMS: counts,
            KEY.BATCH: owners,
        }
        read: list[Tensor] = []
        hook = self._model._modules[READOUT].register_forward_pre_hook(
            lambda _, given: read.append(given[0][KEY.NODE_FEATURE])
        )
        try:
            output = self._model(data)
        finally:
            hook.remove()
        sites = output[KEY.ATOMIC_ENERGY].view(-1).double()
        return Pass(
            energies=sites.new_zeros(len(structures)).index_add(0, owners, sites),
            latent=Latent(read[0], numbers, owners, len(structures)),
            positions=[positions],
            strains=[] if strains is None else [strains],
            volumes=volumes,
            site_energies=sites,
        )

    def _edges(
        self,
        structures: Sequence[Atoms],
        positions: "Tensor",
        cells: "Tensor",
        owners: "Tensor",
        strains: "Tensor | None",
    ) -> tuple["Tensor", "Tensor"]:
        """(2, E) atoms of each neighbour pair, and (E, 3) vectors between them in Å, in float64."""
        from matscipy.neighbours import neighbour_list

        torch, device = self._torch, self.device
        pairs, shifts, first = [], [], 0
        for atoms in structures:
            i, j, shift = neighbour_list(
                "ijS",
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=np.ones(3, dtype=bool),
                cutoff=self._model.cutoff,
            )
            pairs.append(np.stack([i, j]) + first)
            shifts.append(shift)
            first += len(atoms)
        edges = torch.as_tensor(np.concatenate(pairs, axis=1), device=device).long()
        if strains is not None:
            symmetric = 0.5 * (strains + strains.transpose(1, 2))
            positions = positions + torch.einsum("ni,nij->nj", positions, symmetric[owners])
            cells = cells + cells @ symmetric
        crossed = torch.einsum("ei,eij->ej", self._float64(np.concatenate(shifts)), cells[owners[edges[0]]])
        return edges, positions[edges[1]] - positions[edges[0]] + crossed

    def _float64(self, values: Any) -> "Tensor":
        return self._torch.as_tensor(values, dtype=self._torch.float64, device=self.device)

    def _convert_onehot(self, module: Any, _: Any, data: "dict[str, Tensor]") -> "dict[str, Tensor]":
        for key in (module.key_output, module.key_additional_output):
            data[key] = data[key].to(self._dtype)
        return data


def _weights(settings: SevenNetSettings) -> tuple[Path, BytesIO, str, bool]:
    """The weight file, its content and sha256, and whether it is the one that the package ships."""
    shipped = shipped_file("sevenn", CHECKPOINT)
    path = shipped.path if settings.weights is None else find_weights(SOURCE, settings.weights)
    stream, sha256 = read_weights(path)
    if settings.weights is None:
        verify_shipped(shipped, sha256)
    return path, stream, sha256, settings.weights is None or sha256 == shipped.sha256


def _load(path: Path, stream: BytesIO) -> Any:
    """The model of a checkpoint; nothing in the file is executed."""
    import torch
    from sevenn.checkpoint import SevenNetCheckpoint

    class Checkpoint(SevenNetCheckpoint):  # type: ignore[misc]
        checkpoint_path = stream  # what was hashed

    default = torch.get_default_dtype()
    # Built in any other precision, the model's Clebsch-Gordan coefficients do not equal those of the file.
    torch.set_default_dtype(torch.float32)
    try:
        # sevenn unpickles whatever it finds: let it be something that holds nothing but numbers.
        with torch.serialization.safe_globals(_arrays()):
            torch.load(stream, weights_only=True, map_location="cpu")
        stream.seek(0)
        return Checkpoint(path).build_model()
    except Exception as error:  # whatever a file that is none may raise
        raise damaged(SOURCE, path, error) from error
    finally:
        torch.set_default_dtype(default)


def _arrays() -> list[Any]:
    """What numpy arrays in a checkpoint are made of, under the names that old and new numpy gave it."""
    reconstruct = np.empty(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    old_and_new = [(reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*old_and_new, np.ndarray, np.dtype, *kinds]
