"""`restart` starts nothing again whose weights are others now."""

import pytest

from godelta.errors import InputError
from godelta.foundation.chgnet import weight_file
from godelta.foundation.settings import CHGNetSettings
from godelta.foundation.weights import file_sha256
from godelta.store import campaigns
from godelta.workflows.batch import BatchWatch
from godelta.workflows.planner import advance
from godelta.workflows.restart import RestartOptions, mend


@pytest.fixture
def again(opened, launchpad):
    options = RestartOptions(named=True)
    return lambda campaign_id: mend(opened, launchpad, campaign_id, options, BatchWatch(opened))


@pytest.fixture
def failed(require, start, opened, launchpad, tmp_path):
    """A failed campaign with weights of its own, and their file."""
    require("chgnet")
    path = tmp_path / "mine.pth.tar"
    path.write_bytes(weight_file(CHGNetSettings())[1].path.read_bytes())
    campaign_id = start(foundation={"name": "chgnet", "weights": str(path)})
    advance(opened, launchpad, campaign_id)
    campaigns.set_state(opened, campaign_id, "running", "failed", reason="a disk was full")
    return campaign_id, path


def test_other_weights_are_refused(failed, again, opened):
    campaign_id, path = failed
    first = file_sha256(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=f"sha256 {file_sha256(path)} here, {first} then"):
        again(campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "failed"


def test_weights_that_are_only_elsewhere_are_left_to_the_workers(failed, again, opened):
    campaign_id, path = failed
    path.unlink()
    again(campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "running"
