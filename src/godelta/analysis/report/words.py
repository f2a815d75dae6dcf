"""Numbers, shares and times as people read them."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

MOST_ROWS = 1000  # of a table
MOST_SHOWN = 10  # rows of a table that is not folded


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash for what is not known."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """A share in percent, or a dash."""
    return "-" if share is None else f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """A time span for people."""
    return str(timedelta(seconds=round(seconds)))


def time_of(when: datetime) -> str:
    """A time for people."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def constraints(versions: Mapping[str, str]) -> str:
    """Versions as pip reads them; a build's own mark, as +cpu, is in no index."""
    return "".join(f"{name}=={version.partition('+')[0]}\n" for name, version in versions.items())


def folded(rows: Sequence[object], title: str) -> str:
    """The title that a long table is hidden behind; a short one is shown."""
    return title if len(rows) > MOST_SHOWN else ""
