"""The documentation builds without a warning, and asks no other host for anything."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]*)\"")


def test_the_site(require, tmp_path):
    require("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))  # and one for what is not found
    for page in pages:
        assert LOADED.findall(page.read_text()) == [], page
    index = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())
    assert any("pseudopotentials" in entry["text"].lower() for entry in index["docs"])
