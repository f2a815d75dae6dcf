"""`godelta report`: one file that holds everything, and asks for nothing."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from ruamel.yaml import YAML

from godelta.campaign import CampaignConfig
from godelta.store import campaigns
from godelta.systems.packing import unpack_problem

SECTIONS = ["summary", "structures", "energies", "model", "moves", "cost", "provenance"]


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text outside of scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text, self._within = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._within.append(tag)

    def handle_endtag(self, tag):
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data):
        if not self._within:
            self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def ask(workspace, inside):
    return lambda *arguments: inside(*arguments, "--workspace", workspace.folder)


@pytest.fixture
def page(ask, tmp_path):
    """The page about a campaign: its elements."""

    def write(name):
        path = tmp_path / f"{name}.html"
        answer = ask("report", name, "-o", path)
        assert (answer.code, str(path) in answer.out) == (0, True), answer.err
        return Elements(path.read_text(encoding="utf-8"))

    return write


def saved(elements):
    """The files that a page holds, by name."""
    return {
        link["download"]: base64.b64decode(link["href"].partition("base64,")[2])
        for link in elements.of("a")
        if "download" in link
    }


def sections(elements):
    return [attributes["id"] for attributes in elements.of("section")]


def test_a_finished_campaign(finished, page, ask):
    found = page("done")
    assert sections(found) == SECTIONS
    rows = ask("best", "done", "--format", "json").json()
    for row in rows:
        assert f"{row['energy']:.4f}" in found.text
        assert row["structure_id"][:8] in found.text
    assert len(found.of("option")) == len(rows) + 3  # and repetitions of the cell
    assert "finished" in found.text


def test_nothing_is_loaded(finished, page):
    found = page("done")
    (policy,) = [meta["content"] for meta in found.of("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    for tag, attributes in found.found:
        for name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    for style in re.findall(r"url\((.*?)\)", " ".join(str(one) for _, one in found.found)):
        assert style.startswith("#")


def test_the_campaign_file_in_it_makes_the_same_campaign(finish, opened, page):
    finish(tags=["first", "second"])
    document = campaigns.get_campaign(opened, "done")
    found = page("done")
    values = YAML(typ="safe").load(saved(found)["done.yaml"])
    assert b"+" not in saved(found)["constraints.txt"]
    again = CampaignConfig.model_validate(values)
    assert again == CampaignConfig.model_validate(document.config)
    for told in (document.reference_hash, document.identity_hash, "godelta run", "numpy"):
        assert told in found.text


def test_words_of_the_database_are_text(finished, opened, page):
    evil = "</script><script>alert(1)</script>"
    opened.campaigns.update_one({"name": "done"}, {"$set": {"state": "failed", "reason": evil}})
    one = opened.evaluations.find_one({"state": "ok"}, sort=[("energy", -1)])
    opened.evaluations.update_one(
        {"_id": one["_id"]}, {"$set": {"state": "failed", "reason": evil, "message": evil, "energy": None}}
    )
    found = page("done")
    assert found.text.count(evil) == 3  # the campaign's reason; the evaluation's reason and message
    assert "failures" in sections(found)
    assert len(found.of("script")) == 3  # structures, the viewer, and what drives it


@pytest.mark.parametrize(
    ("changes", "left_out", "more"),
    [
        ({"delta": {"preset": "none"}}, [], []),
        ({"rex": True}, [], ["search"]),
        ({"system": {"kind": "surface", "element": "Cu", "size": [2, 2, 2], "formula": "Ag"}}, [], []),
    ],
)
def test_kinds_of_campaigns(finish, page, changes, left_out, more):
    if changes.get("system", {}).get("kind") == "surface":
        changes = changes | {"foundation": {"calculator": "ase.calculators.emt.EMT"}}
    finish(**changes)
    found = page("done")
    expected = set(SECTIONS) - set(left_out) | set(more)
    assert set(sections(found)) == expected
    if "rex" in changes:
        assert "exchanges with the next" in found.text
        assert "exchanges done" in found.text
    if "delta" in changes:
        assert "no Δ-model" in found.text


def test_nothing_yet(workspace, cheap_config, opened, page):
    from pathlib import Path

    from godelta.workflows.submit import register

    register(opened, cheap_config(name="new"), Path())
    found = page("new")
    assert sections(found) == ["summary", "model", "provenance"]
    assert "No evaluation has given an energy yet" in found.text
    assert not found.of("script")


def test_a_template_comes_with_it(finish, opened, page, tmp_path):
    from ase.build import fcc111

    from godelta.systems.builders import build_problem

    path = tmp_path / "a slab.xyz"
    slab = fcc111("Cu", (2, 2, 2), vacuum=8.0)
    slab.info.clear()
    slab.write(path)
    system = {"kind": "template", "file": str(path), "formula": "Ag", "fixed": {"below": 9.0}}
    finish(system=system, foundation={"calculator": "ase.calculators.emt.EMT"})
    files = saved(page("done"))
    values = YAML(typ="safe").load(files["done.yaml"])
    assert values["system"]["file"] == "done-template.extxyz"
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "done-template.extxyz").write_bytes(files["done-template.extxyz"])
    again = build_problem(CampaignConfig.model_validate(values).system, tmp_path / "again")
    before = unpack_problem(
        campaigns.load_problem(opened, campaigns.get_campaign(opened, "done").campaign_id)
    )
    assert np.allclose(again.template.positions, before.template.positions, atol=1e-6)
    assert (again.fixed == before.fixed).all()
    assert (again.template.pbc == before.template.pbc).all()


@pytest.mark.slow
def test_where_it_is_written(finish, ask, workspace, tmp_path):
    finish()
    finish(name="other", seed=4)
    assert ask("report", "done").code == 0
    assert (workspace.folder / "results" / "done" / "report.html").is_file()
    assert ask("report", "done", "other", "-o", tmp_path / "both", "-n", 1).code == 0
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"done.html", "other.html"}
    answer = ask("report", "done", "-o", "/proc/none/report.html")
    assert (answer.code, "cannot be written" in answer.err) == (2, True)
    assert ask("report", "nobody").code == 2
