"""`godelta init`."""

import pytest

from godelta.campaign_file import read_campaign, read_campaigns
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
    assert len(read_campaigns(folder / "papers" / "cu-oxide-8.yaml")) > 2
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


def test_a_workspace_for_a_cluster(inside, tmp_path):
    folder = tmp_path / "cluster"
    flags = ["--partition", "normal", "--reference", "emt", "--ranks", "8", "--walltime", "02:00:00"]
    uri = tmp_path / "uri"
    answer = inside("init", folder, "--slurm", *flags, "--mongodb-uri-file", uri)
    assert answer.code == 0
    assert str(uri) in answer.out.replace("\n", "")
    assert "godelta submit FILE --launch" in answer.out.replace("\n", " ")
    assert (folder / ".gitignore").read_text() == ".godelta/\n"
    assert "mongodb://" not in (folder / "godelta.yaml").read_text()
    uri.write_text("mongodb://user:secret@127.0.0.1:9/")
    uri.chmod(0o600)
    assert Workspace(folder).database_uri(start=False)[0].startswith("mongodb://user:secret@")
    reference = (folder / "fw_config" / "reference_qadapter.yaml").read_text()
    assert "ntasks: 8\n" in reference
    assert 'walltime: "02:00:00"\n' in reference
    assert "gpus_per_node: null\n" in (folder / "fw_config" / "search_qadapter.yaml").read_text()


@pytest.mark.parametrize("flags", [("--walltime", "soon"), ("--partition", "two words"), ("--gpus", "a;b")])
def test_what_slurm_would_not_understand(inside, tmp_path, flags):
    answer = inside("init", tmp_path / "cluster", "--slurm", *flags)
    assert answer.code == 2
    assert flags[1] in answer.err
    assert not (tmp_path / "cluster").exists()
