"""The built site: whole, self-contained, and usable in a browser."""

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import keras_parewire
from keras_parewire import studies

pytest.importorskip("furo", reason="needs the extra `docs`")
bs4 = pytest.importorskip("bs4")  # The theme requires it.

# The gallery trains networks: once is enough.
pytestmark = [pytest.mark.slow, pytest.mark.backend("jax")]

ROOT = Path(__file__).parents[2]
# Where there are both, as on GitHub's machines, the driver is Chrome's.
CHROMIUM = shutil.which("google-chrome") or shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
# All of the gallery but the study, which takes longer than the rest together.
SHORT = ("-D", "sphinx_gallery_conf.filename_pattern=/plot_[1-9]")


@pytest.fixture(scope="module")
def sphinx(tmp_path_factory):
    """Builds the site in a form, and returns its folder."""
    folder = tmp_path_factory.mktemp("site")

    def build(form):
        result = subprocess.run(
            [
                *(sys.executable, "-m", "sphinx", "-W", "--keep-going"),
                *("-b", form, "-d", folder / "doctrees", *SHORT),
                *("docs", folder / form),
            ],
            cwd=ROOT,
            # The tests' eight devices are no help to small networks.
            env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return folder / form

    return build


@pytest.fixture(scope="module")
def site(sphinx):
    return sphinx("html")


@pytest.fixture(scope="module")
def pages(site):
    return {
        path: bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }


def test_examples_of_the_guides(site, sphinx):
    sphinx("doctest")


def test_every_public_name_has_a_page_with_an_example(site):
    names = {name: "keras_parewire" for name in keras_parewire.__all__}
    names |= {name: "keras_parewire.studies" for name in studies.__all__}
    _, overview = (site / "api" / "index.html").read_text().split("<article")
    for name, module in names.items():
        page = f"generated/{module}.{name}.html"
        assert f'href="{page}#{module}.{name}"' in overview, name
        text = (site / "api" / page).read_text()
        if name not in ("Comparison", "StrengthReport"):  # Not made by users.
            assert "&gt;&gt;&gt; " in text, name


def test_internal_links_lead_somewhere(pages):
    ids = {
        path: {tag["id"] for tag in page.find_all(id=True)}
        for path, page in pages.items()
    }
    for path, page in pages.items():
        for link in page.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
                assert target.exists(), (path.name, link)
            if parts.fragment and target in pages:
                fragment = unquote(parts.fragment)
                assert fragment in ids[target], (path.name, link)


@pytest.fixture(scope="module")
def address(site):
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=site)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    if not DRIVER:
        pytest.skip("needs Chromium and its driver")
    assert CHROMIUM, "There is a driver, but no browser."
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.add_argument("--headless")
    options.add_argument("--no-sandbox")
    options.add_argument("--disable-background-networking")
    folder = tmp_path_factory.mktemp("chromium")
    options.add_argument(f"--user-data-dir={folder}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def phone(browser):
    """The browser with a narrow screen, dark as the system says."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1}
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {**size, "mobile": True}
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [dark]})
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def step(browser):
    return int(
        browser.find_element("tag name", "body").get_dom_attribute("data-step")
    )


def test_the_figure(browser, address):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    browser.get(f"{address}/rewiring.html")
    assert not browser.find_element("id", "picture").is_displayed()
    assert step(browser) == 0
    keys = ActionChains(browser)
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    keys.perform()
    assert step(browser) == 3
    assert "output neuron 3" in browser.find_element("id", "title").text
    browser.find_element("id", "previous").click()
    assert step(browser) == 2

    browser.find_element("id", "play").click()
    WebDriverWait(browser, 120).until(lambda _: step(browser) == 14)
    assert not browser.find_element("id", "next").is_enabled()
    chart = browser.find_element("id", "chart").text
    Select(browser.find_element("id", "exponent")).select_by_value("inf")
    assert step(browser) == 14
    assert browser.find_element("id", "chart").text != chart


def test_the_figure_in_its_guide(browser, address):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{address}/guides/how-it-works.html")
    frame = browser.find_element("css selector", "iframe.interactive")
    browser.execute_script("arguments[0].scrollIntoView()", frame)
    inside = "return document.documentElement.{}"

    def fits(_):
        browser.switch_to.frame(frame)
        needed = browser.execute_script(inside.format("scrollHeight"))
        shown = browser.execute_script(inside.format("clientHeight"))
        used = browser.find_element("tag name", "main").size["height"]
        browser.switch_to.default_content()
        return needed == shown < used + 60

    WebDriverWait(browser, 60).until(fits)
    # The switch of the page around it changes the figure too.
    browser.execute_script("document.body.dataset.theme = 'dark'")
    browser.switch_to.frame(frame)
    WebDriverWait(browser, 60).until(
        lambda _: (
            browser.execute_script(inside.format("dataset.theme")) == "dark"
        )
    )
    browser.switch_to.default_content()


# Elements that are wider than the page and do not scroll by themselves. (The
# theme lets the whole content of a page scroll, which is what must not happen.)
OVERFLOWING = """
const is_fixed = element => getComputedStyle(element).position === "fixed";
const clips = element => !element.matches("body, .content") && (
    getComputedStyle(element).overflowX !== "visible"
    || is_fixed(element) || clips(element.parentElement));
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width && box.right > width + 1 && !is_fixed(element)
        && !clips(element.parentElement);
}).map(element => element.outerHTML.slice(0, 100));
"""
BRIGHT_PICTURES = """
return [...document.querySelectorAll(".content img")].filter(
    image => !getComputedStyle(image).filter.includes("invert")
).map(image => image.src);
"""


def test_every_page_on_a_phone(phone, address, site, pages):
    """Nothing sticks out, pictures are dark, no request leaves the machine."""
    phone.get("about:blank")
    phone.get_log("performance")  # Empties it.
    for path in pages:
        name = path.relative_to(site).as_posix()
        phone.get(f"{address}/{name}")
        assert phone.execute_script(OVERFLOWING) == [], name
        assert phone.execute_script(BRIGHT_PICTURES) == [], name
        messages = [
            json.loads(entry["message"])["message"]
            for entry in phone.get_log("performance")
        ]
        requests = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        assert requests, name
        for request in requests:
            assert request.startswith((address, "data:", "blob:")), name
