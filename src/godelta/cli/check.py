"""`godelta check`: each part is ok, or how to mend it."""

from collections.abc import Callable
from pathlib import Path

from rich.markup import escape

from godelta import logs
from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaign
from godelta.cli.console import console
from godelta.errors import GodeltaError
from godelta.store.workspace import Workspace


def check_everything(folder: Path | None, campaign: Path | None) -> int:
    """Check the workspace, and a campaign file if one is given; 0 if all is well, else 1."""
    workspace = Workspace.find(folder)
    logs.take_over(workspace.logs)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("workspace", lambda: _workspace(workspace)),
        ("database server", _mongod),
        ("database", lambda: _database(workspace)),
    ]
    config = None
    if campaign is not None:
        config = read_campaign(campaign)
        base = campaign.resolve().parent
        checks += [
            ("system", lambda: _system(config, base)),
            ("foundation", lambda: _foundation(config)),
            ("reference", lambda: _reference(config, base)),
        ]
    else:
        checks += [("foundation chgnet", _chgnet), ("reference xtb", _xtb), ("reference gpaw", _gpaw)]
    results = [_report(name, check) for name, check in checks]
    return 0 if all(results) else 1


def _report(name: str, check: Callable[[], str]) -> bool:
    try:
        detail = check()
    except GodeltaError as error:
        console.print(f"[red]no [/] {name}: {escape(error.what)}")
        if error.where:
            console.print(f"     where: {error.where}", markup=False)
        if error.mend:
            console.print(f"     mend: {error.mend}", markup=False)
        return False
    console.print(f"[green]ok [/] {name}: {escape(detail)}")
    return True


def _workspace(workspace: Workspace) -> str:
    workspace.prepare()
    workspace.settings()
    return str(workspace.folder)


def _mongod() -> str:
    from godelta.store.mongod_binary import find_mongod

    return str(find_mongod())


def _database(workspace: Workspace) -> str:
    store = workspace.connect(start=True)
    version = store.db.client.server_info()["version"]
    return f"MongoDB {version}, {store.campaigns.estimated_document_count()} campaigns"


def _system(config: CampaignConfig, base: Path) -> str:
    from godelta.systems.builders import build_problem

    problem = build_problem(config.system, base)
    return f"{len(problem.numbers)} atoms to place, {problem.n_template} given"


def _foundation(config: CampaignConfig) -> str:
    from godelta.foundation import load_foundation

    identity = load_foundation(config.foundation).identity
    return f"{identity.name} ({identity.version}), energies {identity.energy_scale}"


def _reference(config: CampaignConfig, base: Path) -> str:
    from godelta.reference.registry import check_engine, reference_hash
    from godelta.systems.builders import build_problem

    check_engine(config.reference, build_problem(config.system, base))
    return f"{config.reference.engine}, reference hash {reference_hash(config.reference)[:12]}"


def _chgnet() -> str:
    from godelta.foundation import CHGNetSettings, load_foundation

    return load_foundation(CHGNetSettings()).identity.version


def _xtb() -> str:
    return _engine("tblite", "xtb")


def _gpaw() -> str:
    return _engine("gpaw", "gpaw")


def _engine(package: str, extra: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    from godelta.errors import MissingExtraError

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        raise MissingExtraError(f"the reference {extra}", extra) from None
