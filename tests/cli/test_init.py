"""`godelta init`."""

import pytest

from godelta.campaign_file import read_campaign
from godelta.store.workspace import Workspace


def test_a_workspace_whose_examples_can_be_read(inside, tmp_path):
    folder = tmp_path / "mywork"
    answer = inside("init", folder)
    assert answer.code == 0
    assert f"cd {folder} && godelta run" in answer.out.replace("\n", "")
    examples = sorted(folder.glob("*.yaml"))
    assert {"godelta.yaml", "ag4s2.yaml", "cu12ag.yaml"} <= {path.name for path in examples}
    for path in examples:
        if path.name != "godelta.yaml":
            assert read_campaign(path).name
    assert (folder / "fw_config" / "FW_config.yaml").is_file()
    assert Workspace(folder).settings().database.uri is None


def test_again_keeps_what_is_there(inside, tmp_path):
    inside("init", tmp_path)
    (tmp_path / "ag4s2.yaml").write_text("mine")
    (tmp_path / "cu12ag.yaml").unlink()
    answer = inside("init", tmp_path)
    assert answer.code == 0
    assert (tmp_path / "ag4s2.yaml").read_text() == "mine"
    assert (tmp_path / "cu12ag.yaml").is_file()
    made = [line for line in answer.out.splitlines() if line.startswith("made")]
    assert len(made) == 1


@pytest.mark.parametrize("target", ["file/sub", "file"])
def test_where_nothing_can_be_written(inside, tmp_path, target):
    (tmp_path / "file").write_text("")
    answer = inside("init", tmp_path / target)
    assert answer.code == 1
    assert "cannot be written" in answer.err
    assert str(tmp_path / target) in answer.err
    assert "Traceback" not in answer.err
