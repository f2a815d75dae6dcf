"""`godelta init`: a workspace with settings, fw_config/ and examples."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from godelta.cli.console import console
from godelta.errors import GodeltaError
from godelta.store.workspace import SETTINGS_FILE

SETTINGS_TEXT = """\
# Settings of this workspace.
# Campaigns are kept in a private MongoDB server in .godelta/, started when it is needed. To use a
# server of your own, say which file holds its URI, mongodb://user:password@host:27017/?authSource=admin
# (chmod 600), or which environment variable (uri_env: NAME):
# database:
#   uri_file: ~/.config/godelta/mongodb_uri
#   name: godelta
#   idle_minutes: 30  # the private server stops itself after so long without a client; 0: never
"""
# The state holds passwords and a database.
IGNORED = ".godelta/\n"


def make_workspace(
    folder: Path, more: Mapping[Path, str] | None = None, settings: str = SETTINGS_TEXT
) -> None:
    """Write what a new workspace needs, and more; files that are there already are left alone.

    Raises
    ------
    GodeltaError
        The folder cannot be written.
    """
    wanted = {folder / SETTINGS_FILE: settings, folder / ".gitignore": IGNORED}
    examples = files("godelta.examples")
    for source, target in (
        (examples, folder),
        (examples / "papers", folder / "papers"),
        (files("godelta.fw_config"), folder / "fw_config"),
    ):
        for item in source.iterdir():
            if item.name.endswith(".yaml"):
                wanted[target / item.name] = item.read_text(encoding="utf-8")
    wanted |= more or {}
    made, kept = [], []
    try:
        for path, text in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                kept.append(path)
            else:
                path.write_text(text, encoding="utf-8")
                made.append(path)
    except OSError as error:
        raise GodeltaError(
            f"cannot be written: {error.strerror}",
            where=str(folder),
            mend="choose another folder, on a disk with space that you may write to",
        ) from None
    for path in sorted(made):
        console.print(f"[green]made[/]  {path}")
    for path in sorted(kept):
        console.print(f"[dim]kept  {path}[/]")
    if more:
        return
    step = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    console.print(f"\nNext: [bold]{step}godelta run ag4s2.yaml[/]")
