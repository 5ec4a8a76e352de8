"""The window in a real browser: it opens, is driven with mouse and keys, and its pictures change.

Needs Chromium and its driver (Debian: chromium, chromium-driver), and selenium.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time

import cv2
import numpy as np
import pytest

from mirage_ros.viewer.source import SavedMemory

pytest.importorskip("viser", reason="viser is not installed: pip install 'mirage_ros[view]'")
selenium = pytest.importorskip("selenium", reason="selenium is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("no Chromium with chromedriver: apt-get install chromium chromium-driver", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

from mirage_ros.viewer.window import BrowserWindow  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# With weights: pictures of random networks hardly change with the view.
SHIPPED = {"preset": "default", "device": "cpu", "threads": 1}
# Drawing without a GPU on a busy machine takes as long as it takes.
TIMEOUT = 400.0
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync", "disable-extensions"),
    *("disable-background-networking", "disable-component-update", "disable-renderer-backgrounding"),
    *("use-gl=angle", "use-angle=swiftshader", "enable-unsafe-swiftshader", "window-size=800,600"),
)


@pytest.fixture(scope="module")
def window(seen_walls, tmp_path_factory):
    memory = seen_walls(tmp_path_factory.mktemp("window") / "memory.safetensors", SHIPPED)
    with (
        contextlib.closing(SavedMemory(memory, **SHIPPED)) as source,
        contextlib.closing(BrowserWindow(source, port=18080)) as window,
    ):
        yield window


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location, options.page_load_strategy = BROWSER, "none"
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    # Its software renderer stands still on a single core, to which this process may be bound.
    every = {"preexec_fn": lambda: os.sched_setaffinity(0, range(os.cpu_count() or 1))}
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER, popen_kw=every))
    driver.set_script_timeout(TIMEOUT)
    driver.command_executor.client_config.timeout = TIMEOUT
    yield driver
    driver.quit()


class Page:
    """What a user sees and does."""

    def __init__(self, driver, url):
        self._driver = driver
        driver.get(url)
        self.until(lambda: "imagine at rest" in self.text())

    def text(self):
        return self._driver.execute_script("return document.body ? document.body.innerText : ''")

    def until(self, condition):
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < end, self.text()
            time.sleep(0.5)

    def pictures(self):
        """Addresses of the panel's pictures, which change with what they show."""
        return self._driver.execute_script("return [...document.images].map(each => each.src)")

    def scene(self):
        """Pixels of the scene, without the panel on its right."""
        shot = cv2.imdecode(np.frombuffer(self._driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
        return shot[150:, : shot.shape[1] // 2]

    def click(self, label):
        script = """return [...document.querySelectorAll("button, [role=tab]")].find(
            each => each.innerText.trim() == arguments[0])"""

        def clicked():
            # Tabs can be dragged, too, and take nothing but a real press for a click. What is drawn anew is tried anew.
            with contextlib.suppress(StaleElementReferenceException, ElementClickInterceptedException):
                found = self._driver.execute_script(script, label)
                if found is not None:
                    found.click()
                    return True
            return False

        self.until(clicked)

    def tick(self, label):
        # The nearest text around a box is its label.
        script = """return [...document.querySelectorAll("input[type=checkbox]")].filter(box => {
            let around = box; while (!around.innerText.trim()) around = around.parentElement;
            return around.innerText.trim() == arguments[0]; })"""
        self.until(lambda: self._driver.execute_script(script, label))
        self._driver.execute_script("arguments[0].click()", self._driver.execute_script(script, label)[0])

    def press(self, key, seconds=0.5):
        ActionChains(self._driver).key_down(key).pause(seconds).key_up(key).perform()

    def drag(self, across):
        canvas = self._driver.find_element(By.TAG_NAME, "canvas")
        ActionChains(self._driver).move_to_element_with_offset(canvas, -150, 50).click_and_hold().move_by_offset(
            across, 0
        ).release().perform()

    def click_scene(self, x, y):
        """At shares of the canvas from its upper left."""
        canvas = self._driver.find_element(By.TAG_NAME, "canvas")
        size = canvas.size
        place = (round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"]))
        ActionChains(self._driver).move_to_element_with_offset(canvas, *place).click().perform()


@pytest.fixture(scope="module")
def page(browser, window):
    return Page(browser, window.url)


def place(window):
    return window._pose.clone()


def test_it_opens_with_the_view_of_the_last_camera_frame_imagined(page):
    page.until(lambda: "imagined: " in page.text())
    assert len(page.pictures()) >= 2
    # A picture of the minute preset is noise, not the empty background.
    page.until(lambda: page.scene().std() > 5)


def test_keys_and_mouse_drive_it_and_every_picture_follows(page, window):
    for act in (lambda: page.press("w"), lambda: page.drag(60)):
        before, pictures, scene = place(window), page.pictures(), page.scene()
        act()
        page.until(lambda before=before: not before.equal(place(window)))
        # The picture and those of what is invented and of depth; not the robot's.
        page.until(lambda pictures=pictures: len(set(page.pictures()) - set(pictures)) >= 2)
        page.until(lambda scene=scene: np.abs(page.scene().astype(float) - scene).mean() > 1)
        page.until(lambda: "imagined: " in page.text())


def test_a_path_is_drawn_imagined_and_looked_through(page, window):
    page.click("Path")
    page.tick("draw")
    page.until(lambda: window._controls.drawing)
    page.click_scene(0.4, 0.9)
    page.until(lambda: "1 waypoints" in page.text())
    page.click("Imagine path")
    page.until(lambda: "of them invented" in page.text())
    assert len(window._film) > 2
    shown = window._frame
    window.seek(0)
    assert window._frame is not shown


def test_candidates_are_compared(page):
    page.click("Keep as candidate")
    page.until(lambda: "candidate 1" in page.text())
    page.click("Compare")
    page.until(lambda: "1 candidates compared" in page.text() and "nearest" in page.text())
    page.click("Close")


def test_looking_on_shows_the_memory_from_outside(page):
    page.click("Drive")
    before = page.scene()
    page.tick("ride")
    page.until(lambda: np.abs(page.scene().astype(float) - before).mean() > 1)
