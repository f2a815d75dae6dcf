"""Pictures to files that people name."""

from pathlib import Path
from typing import TYPE_CHECKING

from godelta.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure; the ending decides how.

    Raises
    ------
    InputError
        The file cannot be written, or nothing is known to write such an ending.
    """
    try:
        figure.savefig(path, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be written: {error}", where=str(path), mend="choose another file, e.g. one in .png"
        ) from None
