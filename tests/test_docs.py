"""The reference pages are what the code says."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("page", "maker"), [("cli.md", "cli_page"), ("campaign-file.md", "campaign_page")])
def test_reference_pages_are_up_to_date(generate, page, maker):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == getattr(generate, maker)(), "run: python docs/generate.py"


def test_every_shipped_campaign_is_valid():
    from godelta.campaign_file import read_campaign

    files = sorted((ROOT / "examples").glob("*.yaml"))
    assert len(files) >= 4
    assert len({read_campaign(path).name for path in files}) == len(files)


def test_links_between_pages_lead_somewhere():
    import re

    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"
