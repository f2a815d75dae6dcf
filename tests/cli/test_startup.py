"""The command line starts without the heavy packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "pymatgen", "jobflow", "fireworks", "ase", "numpy", "scipy", "pymongo", "numba"}
PROBE = """
import sys
sys.argv = ["godelta", *{arguments!r}]
from godelta.cli.main import main
try:
    main()
except SystemExit:
    pass
print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def loaded(*arguments):
    code = PROBE.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize(
    "arguments", [("--help",), ("run", "--help"), ("db", "--help"), ("--version",), ("query", "-h")]
)
def test_help_loads_nothing_heavy(arguments):
    modules = loaded(*arguments)
    assert "typer" in modules
    assert not modules & HEAVY


def test_tab_completion():
    script = Path(sys.executable).with_name("godelta")

    def complete(words):
        env = {"_GODELTA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "1"}
        done = subprocess.run([script], capture_output=True, text=True, env=os.environ | env, check=False)
        assert done.stderr == ""
        return done.stdout.split()

    assert complete("godelta b") == ["benchmark", "best"]
    every = {"init", "check", "run", "status", "best", "query", "logs", "db", "worker", "schema"}
    assert every <= set(complete("godelta "))


def test_version_and_unknown_commands(godelta):
    from godelta import __version__

    assert godelta("--version").out.strip() == f"godelta {__version__}"
    for arguments in (("rnu", "a.yaml"), ("best",), ("best", "a", "-n", "0"), ("query", "--limit", "x")):
        answer = godelta(*arguments)
        assert answer.code == 2
        assert "Traceback" not in answer.err
        assert "rror" in answer.err
