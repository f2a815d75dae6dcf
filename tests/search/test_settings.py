import pytest
from pydantic import TypeAdapter, ValidationError

from godelta.search.settings import REXSettings, SearchSettings

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
    ],
)
def test_wrong_values_are_refused(data, said):
    with pytest.raises(ValidationError, match=said):
        REXSettings.model_validate(data)
