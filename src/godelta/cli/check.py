"""`godelta check`: each part is ok, or how to mend it."""

from collections.abc import Iterable
from pathlib import Path
from textwrap import indent

from rich.markup import escape

from godelta import logs
from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaigns
from godelta.cli.console import console
from godelta.store.checks import Check, CheckLine, Doubt, carry_out
from godelta.store.workspace import Workspace

MARKS = {"ok": "[green]ok [/]", "doubt": "[yellow]!! [/]", "no": "[red]no [/]"}


def check_everything(folder: Path | None, campaign: Path | None) -> int:
    """Check the workspace, and a campaign file if one is given; 0 if all is well, else 1."""
    workspace = Workspace.find(folder)
    logs.take_over(workspace.logs)
    config = None if campaign is None else read_campaigns(campaign)[0]
    here = check_workspace(workspace)
    if campaign is not None and config is not None:
        there = check_campaign(config, campaign.resolve().parent)
    else:
        parts: list[tuple[str, Check]] = [
            ("foundation chgnet", _chgnet),
            ("reference xtb", _xtb),
            ("reference gpaw", _gpaw),
            ("reference espresso", _espresso),
            ("reference vasp", _vasp),
        ]
        there = print_lines(carry_out(name, check) for name, check in parts)
    return 0 if here and there else 1


def check_workspace(workspace: Workspace) -> bool:
    """Check the workspace and its database; whether all is well."""
    parts: list[tuple[str, Check]] = [
        ("workspace", lambda: _workspace(workspace)),
        ("database server", lambda: _server(workspace)),
        ("database", lambda: _database(workspace)),
    ]
    return print_lines(carry_out(name, check) for name, check in parts)


def check_campaign(config: CampaignConfig, base: Path) -> bool:
    """Check what a campaign needs on this machine; whether all is well."""
    parts: list[tuple[str, Check]] = [
        ("system", lambda: _system(config, base)),
        ("foundation", lambda: _foundation(config)),
        ("reference", lambda: _reference(config, base)),
    ]
    return print_lines(carry_out(name, check) for name, check in parts)


def print_lines(lines: Iterable[CheckLine], of: str = "") -> bool:
    """Print what checks find, as they find it; whether all may stay so."""
    fine = True
    for line in lines:
        fine &= print_line(line, of)
    return fine


def print_line(line: CheckLine, of: str = "") -> bool:
    """Print what a check found, `of` a class of batch jobs; whether it may stay so."""
    told = indent(line.what, "     ").lstrip()
    console.print(f"{MARKS[line.verdict]} {of and f'{of} '}{line.name}: {escape(told)}", soft_wrap=True)
    if line.where:
        console.print(f"     where: {line.where}", markup=False, soft_wrap=True)
    if line.mend:
        console.print(f"     mend: {line.mend}", markup=False, soft_wrap=True)
    return line.verdict != "no"


def _workspace(workspace: Workspace) -> str:
    workspace.prepare()
    workspace.settings()
    return str(workspace.folder)


def _server(workspace: Workspace) -> str:
    from godelta.store.credentials import address_of
    from godelta.store.mongod_binary import find_mongod

    if not workspace.settings().database.is_private:
        uri, _ = workspace.database_uri(start=False)
        return f"your own, {address_of(uri)}"
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
    weights = "none" if identity.weights_sha256 is None else identity.weights_sha256[:12]
    told = f"{identity.name} ({identity.version}) on {identity.device}"
    return f"{told}, energies {identity.energy_scale}, weights {weights}"


def _reference(config: CampaignConfig, base: Path) -> str:
    from godelta.reference.registry import check_engine, describe
    from godelta.systems.builders import build_problem

    check_engine(config.reference, build_problem(config.system, base))
    told = describe(config.reference)
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return f"{told['name']} ({versions}), reference hash {told['reference_hash'][:12]}"


def _chgnet() -> str:
    from godelta.foundation import CHGNetSettings, load_foundation

    return load_foundation(CHGNetSettings()).identity.version


def _xtb() -> str:
    return _engine("tblite", "xtb")


def _gpaw() -> str:
    return _engine("gpaw", "gpaw")


def _espresso() -> str | Doubt:
    import os
    import shutil

    program = shutil.which("pw.x")
    if program is None:
        return Doubt(
            "pw.x is not found",
            "only for Quantum ESPRESSO: install it (Debian: quantum-espresso), or load its module",
        )
    folder = os.environ.get("ESPRESSO_PSEUDO")
    return f"{program}, pseudopotentials in {folder or 'the folder that the campaign names'}"


def _vasp() -> str | Doubt:
    import os
    import shutil

    program, folder = shutil.which("vasp_std"), os.environ.get("VASP_PP_PATH")
    if program is None:
        return Doubt("vasp_std is not found", "only for VASP, with a licence of your own: load its module")
    if folder is None:
        return Doubt(
            f"{program}, but no POTCAR files", "set VASP_PP_PATH, or reference.pp_path in the campaign file"
        )
    return f"{program}, POTCAR files in {folder}; godelta was never run with VASP itself"


def _engine(package: str, extra: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    from godelta.errors import MissingExtraError

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        raise MissingExtraError(f"the reference {extra}", extra) from None
