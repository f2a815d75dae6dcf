"""Batches in pieces: no more atoms at once than is fast on a CPU, or than fit into the memory of a GPU."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ase import Atoms

from godelta.errors import GodeltaError

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


@dataclass
class Pieces:
    """Cuts batches of structures into pieces that follow each other.

    Where it cuts is decided by the numbers of atoms alone: other pieces would give other last bits, and a run
    that is repeated has to find the same. The exception is a GPU whose memory is full: from then on pieces
    are smaller.

    Parameters
    ----------
    what
        What is evaluated, for messages.
    most_atoms
        Of a piece with more than one structure; None: no limit.
    """

    what: str
    most_atoms: int | None = None
    _warned: bool = field(default=False, init=False)

    def evaluate(self, structures: Sequence[Atoms], work: Callable[[slice], _Result]) -> list[_Result]:
        """What `work` gives for each piece of the structures, in their order.

        Raises
        ------
        GodeltaError
            A single structure does not fit into the memory of the GPU.
        """
        results: list[_Result] = []
        sizes, start = [len(atoms) for atoms in structures], 0
        while start < len(sizes):
            piece = slice(start, self._stop(sizes, start))
            try:
                results.append(work(piece))
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if piece.stop - start == 1:
                    raise GodeltaError(
                        f"{sizes[start]} atoms do not fit into the memory of the GPU, which other programs"
                        " may use as well",
                        where=self.what,
                        mend="take smaller structures, `device: cpu`, or a GPU with more memory",
                    ) from error
            else:
                start = piece.stop
                continue
            self._halve(sum(sizes[piece]))
        return results

    def _stop(self, sizes: Sequence[int], start: int) -> int:
        stop, total = start + 1, sizes[start]
        while stop < len(sizes) and (self.most_atoms is None or total + sizes[stop] <= self.most_atoms):
            total += sizes[stop]
            stop += 1
        return stop

    def _halve(self, atoms: int) -> None:
        import torch

        self.most_atoms = max(atoms // 2, 1)
        if not self._warned:
            log.warning(
                "%s: %d atoms at once do not fit into the memory of the GPU: batches are split from now on",
                self.what,
                atoms,
            )
            self._warned = True
        torch.cuda.empty_cache()


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    # Where memory is nearly full, the libraries for matrices find no room for themselves.
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)
