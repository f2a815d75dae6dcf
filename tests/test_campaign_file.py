"""Campaign files: what is accepted, and what is said about what is not."""

from pathlib import Path

import pytest

from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaign, read_campaigns
from godelta.errors import InputError

GOOD = """\
name: ag8s4
system:     {kind: cluster, formula: Ag8S4, box: 20.0, confinement: 12.0}
foundation: {name: chgnet}
delta:      {descriptor: soap, inducing_points: 500}
search:     {method: rex, walkers: 6}
reference:  {engine: xtb}
budget:     {chains: 2, rounds: 40, evaluations: 200}
seed: 1
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(text)
    return path


def message(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_campaign(write(folder, text))
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_reads_every_key(tmp_path):
    config = read_campaign(write(tmp_path, GOOD))
    assert config.system.formula == "Ag8S4"
    assert config.delta.inducing_points == 500
    assert config.search.walkers == 6
    assert config.budget.evaluations == 200


def test_only_name_and_system_are_needed(tmp_path):
    config = read_campaign(write(tmp_path, "name: a\nsystem: {kind: cluster, formula: Ag4S2}\n"))
    assert config.foundation.name == "chgnet"
    assert config.reference.engine == "xtb"


def test_json_round_trip(tmp_path):
    config = read_campaign(write(tmp_path, GOOD))
    assert CampaignConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("walkers: 6", "wlakers: 6", ["line 5", "`search.wlakers`", "did you mean `walkers`"]),
        ("budget: ", "budgte: ", ["line 7", "unknown key `budgte`", "did you mean `budget`"]),
        ("evaluations: 200", "evaluations: -3", ["line 7", "`budget.evaluations`", "greater", "-3"]),
        ("method: rex", "method: rexx", ["line 5", "`search.method`", "'rexx'", "did you mean `rex`"]),
        ("engine: xtb", "engine: xbt", ["line 6", "`reference.engine`", "did you mean `xtb`"]),
        ("method: rex", "metod: rex", ["line 5", "lacks the key `method`; did you mean it by `metod`?"]),
        ("{engine: xtb}", "xtb", ["line 6", "`reference` wants keys and values, not 'xtb'"]),
        ("{method: rex, walkers: 6}", "rex", ["line 5", "`search` wants keys and values"]),
        ("{chains: 2, rounds: 40, evaluations: 200}", "many", ["line 7", "`budget` wants keys and values"]),
        ("{engine: xtb}", "{}", ["line 6", "`reference` lacks the key `engine`"]),
        ("name: ag8s4\n", "", ["`name` is missing"]),
        ("name: ag8s4", "name: a/b", ["line 1", "`name`"]),
        ("formula: Ag8S4", "formula: Ag8Xx4", ["line 2", "formula", "Xx"]),
        ("formula: Ag8S4", "formula: ''", ["line 2", "formula"]),
        ("seed: 1", "seed: one", ["line 8", "`seed`", "integer"]),
        ("confinement: 12.0", "confinement: 19.0", ["line 2", "Å"]),
        ("walkers: 6", "walkers: 6, kT_min: .nan", ["line 5", "`search.kT_min`", "finite"]),
    ],
)  # fmt: skip
def test_bad_values_are_named_with_their_line(tmp_path, old, new, expected):
    assert old in GOOD
    text = message(tmp_path, GOOD.replace(old, new))
    assert str(tmp_path / "campaign.yaml") in text
    for part in expected:
        assert part in text


def test_every_problem_is_named(tmp_path):
    text = message(tmp_path, GOOD.replace("walkers: 6", "walkers: 1").replace("seed: 1", "sed: 1"))
    assert "`search.walkers`" in text
    assert "did you mean `seed`" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "keys and values"),
        ("- a\n- b\n", "keys and values"),
        ("name: [a\n", "not valid YAML"),
        ("name: a\nname: b\n", "not valid YAML"),
        ("\tname: a\n", "not valid YAML"),
    ],
)
def test_what_is_no_campaign_file(tmp_path, text, expected):
    assert expected in message(tmp_path, text)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_campaign(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(InputError):
        read_campaign(tmp_path / "binary.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_campaign(tmp_path)


def test_xtb_refuses_surfaces(tmp_path):
    text = message(
        tmp_path,
        "name: a\nsystem: {kind: surface, element: Ag, formula: S}\nreference: {engine: xtb}\n",
    )
    assert "clusters only" in text


def test_an_embedding_needs_a_foundation_with_features(tmp_path):
    embedding = GOOD.replace("descriptor: soap", "descriptor: embedding")
    assert read_campaign(write(tmp_path, embedding)).delta.aggregation == "atomic"
    text = message(
        tmp_path,
        embedding.replace("{name: chgnet}", "{name: ase, calculator: ase.calculators.emt.EMT}"),
    )
    assert "needs a foundation that has features" in text
    assert "take another foundation, or `delta.descriptor: soap`" in text


def test_limits_and_budget_are_no_part_of_the_identity(tmp_path):
    config = read_campaign(write(tmp_path, GOOD))
    longer = read_campaign(
        write(
            tmp_path,
            GOOD.replace("rounds: 40", "rounds: 80").replace("xtb}", "xtb, limits: {wall_seconds: 5}}"),
        )
    )
    other = read_campaign(write(tmp_path, GOOD.replace("seed: 1", "seed: 2")))
    assert config.identity_hash() == longer.identity_hash() != other.identity_hash()


def test_chains_that_do_not_share_need_a_budget_each(tmp_path):
    text = message(tmp_path, GOOD.replace("evaluations: 200", "evaluations: 1") + "share: false\n")
    assert "every chain" in text


def test_tags_are_words_and_no_part_of_the_identity(tmp_path):
    plain = read_campaign(write(tmp_path, GOOD))
    tagged = read_campaign(write(tmp_path, GOOD + "tags: [silver, paper-2]\n"))
    assert tagged.tags == ("silver", "paper-2")
    assert tagged.identity_hash() == plain.identity_hash()
    assert "`tags" in message(tmp_path, GOOD + "tags: ['two words']\n")
    assert "`tags" in message(tmp_path, GOOD + "tags: silver\n")


@pytest.mark.parametrize(
    ("search", "refused"),
    [
        ("{method: bh}", "basin hopping goes on from the evaluations of the round before"),
        ("{method: bh, relax_in: reference}", "basin hopping"),
        ("{method: rss, relax_in: reference}", "`relax_in: reference` goes on from"),
        ("{method: rss}", None),
        ("{method: gofee}", None),
        ("{method: rex, walkers: 6}", None),
    ],
)
def test_a_search_that_needs_the_last_evaluations_has_to_wait_for_them(tmp_path, search, refused):
    waiting = GOOD.replace("{method: rex, walkers: 6}", search)
    hasty = waiting + "resources:\n  workers: 4\n  wait: false\n"
    if refused is None:
        assert not read_campaign(write(tmp_path, hasty)).resources.wait
        return
    text = message(tmp_path, hasty)
    assert "line 11: `resources.wait`" in text
    assert refused in text
    assert "leave `wait` at true" in text
    # One that was stored before this was refused is read, and goes on as soon as its file says otherwise.
    stored = read_campaign(write(tmp_path, waiting)).model_dump(mode="json")
    stored["resources"]["wait"] = False
    assert not CampaignConfig.model_validate(stored).resources.wait


STUDY = GOOD.replace("formula: Ag8S4", "formula: [Ag4S2, Ag8S4]")


def test_a_study_is_a_campaign_for_each_formula(tmp_path):
    path = write(tmp_path, STUDY + "tags: [silver]\n")
    first, second = read_campaigns(path)
    assert (first.name, second.name) == ("ag8s4.Ag4S2", "ag8s4.Ag8S4")
    assert (first.system.formula, second.system.formula) == ("Ag4S2", "Ag8S4")
    assert first.tags == second.tags == ("silver", "ag8s4")
    alone = read_campaign(write(tmp_path, GOOD))
    assert second.identity() == alone.identity()
    assert read_campaigns(write(tmp_path, GOOD)) == [alone]


def test_a_study_where_one_campaign_is_meant(tmp_path):
    text = message(tmp_path, STUDY)
    assert "study of 2 formulas" in text
    assert "ag8s4.Ag4S2" in text


@pytest.mark.parametrize(
    ("formulas", "expected"),
    [
        ("[]", ["line 2", "a list of 1 to 100 different ones"]),
        ("[Ag4S2, Ag4S2]", ["line 2", "different"]),
        ("[Ag4S2, 3]", ["line 2", "one formula, or a list"]),
        ("[Ag4S2, Ag4Xx2]", ["line 2", "formula", "Xx"]),
        ("[Ag4S2, {}]", ["line 2", "formula"]),
    ],
)
def test_a_study_with_a_wrong_list(tmp_path, formulas, expected):
    with pytest.raises(InputError) as caught:
        read_campaigns(write(tmp_path, GOOD.replace("Ag8S4", formulas)))
    for part in expected:
        assert part in str(caught.value)


def test_other_mistakes_of_a_study_are_named_with_their_line(tmp_path):
    with pytest.raises(InputError, match=r"line 5: unknown key `search.wlakers`"):
        read_campaigns(write(tmp_path, STUDY.replace("walkers: 6", "wlakers: 6")))
    both = STUDY.replace("walkers: 6", "wlakers: 6").replace("Ag8S4]", "Ag8Xx4]")
    with pytest.raises(InputError) as caught:
        read_campaigns(write(tmp_path, both))
    assert str(caught.value).count("search.wlakers") == 1
    assert "Xx" in str(caught.value)
    with pytest.raises(InputError, match="`name` is missing"):
        read_campaigns(write(tmp_path, STUDY.replace("name: ag8s4\n", "")))
