"""Benchmark files: which campaigns they stand for, and what is said about what is wrong."""

import copy
import json

import pytest

from godelta.benchmark_file import is_benchmark, read_benchmark
from godelta.errors import InputError

BENCH = {
    "name": "methods",
    "campaign": {
        "system": {"kind": "cluster", "formula": "Cu5", "box": 14.0, "confinement": 6.0},
        "foundation": {"name": "ase", "calculator": "ase.calculators.emt.EMT"},
        "search": {"method": "rex", "walkers": 4, "selection": {"evaluations_per_round": 2}},
        "reference": {"engine": "emt"},
        "budget": {"rounds": 2, "evaluations": 10},
        "tags": ["mine"],
    },
    "vary": {
        "search": {"rss": {"method": "rss"}, "rex": {"walkers": 6}},
        "delta": {"default": {}, "paper": {"preset": "paper"}},
    },
    "seeds": 2,
}


@pytest.fixture
def read(tmp_path):
    def read(change=lambda values: None):
        values = copy.deepcopy(BENCH)
        change(values)
        path = tmp_path / "bench.yaml"
        path.write_text(json.dumps(values, indent=1))
        return read_benchmark(path)

    return read


def test_every_cell_and_seed_is_a_campaign(read):
    benchmark = read()
    assert benchmark.cells == ("rss.default", "rss.paper", "rex.default", "rex.paper")
    names = [one.config.name for one in benchmark.campaigns]
    assert names[:5] == [
        "methods.rss.default.s1", "methods.rss.paper.s1", "methods.rex.default.s1", "methods.rex.paper.s1",
        "methods.rss.default.s2",
    ]  # fmt: skip
    assert len(set(names)) == 8
    by_name = {one.config.name: one.config for one in benchmark.campaigns}
    rex = by_name["methods.rex.paper.s2"]
    assert (rex.search.walkers, rex.search.selection.evaluations_per_round) == (6, 2)
    assert rex.seed == 2
    assert rex.tags == ("mine", "benchmark-methods")
    assert rex.delta.soap == by_name["methods.rss.paper.s1"].delta.soap
    assert rex.delta.soap != by_name["methods.rex.default.s2"].delta.soap
    assert by_name["methods.rss.default.s1"].search.method == "rss"  # and so without the walkers of rex


NESTED = {
    "method": "rex",
    "relax": {"steps": 30, "fmax": 0.1},
    "selection": {"evaluations_per_round": 2},
}


@pytest.fixture
def search_of(read):
    """Of a benchmark whose common search is `NESTED`, the search of its one cell."""

    def search_of(settings):
        def change(values):
            values["campaign"]["search"] = copy.deepcopy(NESTED)
            values["vary"] = {"search": {"one": settings}}

        return read(change).campaigns[0].config.search

    return search_of


def test_a_choice_of_one_nested_key_leaves_its_siblings_as_they_are(search_of):
    eager = search_of({"selection": {"kappa": 1.0}})
    assert (eager.selection.kappa, eager.selection.evaluations_per_round) == (1.0, 2)
    assert (eager.relax.steps, eager.relax.fmax) == (30, 0.1)
    short = search_of({"relax": {"steps": 5}})
    assert (short.relax.steps, short.relax.fmax) == (5, 0.1)
    assert short.selection.evaluations_per_round == 2


def test_another_method_takes_nothing_of_the_common_nested_blocks(search_of):
    other = search_of({"method": "rss", "selection": {"kappa": 1.0}})
    assert other == search_of({"method": "rss"}).model_copy(update={"selection": other.selection})
    assert (other.relax.steps, other.selection.evaluations_per_round) == (100, 5)
    assert other.selection.kappa == 1.0
    named = search_of({"method": "rex", "selection": {"kappa": 1.0}})  # the same one said again
    assert named.selection.evaluations_per_round == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"arguments": {"sigma": 2.5}}, {"sigma": 2.5, "epsilon": 0.4}),
        ({"calculator": "ase.calculators.morse.MorsePotential", "arguments": {"r0": 2.0}}, {"r0": 2.0}),
        ({"arguments": {"sigma": 2.5, "method": "b"}}, {"sigma": 2.5, "epsilon": 0.4, "method": "b"}),
    ],
)
def test_arguments_belong_to_their_calculator(read, settings, expected):
    def change(values):
        values["campaign"]["foundation"] = {
            "name": "ase",
            "calculator": "ase.calculators.lj.LennardJones",
            "arguments": {"sigma": 2.4, "epsilon": 0.4},
        }
        values["vary"] = {"foundation": {"one": settings}}

    assert read(change).campaigns[0].config.foundation.arguments == expected


