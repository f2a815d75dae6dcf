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
    from godelta.campaign_file import read_campaign

    files = sorted((ROOT / "examples").glob("*.yaml"))
    assert len(files) >= 4
    assert len({read_campaign(path).name for path in files}) == len(files)


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
