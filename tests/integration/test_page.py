"""The built-in page in a real browser, on a coordinator that really runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.integration.conftest import UNEVEN, WITHOUT_TORCH
from tests.integration.fleet import SMALL, Rules, Site, a_contract
from tests.integration.running import until
from tests.integration.speaker import Device
from tests.mosquitto import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
DESKTOP, PHONE = (1280, 900), (390, 844)
PAGES = ("/", "/devices", "/devices/shed-1", "/rounds", "/rounds/1", "/versions", "/nowhere")
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
# Every text that is shown, with the ratio of its color to the ground behind it.
CONTRASTS = """
const light = (c) => (c <= 10 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const found = parse(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const [node, text] = [walker.currentNode.parentElement, walker.currentNode.textContent.trim()];
  if (!text || node.closest("svg") || !node.checkVisibility()) continue;
  const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(ground(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < arguments[0]) low.push([text, ratio]);
}
return low;
"""
UNNAMED = """
const all = [...document.querySelectorAll("input:not([type=hidden]), progress")];
return all.filter((one) => !one.labels.length).map((one) => one.id);
"""


class Viewer:
    """A browser at one page of a site."""

    def __init__(self, driver: Chrome, port: int) -> None:
        self.driver = driver
        self.root = f"http://127.0.0.1:{port}"

    def open(self, path: str) -> None:
        """Load a page; `was_reloaded` tells from then on."""
        self.driver.get(self.root + path)
        self.driver.execute_script("window.untouched = true")

    def was_reloaded(self) -> bool:
        """Whether the page was loaded again since `open`."""
        return not self.driver.execute_script("return window.untouched === true")

    def text(self) -> str:
        """What a person reads."""
        shown = self.driver.execute_script("return document.body ? document.body.innerText : ''")
        return str(shown)  # between two pages there is nothing

    def wait_for(self, text: str) -> None:
        """Until the page says so."""
        until(lambda: text in self.text(), f"{text!r} on the page")

    def shape(self, size: tuple[int, int], scheme: str = "light") -> None:
        """Have the size and color scheme of a device."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**metrics, "mobile": width < 600}
        )
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def complaints(self) -> list[str]:
        """What the browser logged as an error since the last time."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "404" not in entry["message"]
        ]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BROWSER
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = Chrome(options=options, service=Service(DRIVER))
    yield made
    made.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("page")
    tables = f"{UNEVEN}\n[web]\nport = {free_port()}\n"
    rules = Rules(2, total=3, budget=tables, serve=WITHOUT_TORCH)
    made = Site(root / "site", a_contract(SMALL), root / "cache", rules)
    made.start()
    yield made
    made.close()


@pytest.fixture
def viewer(driver: Chrome, site: Site) -> Iterator[Viewer]:
    made = Viewer(driver, site.coordinator.told()[-1]["web_port"])
    made.shape(DESKTOP)
    made.complaints()
    yield made
    driver.get("about:blank")


@pytest.fixture(scope="module")
def devices(site: Site) -> Callable[[str], Device]:
    """Enrolled devices by name, each made once."""
    made: dict[str, Device] = {}

    def build(name: str) -> Device:
        if name not in made:
            made[name] = Device(site.enroll(name), SMALL)
            made[name].report()
        return made[name]

    return build


def test_a_run_shows_itself_without_being_asked_again(
    viewer: Viewer, devices: Callable[[str], Device]
) -> None:
    viewer.open("/")
    viewer.wait_for("Let the first device in")
    viewer.wait_for("Live")
    first = devices("shed-1")
    viewer.wait_for("1 of 1")
    second = devices("shed-2")
    viewer.wait_for("Round 1 of 3 is open")
    assert {link.text for link in viewer.driver.find_elements(By.CSS_SELECTOR, ".chips a")} == {
        *("shed-1", "shed-2"),
    }
    for device in (first, second):
        device.push(device.task())
    viewer.wait_for("Round 2 of 3 is open")
    assert viewer.driver.find_elements(By.CSS_SELECTOR, "svg.chart circle")
    assert not viewer.was_reloaded()
    assert viewer.complaints() == []


def test_a_device_appears_in_the_list_and_the_focus_stays(
    viewer: Viewer, devices: Callable[[str], Device]
) -> None:
    devices("shed-1")
    viewer.open("/devices")
    viewer.wait_for("shed-1")
    link = viewer.driver.find_element(By.LINK_TEXT, "shed-1")
    viewer.driver.execute_script("arguments[0].focus()", link)
    devices("shed-3")
    viewer.wait_for("shed-3")
    assert not viewer.was_reloaded()
    assert viewer.driver.switch_to.active_element.text == "shed-1"
    assert viewer.complaints() == []


def test_a_device_is_found_by_keyboard_alone(
    viewer: Viewer, devices: Callable[[str], Device]
) -> None:
    devices("shed-2")
    viewer.open("/devices")
    ActionChains(viewer.driver).send_keys(Keys.TAB).perform()
    assert viewer.driver.switch_to.active_element.text == "Skip to the content"
    field = viewer.driver.find_element(By.ID, "q")
    field.send_keys("shed-2", Keys.ENTER)
    viewer.wait_for("1 device, page 1 of 1")
    viewer.driver.find_element(By.LINK_TEXT, "shed-2").send_keys(Keys.ENTER)
    viewer.wait_for("Why")
    assert viewer.driver.find_element(By.TAG_NAME, "h1").text == "shed-2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_and_can_be_read(
    viewer: Viewer, devices: Callable[[str], Device], size: tuple[int, int], scheme: str
) -> None:
    devices("shed-1")
    devices("a-name-that-is-as-long-as-a-device-may-be-called-" + "x" * 12)
    viewer.shape(size, scheme)
    for path in PAGES:
        viewer.open(path)
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert viewer.driver.execute_script(wide) <= 0, path
        assert viewer.driver.execute_script(CONTRASTS, LEAST_CONTRAST) == [], path
        assert viewer.driver.execute_script(UNNAMED) == []
        assert len(viewer.driver.find_elements(By.TAG_NAME, "h1")) == 1
    assert viewer.complaints() == []


def test_a_page_says_when_the_coordinator_is_gone_and_lives_on_when_it_is_back(
    viewer: Viewer, site: Site, devices: Callable[[str], Device]
) -> None:
    devices("shed-1")
    viewer.open("/")
    viewer.wait_for("Live")
    site.coordinator.send(signal.SIGTERM)
    viewer.wait_for("No connection")
    assert site.coordinator.end() == 0
    site.start()
    viewer.wait_for("Live")
    assert not viewer.was_reloaded()
