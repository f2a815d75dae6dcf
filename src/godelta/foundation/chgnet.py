"""CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)), called directly and in batches.

Going around CHGNet's own ASE calculator saves a third to a half of the time: one backward pass, for
positions alone where no stress is wanted, no magnetic moments, and no dictionary of numpy copies.
"""

import importlib.metadata
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from godelta.errors import MissingExtraError
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.device import resolve_device
from godelta.foundation.scales import MP2020, R2SCAN
from godelta.foundation.settings import CHGNetSettings
from godelta.foundation.species import MPTRJ, refuse_unknown_species
from godelta.foundation.torch_graph import Latent, Pass, TorchFoundation
from godelta.foundation.weights import (
    Shipped,
    Source,
    damaged,
    find_weights,
    read_weights,
    shipped_file,
    verify_shipped,
)

if TYPE_CHECKING:
    from chgnet.graph.crystalgraph import CrystalGraph
    from torch import Tensor


def weight_file(settings: CHGNetSettings) -> tuple[Path, Shipped]:
    """The weight file of the settings, and the one that the package ships for them.

    Raises
    ------
    InputError
        There is none.
    """
    shipped = shipped_file("chgnet", f"chgnet/pretrained/{settings.model}/*.tar")
    own = settings.weights is not None
    return find_weights(_source(settings), settings.weights) if own else shipped.path, shipped


def _source(settings: CHGNetSettings) -> Source:
    return Source(f"chgnet-{settings.model}", f"chgnet-{settings.model}.pth.tar", url=None)


class CHGNetFoundation(TorchFoundation):
    """Energies, forces and features of CHGNet for many structures per call, in float32.

    Structures are taken as 3-D periodic, whatever their own periodicity: leave vacuum in the cell.

    Raises
    ------
    MissingExtraError
        chgnet or torch is not installed.
    InputError
        The weights are missing, damaged or not those of a CHGNet.
    """

    cpu_atoms = 110  # 10 slabs of 60 atoms take 123 ms each in one pass, 87 by themselves

    def __init__(self, settings: CHGNetSettings) -> None:
        try:
            import torch
            from chgnet.model.model import CHGNet

            from godelta.foundation.chgnet_layers import factorise
        except ImportError as error:
            raise MissingExtraError("the CHGNet foundation", "chgnet") from error
        self._torch = torch
        self._device = resolve_device(settings.device)
        path, shipped = weight_file(settings)
        content, sha256 = read_weights(path)
        if settings.weights is None:
            verify_shipped(shipped, sha256)
        own = settings.weights is not None and sha256 != shipped.sha256
        try:
            # Nothing but numbers is read: a file that would run code is refused.
            state = torch.load(content, map_location="cpu", weights_only=True)["model"]
            usual = {"mlp_out_bias": False, "version": settings.model}  # as CHGNet.load has it
            with redirect_stdout(io.StringIO()):  # it announces its number of parameters
                model = CHGNet.from_dict(state | {"model_args": usual | state["model_args"]})
        except Exception as error:  # whatever a file that is none may raise
            raise damaged(_source(settings), path, error) from error
        factorise(model)
        # Whatever default a calculator of MACE has left behind in the process.
        model.to(device=self._device, dtype=torch.float32).eval().requires_grad_(False)
        model.graph_converter.set_isolated_atom_response("ignore")
        self._model = model
        self._known = range(1, 95) if own else MPTRJ  # of a file of the user's: what can be embedded
        official = MP2020 if settings.model == "0.3.0" else R2SCAN
        self._identity = FoundationIdentity(
            name=f"chgnet:{sha256[:12]}" if own else f"chgnet-{settings.model}",
            version=importlib.metadata.version("chgnet"),
            weights_sha256=sha256,
            dtype="float32",
            device=self._device,
            energy_scale=f"chgnet:{sha256[:12]}" if own else official,
        )

    @property
    def identity(self) -> FoundationIdentity:
        """Version, weights and energy scale of this CHGNet."""
        return self._identity

    @property
    def feature_size(self) -> int:
        """Features after the last convolution, which the energy is read from."""
        return int(self._model.atom_fea_dim)

    def _forward(self, structures: Sequence[Atoms], *, stress: bool) -> Pass:
        from chgnet.model.composition_model import AtomRef
        from chgnet.model.model import BatchedGraph

        refuse_unknown_species(self._identity.name, self._known, structures)
        torch, model = self._torch, self._model
        graphs = [self._graph(atoms, stress=stress) for atoms in structures]
        batch = BatchedGraph.from_graphs(
            graphs,
            bond_basis_expansion=model.bond_basis_expansion,
            angle_basis_expansion=model.angle_basis_expansion,
            compute_stress=stress,
        )
        read: list[Tensor] = []
        hook = model.mlp.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            output = model._compute(batch, return_site_energies=True)
        finally:
            hook.remove()
        counts = output["atoms_per_graph"]
        with torch.no_grad():
            shift = model.composition_model(graphs) if model.composition_model is not None else 0.0
        per_structure = counts if model.is_intensive else 1.0
        sites = torch.cat(output["site_energies"])
        if isinstance(model.composition_model, AtomRef):
            sites = sites + torch.cat(model.composition_model.get_site_energies(graphs))
        return Pass(
            energies=output["e"] * per_structure + shift * per_structure,
            latent=Latent(read[0], batch.atomic_numbers.long(), batch.atom_owners.long(), len(graphs)),
            positions=list(batch.atom_positions),
            strains=list(batch.strains) if stress else [],
            volumes=torch.as_tensor(batch.volumes),
            site_energies=sites,
        )

    def _graph(self, atoms: Atoms, *, stress: bool) -> "CrystalGraph":
        from pymatgen.core.lattice import Lattice
        from pymatgen.core.structure import Structure

        structure = Structure(
            Lattice(atoms.cell.array), atoms.numbers, atoms.positions, coords_are_cartesian=True
        )
        graph = self._model.graph_converter(structure)
        if not stress:
            graph.lattice = graph.lattice.detach()
        moved: CrystalGraph = graph.to(self._device)
        return moved
