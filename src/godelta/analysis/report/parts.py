"""What a page is made of. Text is text: the page escapes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str
    kind: str = "prose"


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    rows: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    label
        What it is, for those who do not see it.
    columns
        Headings.
    rows
        As many cells each as there are columns.
    texts
        Headings of columns that are set left.
    note
        Below it.
    folded
        What it is hidden behind, where it is long; nothing: it is shown.
    """

    label: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: frozenset[str] = frozenset()
    note: str = ""
    folded: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Plot:
    """A figure, what it shows for those who do not see it, and what it says below."""

    figure: Figure
    alt: str
    caption: str = ""
    kind: str = "plot"


@dataclass(frozen=True)
class Shares:
    """Parts of a whole, by name, as a bar."""

    label: str
    parts: Sequence[tuple[str, float]]
    kind: str = "shares"


@dataclass(frozen=True)
class Shown:
    """A structure to look at, its title, and what is known of it."""

    title: str
    atoms: Atoms
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Viewer:
    """Structures in three dimensions, one at a time; `file` names what can be saved."""

    structures: Sequence[Shown]
    file: str
    kind: str = "viewer"


@dataclass(frozen=True)
class Code:
    """A text as it is, with a link that saves it where it has the name of a file."""

    text: str
    file: str = ""
    folded: bool = False
    kind: str = "code"


Part = Prose | Facts | Table | Plot | Shares | Viewer | Code


@dataclass(frozen=True)
class Section:
    """A heading with its anchor, and what follows."""

    key: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A page: title, what it is about in a line, sections, and what it ends with.

    Parameters
    ----------
    state
        A word set beside the title, as running.
    headline
        The few numbers that matter most.
    back
        Address of the page that it was reached from.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    foot: str
    state: str = ""
    headline: Sequence[tuple[str, str]] = ()
    back: str = ""


@dataclass(frozen=True)
class IndexRow:
    """A campaign in the list of all: its name, the address of its report, its state, and the cells after."""

    name: str
    address: str
    state: str
    cells: Sequence[str]


@dataclass(frozen=True)
class Index:
    """All campaigns of a workspace at one time.

    Parameters
    ----------
    title
        What the workspace is called.
    line
        What they come to, in a line.
    columns
        Headings of the cells of rows.
    notes
        Lines below the table, such as why campaigns failed.
    others
        Names and addresses of other reports that are there.
    """

    title: str
    line: str
    columns: Sequence[str]
    rows: Sequence[IndexRow]
    notes: Sequence[str]
    others: Sequence[tuple[str, str]]
    at: str
