"""What a campaign's configuration would have a worker import or start, and whether it may."""

import shlex

from godelta.campaign import CampaignConfig
from godelta.errors import InputError
from godelta.foundation.settings import MACEMP0Settings, MACEMPA0Settings
from godelta.reference.settings import EspressoSettings, VASPSettings
from godelta.search.settings import OwnSearchSettings
from godelta.store.workspace import SETTINGS_FILE, Workspace


def programs_of(config: CampaignConfig) -> list[str]:
    """Calculators and searches that are not godelta's own, an engine's program and launcher, a file of MACE.

    The last one is a pickled module, which can run any code.
    """
    calculators = [
        part.calculator for part in (config.foundation, config.reference) if hasattr(part, "calculator")
    ]
    if isinstance(config.search, OwnSearchSettings):
        calculators.append(config.search.program)
    foreign = [path for path in calculators if not path.startswith("godelta.")]
    if isinstance(config.reference, EspressoSettings | VASPSettings):
        foreign += shlex.split(config.reference.command)[:1]
    pickled = isinstance(config.foundation, MACEMP0Settings | MACEMPA0Settings) and config.foundation.weights
    return foreign + list(config.reference.limits.command_prefix[:1]) + ([pickled] if pickled else [])


def refuse_programs(config: CampaignConfig, workspace: Workspace) -> None:
    """Where the workspace lists what campaigns may run, hold a campaign to that list.

    Configurations are read from the database: without a list, whoever may write there chooses what runs here.

    Raises
    ------
    InputError
        The campaign names a calculator or a command that is not in the list.
    """
    allowed = workspace.settings().programs
    if allowed is None:
        return
    strange = [name for name in programs_of(config) if not _is_among(name, allowed)]
    if strange:
        raise InputError(
            f"campaign {config.name} would run {', '.join(strange)}, which this workspace does not allow",
            where=f"{workspace.folder / SETTINGS_FILE}, programs",
            mend="add it to that list if it is yours, then start the workers again",
        )


def _is_among(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == entry or ("/" not in name and name.startswith(f"{entry}.")) for entry in allowed)
