import pytest
from pydantic import ValidationError

from godelta.delta.settings import DeltaSettings, SOAPSettings

AS_BEFORE = DeltaSettings(forces_as="copies", force_directions=1)  # defaults when forces were copies


def test_the_paper_preset_changes_defaults():
    paper = DeltaSettings(preset="paper")
    assert (paper.inducing_selection, paper.hyperparameters) == ("cur", "fixed")
    assert (paper.length_scale, paper.noise, paper.amplitude) == (40.0, 1e-4, 1.0)
    assert not paper.species_kernels
    assert not paper.species_mean
    assert paper.soap == SOAPSettings(r_cut=7.0, n_max=3, l_max=2, sigma=1.0, weighting_power=2.0)


def test_given_keys_win_over_the_preset():
    paper = DeltaSettings(preset="paper", length_scale=20.0, soap="accurate")
    assert paper.length_scale == 20.0
    assert paper.soap.n_max == 6
    assert paper.noise == 1e-4


def test_a_preset_survives_the_round_trip():
    paper = DeltaSettings(preset="paper", species_mean=True)
    again = DeltaSettings.model_validate(paper.model_dump(mode="json"))
    assert again == paper
    assert again.digest() == paper.digest()


def test_soap_is_a_name_or_a_mapping():
    assert DeltaSettings(soap="accurate").soap.r_cut == 6.0
    assert DeltaSettings(soap={"r_cut": 5.0}).soap.r_cut == 5.0


@pytest.mark.parametrize(
    "values",
    [
        {"soap": "best"},
        {"preset": "other"},
        {"sopa": "paper"},
        {"preset": ["paper"]},
        {"aggregation": "species"},
        {"pooling": "sum"},
        {"descriptor": "embedding", "preset": "paper"},
        {"descriptor": "embedding", "aggregation": "local"},
    ],
)
def test_mistakes_are_refused(values):
    with pytest.raises(ValidationError):
        DeltaSettings.model_validate(values)


def test_campaigns_of_earlier_versions_keep_their_digest():
    assert AS_BEFORE.digest() == "e6ae08e572dfbef4e703cf4e4c57e92efd706faa3c71c64a0e1bd7ca6fcebe76"
    paper = DeltaSettings(preset="paper").digest()
    assert paper == "d0bb8f4b493dbaf2402879342a81a24e40e50459c243ff4b26197157720e70a0"


def test_the_accurate_preset_has_a_large_descriptor_and_all_forces():
    accurate = DeltaSettings(preset="accurate")
    assert accurate.soap == SOAPSettings.preset("accurate")
    assert (accurate.forces_as, accurate.force_directions) == ("gradients", 100)
    changed = {"preset", "soap"}
    assert accurate.model_dump(exclude=changed) == DeltaSettings().model_dump(exclude=changed)
    assert DeltaSettings.model_validate(accurate.model_dump(mode="json")).digest() == accurate.digest()


@pytest.mark.parametrize("aggregation", ["species", "global"])
def test_whole_structures_have_no_gradients(aggregation):
    with pytest.raises(ValidationError, match="`forces_as: gradients` compares atoms"):
        DeltaSettings(descriptor="embedding", aggregation=aggregation, forces_as="gradients")


def test_atoms_of_an_embedding_learn_forces_as_soap_does():
    atomic, soap = DeltaSettings(descriptor="embedding"), DeltaSettings()
    assert (atomic.forces_as, atomic.force_directions) == (soap.forces_as, soap.force_directions)
    # Campaigns of before had one copy for each evaluation, and did not say so by name.
    stored = atomic.model_dump(mode="json") | {"force_directions": 1}
    del stored["forces_as"]
    assert DeltaSettings.model_validate(stored).forces_as == "copies"


def test_campaigns_from_before_embeddings_keep_their_identity():
    """Digests as they were in stored campaigns and models."""
    assert AS_BEFORE.digest() == "e6ae08e572dfbef4e703cf4e4c57e92efd706faa3c71c64a0e1bd7ca6fcebe76"
    assert (
        DeltaSettings(preset="paper").digest()
        == "d0bb8f4b493dbaf2402879342a81a24e40e50459c243ff4b26197157720e70a0"
    )


def test_an_embedding_has_an_identity_of_its_own():
    settings = [
        DeltaSettings(),
        *(DeltaSettings(descriptor="embedding", aggregation=a) for a in ("global", "species", "atomic")),
        DeltaSettings(descriptor="embedding", pooling="sum"),
    ]
    assert len({one.digest() for one in settings}) == len(settings)
    for one in settings:
        assert DeltaSettings.model_validate(one.model_dump(mode="json")) == one


def test_vectors_of_structures_learn_energies_only_unless_asked():
    for aggregation in ("global", "species"):
        vectors = {"descriptor": "embedding", "aggregation": aggregation}
        assert DeltaSettings(**vectors).force_directions == 0
        assert DeltaSettings(**vectors, force_directions=2).force_directions == 2
    assert DeltaSettings().force_directions == 100


def test_stored_settings_mean_what_they_meant():
    """Before derivatives were learned, nothing was stored of how forces are."""
    stored = AS_BEFORE.model_dump(mode="json")
    assert "forces_as" not in stored
    assert DeltaSettings.model_validate(stored) == AS_BEFORE
    assert DeltaSettings(force_directions=1).forces_as == "gradients"
    now = DeltaSettings().model_dump(mode="json")
    assert now["forces_as"] == "gradients"
    assert DeltaSettings.model_validate(now) == DeltaSettings()


def test_defaults_of_the_time_hold_where_nothing_is_said():
    assert DeltaSettings().with_defaults_of(AS_BEFORE) == AS_BEFORE
    assert DeltaSettings().with_defaults_of(AS_BEFORE).digest() == AS_BEFORE.digest()
    said = DeltaSettings(forces_as="gradients", force_directions=5)
    assert said.with_defaults_of(AS_BEFORE) == said
    now = DeltaSettings()
    assert now.with_defaults_of(DeltaSettings()) == now
    assert now.with_defaults_of(DeltaSettings(descriptor="embedding")) == now
    old = DeltaSettings(descriptor="embedding", forces_as="copies", force_directions=1)
    assert DeltaSettings(descriptor="embedding").with_defaults_of(old) == old
    paper = DeltaSettings(preset="paper")
    assert paper.with_defaults_of(AS_BEFORE) == paper


def test_without_a_delta_model_nothing_can_be_learnt():
    assert DeltaSettings.model_validate({"preset": "none"}).preset == "none"
    with pytest.raises(ValidationError, match="learns nothing"):
        DeltaSettings.model_validate({"preset": "none", "pretrain_from": ["other"]})
