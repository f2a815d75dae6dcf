"""`godelta serve`: pages for browsers on this machine, and nothing for anybody else."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from threading import Thread

import pytest

from godelta.cli.serve import HOST, Site, make_server


@pytest.fixture
def site(workspace, opened):
    return Site(workspace.folder, opened)


@pytest.fixture
def served(site):
    """Ask the server: status, headers and text of an answer."""
    server = make_server(site, 0)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()

    def ask(path, method="GET", host=None):
        connection = http.client.HTTPConnection(HOST, server.server_port, timeout=30)
        connection.request(method, path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    ask.port = server.server_port
    yield ask
    server.shutdown()
    server.server_close()
    thread.join()


def test_all_campaigns_and_their_reports(finish, served, site, opened):
    finish()
    opened.campaigns.update_one(
        {"name": "done"}, {"$set": {"state": "failed", "reason": "<script>no</script>"}}
    )
    status, _, index = served(f"/{site.key}/")
    assert status == 200
    assert '<a href="campaign/done">done</a>' in index
    assert "&lt;script&gt;no&lt;/script&gt;" in index
    assert "1 campaign: 1 failed" in index
    status, headers, page = served(f"/{site.key}/campaign/done")
    assert status == 200
    assert "<h1>done" in page
    assert 'href="../"' in page
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    (row,) = json.loads(served(f"/{site.key}/status.json")[2])
    assert (row["name"], row["ok"]) == ("done", 4)


def test_other_reports_are_listed(served, site, workspace):
    report = workspace.folder / "results" / "some bench" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<p>success</p>")
    assert "results/some%20bench" in served(f"/{site.key}/")[2]
    assert served(f"/{site.key}/results/some%20bench")[2] == "<p>success</p>"
    for path in ("results/none", "results/..", "results/..%2f..%2fgodelta.yaml", "campaign/nobody", "else"):
        assert served(f"/{site.key}/{path}")[0] == 404


def test_what_is_refused(served, site):
    assert served("/")[0] == 404
    assert served("/wrong/")[0] == 404
    for host in ("evil.example", f"evil.example:{served.port}", f"{HOST}.evil.example", ""):
        assert served(f"/{site.key}/", host=host)[0] == 421
    for host in (f"localhost:{served.port}", "127.0.0.1", "localhost:1"):  # a tunnel may have another port
        assert served(f"/{site.key}/", host=host)[0] == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        status, headers, _ = served(f"/{site.key}/", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    status, headers, text = served(f"/{site.key}/", "HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


def test_only_this_machine_is_answered(site):
    server = make_server(site, 0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_a_lost_database(served, site, monkeypatch):
    from pymongo.errors import ServerSelectionTimeoutError

    def lost(*_):
        raise ServerSelectionTimeoutError("gone")

    monkeypatch.setattr("godelta.cli.serve.all_now", lost)
    status, _, text = served(f"/{site.key}/")
    assert (status, "The database does not answer: gone" in text) == (503, True)


def test_a_taken_port(inside, workspace):
    with socket.create_server((HOST, 0)) as taken:
        answer = inside("serve", "--port", taken.getsockname()[1], "--workspace", workspace.folder)
    assert (answer.code, "is taken" in answer.err) == (2, True)


def test_until_ctrl_c(workspace):
    command = [sys.executable, "-u", "-m", "godelta.cli.main", "serve", "--port", "0", "-w", workspace.folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        port = int(re.search(rf"http://{HOST}:(\d+)/", line)[1])
        connection = http.client.HTTPConnection(HOST, port, timeout=30)  # one that stays open
        connection.request("GET", "/")
        assert connection.getresponse().status == 404
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=20)
        connection.close()
    assert (process.returncode, err) == (0, "")
    assert "Stopped" in out
    assert time.monotonic() - began < 10
