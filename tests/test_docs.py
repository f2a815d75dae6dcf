"""The reference pages are what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_reference_pages_are_up_to_date():
    # In a process of its own: the width of help pages is fixed when typer is imported.
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + "run: python docs/generate.py"


def test_every_shipped_campaign_is_valid():
    from godelta.campaign_file import read_campaigns

    files = [*(ROOT / "examples").glob("*.yaml"), *(ROOT / "examples" / "papers").glob("*.yaml")]
    assert len(files) >= 12
    names = [config.name for path in files for config in read_campaigns(path)]
    assert len(set(names)) == len(names)


def test_the_papers_systems_can_be_built():
    """Cells with the areas and atoms that the papers' notation means, and room for what is placed."""
    from godelta.campaign_file import read_campaigns
    from godelta.systems.builders import build_problem

    cells = {"s-on-ag111-sqrt7": 7, "s-on-ag100-sqrt17": 17, "s-on-ag100-p2x2": 4, "cu-oxide-8": 8}
    for path in (ROOT / "examples" / "papers").glob("*.yaml"):
        head = path.read_text(encoding="utf-8")
        assert all(word in head for word in ("# Source:   arXiv", "# Expected:", "# Cost:")), path
        for config in read_campaigns(path):
            problem = build_problem(config.system, path.parent)
            study = config.name.split(".")[0]
            assert problem.n_template == 3 * cells.get(study, 0 if "clusters" in study else 4)


def test_every_shipped_benchmark_is_valid():
    from godelta.benchmark_file import read_benchmark

    files = sorted((ROOT / "examples" / "benchmarks").glob("*.yaml"))
    assert files
    assert all(len(read_benchmark(path).campaigns) >= 40 for path in files)


def test_links_between_pages_lead_somewhere():
    import re

    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"
