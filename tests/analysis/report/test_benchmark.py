"""The page of a benchmark, from runs made by hand."""

import re
from datetime import UTC, datetime

import numpy as np
from ase import Atoms

from godelta.analysis.comparison import Trace, compare, runs_by_measure
from godelta.analysis.report.benchmark import BenchmarkData, RunRow, benchmark_page
from godelta.analysis.report.page import render


def _data(price_s, best):
    traces = {
        name: [Trace(np.array([1.0, 0.0]) + shift, np.array([1.0, 2.0]), 2.0) for shift in shifts]
        for name, shifts in (("good", (0.0, 0.0, 0.0)), ("bad", (0.5, 0.0, 0.5)))
    }
    curves = {name: runs_by_measure(own, 0.0, within=0.05, price_s=price_s) for name, own in traces.items()}
    runs = [
        RunRow("b.good.s1", "good", 1, "finished", 2, 0.0, 2),
        RunRow("b.bad.s1", "bad", 1, "running", 2, 0.5, None),
    ]
    return BenchmarkData(
        "b", 0.0, False, 0.05, price_s, compare(curves), curves, runs, best, ("name: b\n", "b.yaml"),
        {"godelta": "1"}, datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_costs_and_runs():
    html = render(benchmark_page(_data(10.0, (Atoms("Ag2", [[0, 0, 0], [0, 0, 2.5]]), -1.25, "b.good.s1"))))
    assert html.count("<svg") == 3
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    good, bad = (next(row for row in cells if row and row[0] == name) for name in ("good", "bad"))
    assert (good[1], bad[1]) == ("3/3", "1/3")
    assert good[3] == "2 [2, 2]"
    assert bad[3].startswith("- [")
    assert good[-2] == "best"
    assert ["b.bad.s1", "bad", "1", "running", "2", "0.5000", "-"] in cells
    assert "-1.2500 eV" in html
    assert "name: b" in html


def test_no_price_and_a_lost_structure():
    html = render(benchmark_page(_data(0.0, None)))
    assert html.count("<svg") == 2
    assert "Accounted" not in html
    assert "<script" not in html
