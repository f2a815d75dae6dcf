"""A worker goes on with the weights that its campaign was begun with, and with no others."""

import shutil

import pytest

from godelta.campaign import CampaignConfig
from godelta.errors import InputError
from godelta.foundation.chgnet import weight_file
from godelta.foundation.settings import CHGNetSettings
from godelta.foundation.weights import file_sha256
from godelta.makers.search import run_search
from godelta.makers.session import Session
from godelta.store import campaigns
from godelta.workflows.submit import register


@pytest.fixture
def save(require):
    """Save CHGNet with its last weights multiplied by a number; the file's hash."""
    require("chgnet")
    import torch

    state = torch.load(weight_file(CHGNetSettings())[1].path, weights_only=True, map_location="cpu")["model"]

    def _save(path, factor):
        values = state["state_dict"] | {
            "mlp.layers.7.weight": factor * state["state_dict"]["mlp.layers.7.weight"]
        }
        torch.save({"model": state | {"state_dict": values}}, path)
        return file_sha256(path)

    return _save


def test_a_campaign_never_goes_on_with_other_weights(save, session: Session, begin, tmp_path) -> None:
    path = tmp_path / "mine.pth.tar"
    first = save(path, 1.1)
    foundation = {"name": "chgnet", "weights": str(path)}
    key = begin("mine", foundation=foundation)
    campaign = campaigns.get_campaign(session.store, "mine")
    assert campaign.weights_sha256 == first
    moved = tmp_path / "moved.pth.tar"
    shutil.copy(path, moved)
    other = save(path, 1.2)
    with pytest.raises(InputError) as refused:
        run_search(session, key, 0)
    assert f"sha256 {other} here, {first} then" in str(refused.value)
    config = CampaignConfig.model_validate(campaign.config)
    with pytest.raises(InputError, match="put the first weights back"):
        register(session.store, config, tmp_path)
    there = config.model_copy(update={"foundation": CHGNetSettings(weights=str(moved))})
    assert register(session.store, there, tmp_path).campaign_id == campaign.campaign_id
    assert session.parts(campaign.campaign_id).foundation.identity.weights_sha256 == first


def test_a_worker_records_the_weights_of_a_campaign_of_before(session: Session, begin, require) -> None:
    require("chgnet")
    key = begin("old", foundation={"name": "chgnet"})
    session.store.campaigns.update_one({}, {"$unset": {"weights_sha256": 1}})
    sha256 = session.parts(key.campaign_id).foundation.identity.weights_sha256
    assert campaigns.get_campaign(session.store, "old").weights_sha256 == sha256
