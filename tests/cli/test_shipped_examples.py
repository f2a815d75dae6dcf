"""Every campaign file that is shipped runs: one round, with a cheap reference and a cheap foundation."""

import copy
import json
from pathlib import Path

import pytest

from godelta.campaign_file import read_campaigns
from godelta.store import campaigns
from godelta.store.progress import snapshot
from godelta.yaml_file import read_yaml

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
LENNARD_JONES = {
    "calculator": "ase.calculators.lj.LennardJones",
    "arguments": {"sigma": 1.6, "epsilon": 0.1, "rc": 6.0},
}
CHEAP = {
    "foundation": {"name": "ase"} | LENNARD_JONES,
    "reference": {"engine": "ase"} | LENNARD_JONES,
    "delta": {"descriptor": "soap", "inducing_points": 20},
    "budget": {"chains": 1, "rounds": 1, "evaluations": 2},
    "resources": {"workers": 1},
    "refine": {"best": 0},
}

pytestmark = pytest.mark.slow
FILES = sorted([*EXAMPLES.glob("*.yaml"), *EXAMPLES.glob("papers/*.yaml")])


def _cheap(path: Path) -> tuple[dict, list[str]]:
    """The file with one round for its smallest and its largest system, and what these are called."""
    values = copy.deepcopy(read_yaml(path).values)
    configs = read_campaigns(path)
    if len(configs) > 1:
        sized = sorted(values["system"]["formula"], key=_atoms)
        values["system"]["formula"] = [sized[0], sized[-1]]
    method = configs[0].search.method
    search = {"method": method, "relax": {"steps": 5}, "iterations_per_round": 1}
    if method == "rss":
        search["structures_per_round"] = 2
        del search["iterations_per_round"]
    return values | CHEAP | {"search": search}, [config.name for config in configs]


def _atoms(formula: str) -> int:
    from ase.formula import Formula

    return len(Formula(formula))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_round(godelta, workspace, opened, tmp_path, path):
    values, names = _cheap(path)
    (tmp_path / "cheap.yaml").write_text(json.dumps(values))
    answer = godelta("run", tmp_path / "cheap.yaml", "-w", workspace.folder, "--plain", timeout=400)
    assert answer.code == 0, answer.out + answer.err
    ran = [one for one in campaigns.list_campaigns(opened) if one.name in names]
    assert len(ran) == min(len(names), 2)
    for one in ran:
        progress = snapshot(opened, one.campaign_id)
        assert (one.state, progress.closed_rounds) == ("finished", 1)
        assert progress.ok >= 1