def test_a_nested_mapping_that_names_another_kind_replaces_the_common_one(read):
    def change(values):
        values["campaign"]["search"] = {
            "method": "own",
            "program": "a.B",
            "arguments": {"inner": {"method": "x", "depth": 1}, "outer": 2},
        }
        values["vary"] = {
            "search": {
                "y": {"arguments": {"inner": {"method": "y"}}},
                "x": {"arguments": {"inner": {"width": 3}}},
            }
        }

    found = {one.cell: one.config.search.arguments for one in read(change).campaigns}
    assert found == {
        "y": {"inner": {"method": "y"}, "outer": 2},
        "x": {"inner": {"method": "x", "depth": 1, "width": 3}, "outer": 2},
    }


def test_the_same_file_is_the_same_set_and_more_seeds_only_add(read):
    once, again = read(), read()
    more = read(lambda values: values.update(seeds=[1, 2, 7]))

    def known(benchmark):
        return {one.config.name: one.config.identity_hash() for one in benchmark.campaigns}

    assert known(once) == known(again)
    assert known(once).items() < known(more).items()
    assert {name.rsplit(".", 1)[1] for name in known(more).keys() - known(once).keys()} == {"s7"}
    longer = read(lambda values: values["campaign"]["budget"].update(evaluations=50))
    assert known(longer) == known(once)  # a budget is no part of what a campaign is


def with_basin_hopping_that_does_not_wait(values):
    values["campaign"]["resources"] = {"wait": False}
    values["vary"]["search"] = {"bh": {"method": "bh"}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["vary"].update(system={"a": {}}), ("unknown key `vary.system`", "search, found")),
        (lambda v: v.update(methods=1), ("unknown key `methods`",)),
        (lambda v: v.update(seeds=0), ("`seeds`", "given: 0")),
        (lambda v: v.update(seeds=[1, 1]), ("`seeds`", "different")),
        (lambda v: v.update(seeds=True), ("`seeds`",)),
        (lambda v: v.update(name="a b"), ("`name`",)),
        (lambda v: v.pop("vary"), ("`vary` is missing",)),
        (lambda v: v["vary"].update(search={}), ("`vary.search`",)),
        (lambda v: v["vary"]["search"].update({"a.b": {}}), ("vary.search.a.b",)),
        (lambda v: v["vary"]["search"].update(rss=None), ("vary.search.rss", "settings")),
        (lambda v: v["campaign"].update(seed=3), ("`campaign.seed` is set by the benchmark",)),
        (lambda v: v.update(campaign=[]), ("`campaign`",)),
        (lambda v: v["campaign"].pop("system"), ("`system` is missing",)),
        (
            lambda v: v["vary"]["search"].update(rss={"method": "rss", "walkerz": 1}),
            ("the cell rss.default", "`search.walkerz`"),
        ),
        (lambda v: v["vary"]["delta"]["paper"].update(preset="papr"), ("the cell rss.paper", "papr")),
        (with_basin_hopping_that_does_not_wait, ("the cell bh", "`resources.wait`", "leave `wait` at true")),
        (lambda v: v.update(price_s=-1), ("`price_s` must not be negative",)),
        (lambda v: v.update(target={"energy": "low"}), ("`target.energy` has to be a number",)),
        (lambda v: v.update(target={"e": 1}), ("unknown key `target.e`",)),
        (lambda v: v.update(stop_at_target="yes"), ("`stop_at_target` has to be true or false",)),
        (lambda v: v.update(seeds=1000, vary={"search": {f"s{i}": {} for i in range(11)}}), ("11 cells",)),
    ],
)  # fmt: skip
def test_mistakes_are_named(read, tmp_path, change, said):
    with pytest.raises(InputError) as caught:
        read(change)
    for part in (*said, str(tmp_path / "bench.yaml")):
        assert part in str(caught.value)
    assert caught.value.mend


def test_a_mistake_has_its_line(tmp_path):
    path = tmp_path / "bench.yaml"
    path.write_text("name: a\n\nseedz: 3\n")
    with pytest.raises(InputError, match=r"bench.yaml, line 3: unknown key `seedz`"):
        read_benchmark(path)
    path.write_text("- a\n")
    with pytest.raises(InputError, match="keys and values"):
        read_benchmark(path)
    with pytest.raises(InputError, match="no such file"):
        read_benchmark(tmp_path / "none.yaml")


def test_a_campaign_file_is_no_benchmark(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nsystem: {kind: cluster, formula: Cu5}\n")
    assert not is_benchmark(path)
    assert not is_benchmark(tmp_path / "none.yaml")
    path.write_text("name: a\nvary: {}\n")
    assert is_benchmark(path)
