"""`godelta run` from the first line to the plots."""

import re
import signal
import subprocess
import sys
import time

import matplotlib.image
import pytest

from godelta.store import campaigns


def test_run_to_the_end_and_again(godelta, workspace, opened, write_campaign):
    path = write_campaign()
    answer = godelta("run", path, "-w", workspace.folder, "--plain")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    lines = [line for line in answer.out.splitlines() if line.startswith("round ")]
    assert len(lines) >= 3
    assert re.fullmatch(r"round 2/2 \| evaluations \d ok, 0 failed of 10 \| best [\d.-]+ eV \| .*", lines[-1])
    campaign = campaigns.get_campaign(opened, "cheap")
    assert campaign.state == "finished"
    for part in (
        "The lowest structures of cheap",
        f"{campaign.spent} of 10 evaluations spent (0 failed) in 2 rounds",
        "godelta best cheap -n 10 --export best.extxyz",
    ):
        assert part in answer.out
    for name in ("energy.png", "parity.png"):
        image = matplotlib.image.imread(workspace.folder / "results" / "cheap" / name)
        assert min(image.shape[:2]) > 300
        assert image[..., :3].std() > 0.02
        assert str(workspace.folder / "results" / "cheap" / name) in answer.out
    # Nothing is left to do the second time; more rounds go on from here.
    again = godelta("run", path, "-w", workspace.folder, "--plain")
    assert again.code == 0
    assert "finished already" in again.out
    assert campaigns.get_campaign(opened, "cheap").spent == campaign.spent
    more = godelta("run", write_campaign(budget={"rounds": 3}), "-w", workspace.folder, "--plain")
    assert more.code == 0
    assert "in 3 rounds" in more.out
    assert campaigns.get_campaign(opened, "cheap").spent > campaign.spent


@pytest.mark.slow
def test_a_study(godelta, workspace, opened, write_campaign, cheap):
    system = cheap()["system"] | {"formula": ["Cu4", "Cu3Ag"]}
    path = write_campaign(system=system, budget={"rounds": 1})
    answer = godelta("run", path, "-w", workspace.folder, "--plain")
    assert answer.code == 0, answer.err
    assert "1 of 2: cheap.Cu4" in answer.out
    states = [campaigns.get_campaign(opened, f"cheap.{formula}").state for formula in ("Cu4", "Cu3Ag")]
    assert states == ["finished", "finished"]
    last = answer.out.splitlines()[-4:]
    for formula in ("Cu4", "Cu3Ag"):
        assert any(re.search(rf"cheap\.{formula} .* finished", line) for line in last)
    found = godelta("query", "--tag", "cheap", "--format", "json", "-w", workspace.folder).json()
    assert {row["campaign"] for row in found} == {"cheap.Cu4", "cheap.Cu3Ag"}


@pytest.mark.slow
def test_a_campaign_that_fails(godelta, workspace, write_campaign, tmp_path):
    (tmp_path / "broken.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "class Broken(EMT):\n"
        "    def calculate(self, *a, **k):\n"
        "        raise RuntimeError('the weights are gone')\n"
    )
    path = write_campaign(foundation={"name": "ase", "calculator": "broken.Broken", "arguments": {}})
    answer = godelta("run", path, "-w", workspace.folder, "--plain", PYTHONPATH=str(tmp_path))
    assert answer.code == 1
    assert "The campaign failed: chain 0, round 0:" in answer.out
    assert "RuntimeError: the weights are gone\n  mend the calculator" in answer.out
    assert "Traceback" not in answer.out + answer.err


@pytest.mark.slow
def test_two_campaigns_at_once_in_one_workspace(workspace, opened, write_campaign):
    command = [sys.executable, "-m", "godelta.cli.main", "run", "--plain", "-w", str(workspace.folder)]
    paths = [write_campaign(f"{name}{seed}.yaml", name=name, seed=seed) for seed, name in enumerate("abb")]
    processes = [subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, text=True) for path in paths]
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes[0] == 0
    assert sorted(codes[1:]) == [0, 2]  # the same name with another seed: whichever comes second is refused
    assert all("in 2 rounds" in text for text, code in zip(outputs, codes, strict=True) if code == 0)
    assert {c.name: c.state for c in campaigns.list_campaigns(opened)} == {"a": "finished", "b": "finished"}


def test_ctrl_c_while_it_starts(workspace, write_campaign):
    command = [sys.executable, "-m", "godelta.cli.main", "run", "-w", str(workspace.folder)]
    process = subprocess.Popen(
        [*command, str(write_campaign())], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (workspace.state / "fw_config").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on" in out + err
    assert "Traceback" not in out + err
