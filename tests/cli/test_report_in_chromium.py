"""Reports as people see them: nothing is said on the console, nothing sticks out, structures turn."""

from pathlib import Path
from threading import Thread

import pytest
from ase import Atoms
from ase.build import fcc111
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import Select, WebDriverWait

from godelta.analysis.report.page import render
from godelta.analysis.report.parts import Page, Section, Shown, Viewer
from godelta.cli.serve import HOST, Site, make_server


@pytest.fixture
def look(chromium):
    """Open an address in a window of a width."""

    def open_at(address, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.get_log("browser")
        chromium.get(address)
        return chromium

    yield open_at
    chromium.get("about:blank")  # a page that looks again and again would go on beside other tests


@pytest.fixture
def address(tmp_path):
    """Address of a page with these structures and nothing else."""

    def write(*structures):
        shown = [Shown(f"{i}", atoms, [("number", f"no. {i}")]) for i, atoms in enumerate(structures)]
        page = Page("some", "", [Section("structures", "Structures", [Viewer(shown, "some.extxyz")])], "")
        path = tmp_path / "page.html"
        path.write_text(render(page), encoding="utf-8")
        return path.as_uri()

    return write


def complaints(driver):
    """What a browser says on its console, but for how fast it draws."""
    return [entry for entry in driver.get_log("browser") if "GPU stall" not in entry["message"]]


def sticks_out(driver):
    return driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth")


def view(driver):
    """How the structure is turned."""
    return driver.execute_script("return window.godeltaViewers[0].getView()")[4:]


def picture(driver):
    return driver.execute_script("return window.godeltaViewers[0].pngURI()")


def test_a_campaign(finish, inside, workspace, tmp_path, look):
    path = tmp_path / "report.html"
    answer = inside("report", finish(rex=True), "-o", path, "--workspace", workspace.folder)
    assert answer.code == 0, answer.err
    for width in (1280, 400):
        driver = look(path.as_uri(), width)
        stage = driver.find_element(By.CSS_SELECTOR, ".stage")
        before, seen = view(driver), picture(driver)
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
        ActionChains(driver).drag_and_drop_by_offset(stage, 60, 35).perform()
        turned = view(driver)
        assert turned != before
        assert picture(driver) != seen
        stage.send_keys(Keys.ARROW_LEFT)
        assert view(driver) != turned
        for table in driver.find_elements(By.CSS_SELECTOR, ".scroll"):
            assert table.get_attribute("tabindex") == "0"
        for plot in driver.find_elements(By.CSS_SELECTOR, "figure svg"):
            assert plot.get_attribute("aria-label")
        for folded in driver.find_elements(By.TAG_NAME, "summary"):
            folded.click()
        assert not sticks_out(driver)
        assert complaints(driver) == []


def test_structures_are_chosen(address, look):
    driver = look(
        address(Atoms("Ag2", [[0, 0, 0], [0, 0, 2.6]]), Atoms("AgS", [[0, 0, 0], [0, 0, 2.3]])), 400
    )
    which = Select(driver.find_element(By.CSS_SELECTOR, ".which"))
    about = driver.find_element(By.CSS_SELECTOR, ".about")
    seen = picture(driver)
    assert "no. 0" in about.text
    which.select_by_index(1)
    assert "no. 1" in about.text
    assert picture(driver) != seen
    driver.find_element(By.CSS_SELECTOR, ".before").click()
    assert "no. 0" in about.text
    assert picture(driver) == seen
    assert not driver.find_element(By.CSS_SELECTOR, ".periodic").is_displayed()
    assert complaints(driver) == []


def test_a_slab_and_its_repetitions(address, look):
    slab = Atoms(fcc111("Cu", (2, 2, 2), vacuum=8.0)) + Atoms("O", [[0, 0, 11.3]])
    slab.info.clear()
    driver = look(address(slab), 1280)
    count = "return window.godeltaViewers[0].getModel().selectedAtoms({}).length"
    assert driver.execute_script(count) == 9
    Select(driver.find_element(By.CSS_SELECTOR, ".repeat")).select_by_value("2")
    assert driver.execute_script(count) == 36
    assert complaints(driver) == []


def test_a_browser_that_draws_no_structures(address, look, chromium):
    source = "HTMLCanvasElement.prototype.getContext = () => null; window.OffscreenCanvas = undefined"
    added = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    try:
        driver = look(address(Atoms("Ag")), 1280)
        assert "WebGL" in driver.find_element(By.CSS_SELECTOR, ".trouble").text
        assert "no. 0" in driver.find_element(By.CSS_SELECTOR, ".about").text
    finally:
        chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_requests_are_refused(address, look):
    driver = look(address(Atoms("Ag")), 1280)
    said = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "fetch('data:text/plain,hello').then(() => done('loaded'), () => done('refused'))"
    )
    assert said == "refused"
    assert any("Content Security Policy" in entry["message"] for entry in driver.get_log("browser"))


def test_live_status(workspace, opened, cheap_config, look):
    from godelta.workflows.submit import register

    site = Site(workspace.folder, opened)
    server = make_server(site, 0)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        driver = look(f"http://{HOST}:{server.server_port}/{site.key}/", 400)
        assert "No campaign yet" in driver.find_element(By.ID, "live").text
        register(opened, cheap_config(name="new"), Path())
        row = (By.LINK_TEXT, "new")
        WebDriverWait(driver, 20).until(expected_conditions.presence_of_element_located(row))
        assert not sticks_out(driver)
        driver.find_element(*row).click()
        assert driver.find_element(By.TAG_NAME, "h1").text.startswith("new")
        driver.find_element(By.PARTIAL_LINK_TEXT, "all campaigns").click()
        WebDriverWait(driver, 20).until(expected_conditions.presence_of_element_located(row))
        assert complaints(driver) == []
    finally:
        look("about:blank", 400)
        server.shutdown()
        server.server_close()
