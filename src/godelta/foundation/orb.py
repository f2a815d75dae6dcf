"""ORB-v2 (Neumann et al., arXiv:2410.22570), called directly and in batches, its forces made conservative.

The package's forces are a prediction of their own. Here they are the negative gradient of the energy, so that
foundation + Δ is one surface; relaxations and replica exchange need one. Neither energies nor features are
invariant under rotations (docs/how-to/foundations.md).
"""

import hashlib
import importlib.metadata
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from godelta.errors import InputError, MissingExtraError
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.device import resolve_device
from godelta.foundation.scales import UNCORRECTED
from godelta.foundation.settings import ORBSettings
from godelta.foundation.species import MPTRJ, refuse_unknown_species
from godelta.foundation.torch_graph import Latent, Pass, TorchFoundation
from godelta.foundation.weights import Source, damaged, find_weights, read_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "orb-v2-mptrj"
RADIUS, NEIGHBOURS = 6.0, 20  # of the published model: Å, and how many atoms send messages to another

_FILE = "orb-mptraj-only-v2-20241014.ckpt"
_URL = f"https://orbitalmaterials-public-models.s3.us-west-1.amazonaws.com/forcefields/{_FILE}"


def source() -> Source:
    """Where the weights are found; the package's own download is one place."""

    def elsewhere() -> list[Path]:
        cache = Path(os.environ.get("CACHED_PATH_CACHE_ROOT", Path.home() / ".cache" / "cached_path"))
        of_url = hashlib.sha256(_URL.encode()).hexdigest()  # as the package names its downloads
        return [path for path in sorted(cache.glob(f"{of_url}*")) if path.suffix not in {".json", ".lock"}]

    return Source(NAME, _FILE, _URL, elsewhere)


def check_installed() -> None:
    """Whether ORB is installed.

    Raises
    ------
    MissingExtraError
        orb-models is not installed.
    """
    if find_spec("orb_models") is None:
        raise MissingExtraError(f"the foundation {NAME}", "orb")


class ORBFoundation(TorchFoundation):
    """Energies, their gradients, and features of ORB-v2 for many structures per call.

    Structures are taken as 3-D periodic, whatever their own periodicity: leave vacuum in the cell.

    Raises
    ------
    MissingExtraError
        orb-models is not installed.
    InputError
        The weights are missing, damaged, or not those of an ORB-v2.
    """

    def __init__(self, settings: ORBSettings) -> None:
        check_installed()
        import torch

        self._torch = torch
        self._device = resolve_device(settings.device)
        self._dtype = torch.float32 if settings.dtype == "float32" else torch.float64
        path = find_weights(source(), settings.weights)
        model, sha256 = _load(path)
        self._model = model.to(self._dtype).to(self._device).eval().requires_grad_(False)
        own = settings.weights is not None
        self._known = range(1, 118) if own else MPTRJ  # of a file of the user's: what can be embedded
        self._identity = FoundationIdentity(
            name=f"orb:{sha256[:12]}" if own else NAME,
            version=importlib.metadata.version("orb-models"),
            weights_sha256=sha256,
            dtype=settings.dtype,
            device=self._device,
            energy_scale=f"orb:{sha256[:12]}" if own else UNCORRECTED,
        )

    @property
    def identity(self) -> FoundationIdentity:
        """Version, weights and energy scale of this ORB."""
        return self._identity

    @property
    def feature_size(self) -> int:
        """Features after the last message passing step, which the energy is read from."""
        return int(self._model.heads["energy"].mlp[0].in_features)

    def _forward(self, structures: Sequence[Atoms], *, stress: bool) -> Pass:
        from orb_models.forcefield.base import batch_graphs

        torch = self._torch
        refuse_unknown_species(self._identity.name, self._known, structures)
        graph: Any = batch_graphs([self._graph(atoms) for atoms in structures])
        positions: Tensor = graph.node_features["positions"].detach()
        graph.node_features["positions"] = positions
        vectors, strains, _ = graph.compute_differentiable_edge_vectors(
            use_stress_displacement=stress, use_rotation=False
        )
        graph.edge_features["vectors"] = vectors
        with _default_dtype(self._dtype):
            features = self._model.model(graph)["node_features"]
            energies = self._model.heads["energy"].predict(features, graph).view(-1)
        counts = graph.n_node
        numbers = graph.node_features["atomic_numbers"].long()
        owners = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        return Pass(
            energies=energies,
            latent=Latent(features, numbers, owners, len(structures)),
            positions=[positions],
            strains=[strains] if stress else [],
            volumes=torch.linalg.det(graph.system_features["cell"]).abs(),
            site_energies=None,  # the energy is read from the mean of the features
        )

    def _graph(self, atoms: Atoms) -> Any:
        from orb_models.forcefield.atomic_system import ase_atoms_to_atom_graphs

        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        return ase_atoms_to_atom_graphs(
            bare,
            self._model.system_config,
            device=self._torch.device(self._device),
            output_dtype=self._dtype,
            graph_construction_dtype=self._dtype,
        )


@contextmanager
def _default_dtype(dtype: "torch.dtype") -> Iterator[None]:
    """What the model makes on its way has the default precision, which calculators of MACE leave changed."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _load(path: Path) -> tuple[Any, str]:
    """The model of a file, and the file's hash; nothing in the file is executed."""
    import torch
    from orb_models.forcefield.atomic_system import SystemConfig
    from orb_models.forcefield.pretrained import orb_v2_architecture

    content, sha256 = read_weights(path)
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:
        raise damaged(source(), path, error) from error
    steps = _steps(state)
    if not steps:
        raise InputError(
            f"holds no weights of an ORB-v2, but {type(state).__name__}",
            where=str(path),
            mend="give the file of a state dict, as ORB publishes it (NAME.ckpt)",
        )
    config = SystemConfig(radius=RADIUS, max_num_neighbors=NEIGHBOURS)
    with _default_dtype(torch.float32):
        model = orb_v2_architecture(num_message_passing_steps=steps, device="cpu", system_config=config)
    try:
        model.load_state_dict(state, strict=True)
    except Exception as error:
        raise damaged(source(), path, error) from error
    return model, sha256


def _steps(state: object) -> int:
    """How many message passing steps the weights have, 0 where they are not those of an ORB."""
    if not isinstance(state, Mapping):
        return 0
    found = (re.match(r"model\.gnn_stacks\.(\d+)\.", str(key)) for key in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
