import pytest
from pydantic import TypeAdapter, ValidationError

from godelta.search.settings import REXSettings, RSSSettings, SearchSettings
from godelta.search.weights import MoveWeights

ADAPTER = TypeAdapter(SearchSettings)


def test_a_preset_fills_only_what_is_not_given():
    paper = ADAPTER.validate_python(
        {"method": "rex", "preset": "paper", "walkers": 4, "selection": {"kappa": 1.0}}
    )
    assert paper.walkers == 4
    assert paper.iterations_per_round == 100
    assert paper.selection.choose == "random"
    assert paper.selection.kappa == 1.0
    assert paper.relax.fmax == 0.025


def test_part_of_a_block_leaves_the_methods_own_defaults():
    assert ADAPTER.validate_python({"method": "rex", "relax": {"steps": 30}}).relax.fmax == 0.025
    assert ADAPTER.validate_python({"method": "rss", "relax": {"steps": 30}}).relax.fmax == 0.05


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_dump_is_read_back_the_same(preset):
    settings = REXSettings(preset=preset)
    assert REXSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"kT_min": 2.0, "kT_max": 1.0}, "kT_min"),
        ({"amplitude_min": 6.0}, "amplitude_min"),
        ({"preset": "papre"}, "paper"),
        ({"walker": 3}, "Extra inputs"),
        ({"relax": 3}, "relax"),
        ({"moves": {"rattle": 1}, "permutations": 0.2}, "either `moves` or `permutations`"),
        ({"moves": {"rattle": 0, "permutation": 0}}, "at least one weight"),
        ({"moves": {"rattel": 1}}, "rattel"),
        ({"generators": {"random": -1}}, "greater than or equal"),
    ],
)
def test_wrong_values_are_refused(data, said):
    with pytest.raises(ValidationError, match=said):
        REXSettings.model_validate(data)


def test_campaigns_of_earlier_versions_keep_their_digest():
    """What digests were before there was a choice of moves and generators."""
    assert RSSSettings().digest() == "9a89cfa5d4a25f8c68bd0d49ff4ba41e2b46ce329c58c9ab788a593a7e90c43a"
    assert REXSettings().digest() == "37a4a863edf890286923abd3e990eee649d9f725790d61e010ef263d05674b09"
    paper = REXSettings(preset="paper")
    assert paper.digest() == "e30aca000254184fd6692955781035152d8054184d1704fd705fe359c4e5b06a"


def test_the_old_share_of_permutations_is_a_weight():
    assert REXSettings(permutations=0.3).move_weights() == MoveWeights(rattle=0.7, permutation=0.3)
    assert REXSettings().move_weights() == MoveWeights()
    assert REXSettings(preset="paper").move_weights() == MoveWeights(rattle=1.0, permutation=0.0)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_given_weights_are_stored_and_read_back(preset):
    settings = REXSettings(
        preset=preset, moves={"centre_of_geometry": 0.5}, generators={"random": 0.5, "symmetric": 0.5}
    )
    stored = settings.model_dump(mode="json")
    assert "permutations" not in stored
    assert REXSettings.model_validate(stored) == settings
    assert (
        REXSettings.model_validate(stored).digest()
        == settings.digest()
        != REXSettings(preset=preset).digest()
    )
    assert settings.move_weights().permutation == (0.0 if preset == "paper" else 0.2)


def test_weights_are_shares():
    assert MoveWeights(rattle=3, permutation=1).shares() == {
        "rattle": 0.75, "permutation": 0.25, "centre_of_geometry": 0.0, "symmetric_rattle": 0.0
    }  # fmt: skip


@pytest.mark.parametrize("method", ["rss", "rex", "bh", "gofee"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_every_method_has_presets_whose_dumps_are_read_back_the_same(method, preset):
    settings = ADAPTER.validate_python({"method": method, "preset": preset})
    dump = settings.model_dump(mode="json")
    assert ADAPTER.validate_python(dump) == settings
    if preset == "paper":
        assert dump["preset"] == "paper"
        serial = 1 if method != "rex" else 100
        assert getattr(settings, "iterations_per_round", 1) == serial


def test_what_stored_settings_of_random_search_name_has_not_changed():
    """Older campaigns keep their identity: what is newer is left out where it says what was so before."""
    keys = {"method", "structures_per_round", "batch", "relax", "selection"}
    assert set(ADAPTER.validate_python({"method": "rss"}).model_dump()) == keys
    late = ADAPTER.validate_python({"method": "rss", "relax_from": 3})
    assert set(late.model_dump()) == {*keys, "relax_from"}
    early = ADAPTER.validate_python({"method": "rss", "preset": "paper", "relax_from": 1})
    assert ADAPTER.validate_python(early.model_dump(mode="json")).relax_from == 1


def test_moves_of_the_papers_are_rattles_only():
    for method in ("bh", "gofee"):
        paper = ADAPTER.validate_python({"method": method, "preset": "paper"})
        assert paper.moves.shares()["rattle"] == 1.0
        assert ADAPTER.validate_python({"method": method}).moves.shares()["permutation"] == pytest.approx(0.2)
