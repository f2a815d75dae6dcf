"""Classes of batch jobs: what the workspace's qadapter files ask for, and a campaign beyond them."""

import re
import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from pymongo import ReturnDocument

from godelta.errors import InputError
from godelta.resources import BatchResources, Role
from godelta.settings import Settings
from godelta.store.database import Store
from godelta.store.workspace import Workspace
from godelta.workflows.round import LIGHT
from godelta.yaml_file import read_yaml

FOLDER = "fw_config"
ROLES: dict[str, Role] = {"search": "search", "evaluate": "reference", LIGHT: "light"}
# In a qadapter file, as FireWorks' own templates call it.
RENAMED = {"partition": "queue"}
TEMPLATE_FIELD = re.compile(r"\$\$\{(\w+)\}")


class QadapterFile(Settings):
    """A qadapter file of FireWorks: its own keys, ours, and the fields of its batch script."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    name: str = Field("CommonAdapter", alias="_fw_name", pattern="^CommonAdapter$")
    q_type: str = Field(alias="_fw_q_type", pattern="^SLURM$")
    template: Path = Field(alias="_fw_template_file")
    rocket_launch: str = Field(min_length=1)
    pack: int = Field(10, alias="_pack", ge=1)
    max_pilots: int = Field(10, alias="_max_pilots", ge=1)
    pre_rocket: str = ""
    walltime: str | int | None = None


@dataclass(frozen=True)
class ResourceClass:
    """Batch jobs for one category of jobs.

    Parameters
    ----------
    category
        What their workers take, beside light jobs.
    path
        The qadapter file.
    settings
        What it holds.
    own
        What a campaign asks for instead.
    """

    category: str
    path: Path
    settings: QadapterFile
    own: BatchResources

    @property
    def role(self) -> Role:
        """What its jobs are for."""
        return role_of(self.category)

    def fields(self) -> dict[str, Any]:
        """The fields of the batch script, but for those of the one batch job."""
        given = {RENAMED.get(key, key): value for key, value in self.own.given().items()}
        file = self.settings.model_dump(exclude={"name", "q_type", "template", "pack", "max_pilots"})
        return {**file, **given, "category": self.category}

    def script(self, launch_dir: Path, job_name: str) -> str:
        """The batch script, made by FireWorks' queue adapter.

        Raises
        ------
        InputError
            The file's template is missing.
        """
        from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

        adapter = CommonAdapter(
            "SLURM", template_file=str(self.settings.template), **self.fields(), job_name=job_name
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # unknown keys were refused when the file was read
                return str(adapter.get_script_str(str(launch_dir)))
        except OSError as error:
            raise InputError(
                f"the template of batch scripts cannot be read: {error.strerror}",
                where=f"{self.settings.template}, named by {self.path}",
                mend="`godelta init --slurm` writes it anew; files that are there are kept",
            ) from None


def role_of(category: str) -> Role:
    """The role of a category's jobs."""
    return ROLES[category.partition("+")[0].partition("-")[0]]


def class_for(workspace: Workspace, category: str, own: BatchResources | None = None) -> ResourceClass:
    """The class of a category.

    The file is `fw_config/CATEGORY_qadapter.yaml` of the workspace where there is one (an environment of its
    own), else `fw_config/ROLE_qadapter.yaml`.

    Raises
    ------
    InputError
        There is no file, or it cannot be used.
    """
    plain = category.partition("+")[0]
    folder = workspace.folder / FOLDER
    paths = [folder / f"{name}_qadapter.yaml" for name in (plain, role_of(category))]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InputError(
            f"there is no qadapter file for jobs of the category {plain}",
            where=" or ".join(map(str, paths)),
            mend="`godelta init --slurm` in this workspace writes them",
        )
    return ResourceClass(category, path, read_qadapter(path), own or BatchResources())


def read_qadapter(path: Path) -> QadapterFile:
    """Read a qadapter file.

    Raises
    ------
    InputError
        It cannot be read, or holds what its batch script has no place for.
    """
    values = read_yaml(path).values
    try:
        settings = QadapterFile.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"`{'.'.join(map(str, item['loc'])) or 'the file'}`: {item['msg']}" for item in error.errors()
        )
        raise InputError(
            problems, where=str(path), mend="compare it with what `godelta init --slurm` writes"
        ) from None
    if not settings.template.is_absolute():
        settings = settings.model_copy(update={"template": path.parent / settings.template})
    known = set(TEMPLATE_FIELD.findall(_text(settings.template, path)))
    unknown = sorted(set(settings.model_extra or ()) - known)
    if unknown:
        raise InputError(
            f"the batch script has no place for {', '.join(f'`{key}`' for key in unknown)}",
            where=str(path),
            mend=f"known are {', '.join(sorted(known))}; or add it to {settings.template}",
        )
    return settings


def _text(template: Path, path: Path) -> str:
    try:
        return template.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the template of batch scripts cannot be read: {error.strerror}",
            where=f"{template}, named by {path}",
            mend="`godelta init --slurm` writes it anew; files that are there are kept",
        ) from None


def pilot_prefix(store: Store) -> str:
    """What the names of this database's batch jobs begin with."""
    raw = store.db["meta"].find_one_and_update(
        {"_id": "pilots"},
        {"$setOnInsert": {"prefix": f"godelta.{secrets.token_hex(4)}."}},
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    assert raw is not None  # made where it was missing
    return str(raw["prefix"])
