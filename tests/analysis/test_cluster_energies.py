"""Stabilities of clusters, against numbers done by hand."""

import pytest

from godelta.analysis.cluster_energies import Cluster, element_energies, stabilities
from godelta.analysis.cluster_plot import cluster_energies


def test_formation_energies_and_the_hull():
    rows = stabilities(
        [
            Cluster("whole", {"Cu": 4}, -8.0),
            Cluster("half", {"Cu": 2, "Ag": 2}, -7.6),
            Cluster("quarter", {"Cu": 3, "Ag": 1}, -7.5),
        ],
        {"Cu": -2.0, "Ag": -1.0},
    )
    found = {row.cluster.name: (row.formation, row.above_hull) for row in rows}
    # by hand: half -1.6 / 4 on the hull; quarter -0.5 / 4, and the hull there is half of -0.4
    assert found["whole"] == pytest.approx((0.0, 0.0))
    assert found["half"] == pytest.approx((-0.4, 0.0))
    assert found["quarter"] == pytest.approx((-0.125, -0.125 + 0.2))
    assert all(row.units is None and row.second_difference is None for row in rows)


def test_second_differences_of_a_series():
    energies = {1: -3.0, 2: -7.0, 3: -9.5, 5: -16.0}
    series = [Cluster(f"x{n}", {"Ag": 2 * n, "S": n}, energy) for n, energy in energies.items()]
    rows = stabilities([*series, Cluster("worse", {"S": 2, "Ag": 4}, -6.0)], {"Ag": -0.5, "S": -1.0})
    by_name = {row.cluster.name: row for row in rows}
    assert [row.units for row in rows] == [1, 2, 2, 3, 5]
    assert by_name["x2"].second_difference == pytest.approx(-9.5 - 3.0 + 14.0)
    assert by_name["x3"].second_difference is None  # n = 4 is missing
    assert by_name["x1"].formation == pytest.approx((-3.0 + 2.0) / 3)
    # the hull is made per atom: that of x2 is the lowest, -7 / 6
    assert by_name["x5"].above_hull == pytest.approx(-16 / 15 + 7 / 6)
    assert by_name["worse"].above_hull == pytest.approx(1 / 6)


def test_elements_of_which_there_are_clusters():
    clusters = [
        Cluster("a", {"Cu": 2}, -3.0),
        Cluster("b", {"Cu": 4}, -8.0),
        Cluster("c", {"Ag": 1, "Cu": 1}, -1),
    ]
    assert element_energies(clusters) == {"Cu": -2.0}


def test_a_missing_element():
    with pytest.raises(KeyError):
        stabilities([Cluster("a", {"Cu": 2}, -3.0)], {})


@pytest.mark.parametrize(
    ("clusters", "panels"),
    [
        ([Cluster(f"x{n}", {"Ag": 2 * n, "S": n}, -3.0 * n**1.1) for n in (1, 2, 3)], 2),
        ([Cluster(f"x{n}", {"Ag": 2 * n, "S": n}, -3.0 * n) for n in (1, 3)], 1),
        ([Cluster("a", {"Ag": 1, "S": 3}, -9.0), Cluster("b", {"Ag": 3, "S": 1}, -6.0)], 1),
    ],
)
def test_pictures(clusters, panels, tmp_path):
    figure = cluster_energies(stabilities(clusters, {"Ag": -0.5, "S": -1.0}), title="silver")
    assert len(figure.axes) == panels
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
