"""The built site: whole, self-contained, and usable in a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import keras_parewire
from keras_parewire import studies

for module in ("sphinx", "furo", "myst_parser", "sphinx_gallery"):
    pytest.importorskip(module, reason="needs the extra `docs`")

# The gallery trains networks: once is enough.
pytestmark = [pytest.mark.slow, pytest.mark.backend("jax")]

ROOT = Path(__file__).parents[2]
# Where there are both, as on GitHub's machines, the driver is Chrome's.
CHROMIUM = shutil.which("google-chrome") or shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
GUIDES = {
    "built-models": "re-initialize without recompiling",
    "contributing": "Contributing",
    "does-it-help": "Does it help my model?",
    "how-it-works": "How the rewiring rule works",
    "large-models": "Large models and clusters",
    "layers-and-axes": "Which layers, which axes",
    "related-methods": "Related methods",
    "results": "Results",
    "saving": "loading without this package",
    "scale-or-wiring": "comparing initializations",
    "seeds": "Seeds, reproducibility and pairing",
    "speed": "How fast",
}


def sphinx(*arguments):
    # The tests' eight devices are no help to small networks.
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


class Page(HTMLParser):
    """What a page is called, holds, links to and loads."""

    def __init__(self, path):
        super().__init__()
        self.title, self.ids, self.links, self.loaded = "", set(), [], []
        self._in_title = False
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._in_title = tag == "title" and not self.title
        for key in ("id", "name"):
            if attributes.get(key):
                self.ids.add(attributes[key])
        if tag == "a":
            self.links.append(attributes.get("href") or "")
        elif tag == "link":
            # Others are hints such as `next`, which load nothing.
            if attributes.get("rel") in ("stylesheet", "icon", "preload"):
                self.loaded.append(attributes["href"])
        else:
            for key in ("src", "data", "poster"):
                if attributes.get(key):
                    self.loaded.append(attributes[key])
            if attributes.get("srcset"):
                self.loaded += [
                    part.split()[0] for part in attributes["srcset"].split(",")
                ]

    def handle_data(self, data):
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag):
        self._in_title = False


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    sphinx("docs", folder)
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {
        path: Page(path)
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }


def test_examples_of_the_guides(tmp_path):
    sphinx("-b", "doctest", "-D", "plot_gallery=0", "docs", tmp_path)


@pytest.mark.parametrize("guide", GUIDES)
def test_guides_have_the_words_people_search_for(site, guide):
    page = Page(site / "guides" / f"{guide}.html")
    assert GUIDES[guide] in page.title


def test_every_page_has_a_title_of_its_own(pages):
    titles = [
        page.title for path, page in pages.items() if path.stem != "rewiring"
    ]
    assert all(title.endswith("keras_parewire") for title in titles)
    assert len(set(titles)) == len(titles)


def test_every_public_name_has_a_page_with_an_example(site):
    names = {name: "keras_parewire" for name in keras_parewire.__all__}
    names |= {name: "keras_parewire.studies" for name in studies.__all__}
    _, overview = (site / "api" / "index.html").read_text().split("<article")
    for name, module in names.items():
        text = (site / "api" / "generated" / f"{name}.html").read_text()
        assert f'id="{module}.{name}"' in text, name
        assert f'href="generated/{name}.html"' in overview, name
        if name not in ("Comparison", "StrengthReport"):  # Not made by users.
            assert "&gt;&gt;&gt; " in text, name


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        for address in page.loaded:
            parts = urlsplit(address)
            assert not parts.netloc, (path.name, address)
            if parts.scheme != "data":
                assert not parts.scheme, (path.name, address)
                target = path.parent / unquote(parts.path)
                assert target.exists(), (path.name, address)
        assert "MathJax" not in page.text
    for path in site.rglob("*.css"):
        found = re.findall(r"url\(['\"]?([^'\")]+)|@import", path.read_text())
        assert not [a for a in found if urlsplit(a).netloc], path.name


def test_internal_links_lead_somewhere(pages):
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
                assert target.exists(), (path.name, link)
            if parts.fragment and target in pages:
                fragment = unquote(parts.fragment)
                assert fragment in pages[target].ids, (path.name, link)


def test_mathematics_is_mathml(site):
    assert "<math" in (site / "guides" / "how-it-works.html").read_text()


def test_only_pages_that_are_meant_are_built(site):
    folders = {path.name for path in site.iterdir() if path.is_dir()}
    shown = {"api", "gallery_pages", "guides"}
    assert {f for f in folders if not f.startswith(("_", "."))} == shown


def test_the_tutorial_runs_as_a_notebook(site, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    [path] = site.rglob("plot_1_tutorial.ipynb")
    notebook = nbformat.read(path, as_version=4)
    assert "pip" in notebook.cells[0].source
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert (tmp_path / "model.keras").exists()


def test_the_example_in_the_form_of_keras_io(site):
    """Its facts, its sections, its pictures and its verdicts are shown."""
    source = (ROOT / "docs" / "gallery" / "paired_study.py").read_text()
    page = Page(site / "gallery_pages" / "plot_9_paired_study.html")
    facts = re.findall(r"^(.+?): (.+)$", source.split('"""')[1], re.M)
    names = ["Title", "Author", "Date created", "Last modified", "Description"]
    assert [name for name, _ in facts] == [*names, "Accelerator"]
    assert facts[0][1] in page.title
    sections = re.findall(r'^"""\n## (.+)$', source, re.M)
    assert len(sections) > 5
    for section in sections:
        assert f"<h2>{section}<" in page.text, section
    pictures = [path for path in page.loaded if "paired_study" in path]
    assert len(set(pictures)) == 2
    # It has stopped by itself, with a verdict on each arm.
    assert "2 arms compared" in page.text and "undecided (" not in page.text


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
def open_browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    if not DRIVER:
        pytest.skip("needs Chromium and its driver")
    assert CHROMIUM, "There is a driver, but no browser."
    drivers = []

    def start(javascript=True):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "window-size=1200,900",
            f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
        ):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        if not javascript:
            options.add_experimental_option(
                "prefs",
                {"profile.managed_default_content_settings.javascript": 2},
            )
        drivers.append(
            webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        )
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.quit()


@pytest.fixture(scope="module")
def browser(open_browser):
    return open_browser()


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


def requests_of(browser):
    """Returns the addresses asked for since the last call."""
    messages = [
        json.loads(entry["message"])["message"]
        for entry in browser.get_log("performance")
    ]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def leaving(requests, address):
    """Returns those that leave the machine."""
    inside = (address, "data:", "blob:")
    return [request for request in requests if not request.startswith(inside)]


def step(browser):
    return int(
        browser.find_element("tag name", "body").get_dom_attribute("data-step")
    )


def test_stepping_through_the_figure(browser, address):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import Select

    browser.get(f"{address}/rewiring.html")
    assert not browser.find_element("id", "picture").is_displayed()
    assert step(browser) == 0
    keys = ActionChains(browser)
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    keys.perform()
    assert step(browser) == 3
    assert "output neuron 3" in browser.find_element("id", "title").text
    assert "strongest" in browser.find_element("id", "story").text
    browser.find_element("id", "previous").click()
    assert step(browser) == 2

    ActionChains(browser).send_keys(Keys.END).perform()
    assert step(browser) == 14
    assert not browser.find_element("id", "next").is_enabled()
    chart = browser.find_element("id", "chart").text
    Select(browser.find_element("id", "exponent")).select_by_value("inf")
    assert step(browser) == 14
    assert browser.find_element("id", "chart").text != chart
    greedy = browser.find_element("id", "matrix").text
    Select(browser.find_element("id", "exponent")).select_by_value("0")
    Select(browser.find_element("id", "seed")).select_by_value("3")
    assert browser.find_element("id", "matrix").text != greedy


def test_swiping_over_the_figure(phone, address):
    from selenium.webdriver.common.action_chains import ActionBuilder
    from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    phone.get(f"{address}/rewiring.html")
    matrix = phone.find_element("id", "matrix")
    for moved, expected in ((-80, 1), (-80, 2), (80, 1), (-10, 1)):
        finger = PointerInput(POINTER_TOUCH, "finger")
        touch = ActionBuilder(phone, mouse=finger)
        touch.pointer_action.move_to(matrix).pointer_down()
        touch.pointer_action.move_by(moved, 0).pointer_up()
        touch.perform()
        assert step(phone) == expected


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


def test_the_figure_plays_by_itself(browser, address):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{address}/rewiring.html")
    browser.find_element("id", "play").click()
    WebDriverWait(browser, 120).until(lambda _: step(browser) == 14)


def test_the_figure_without_javascript(open_browser, address):
    browser = open_browser(javascript=False)
    browser.get(f"{address}/rewiring.html")
    assert browser.find_element("id", "picture").is_displayed()
    assert not browser.find_element("id", "app").is_displayed()


def test_search_finds_a_function(browser, address):
    from selenium.webdriver import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{address}/index.html")
    requests_of(browser)
    field = browser.find_element("css selector", "input.sidebar-search")
    field.send_keys("reinitialize", Keys.ENTER)
    results = WebDriverWait(browser, 120).until(
        lambda _: browser.find_elements("css selector", "ul.search li a")
    )
    assert any("reinitialize" in result.text for result in results)
    requests = requests_of(browser)
    assert any(request.endswith("searchindex.js") for request in requests)
    assert not leaving(requests, address)


def test_navigation_on_a_phone(phone, address):
    from selenium.webdriver.support.ui import WebDriverWait

    phone.get(f"{address}/index.html")
    link = phone.find_element(
        "css selector", '.sidebar-tree a[href="guides/seeds.html"]'
    )
    assert not phone.execute_script(IS_ON_SCREEN, link)
    phone.find_element("css selector", "header label.nav-overlay-icon").click()
    wait = WebDriverWait(phone, 60)
    wait.until(lambda _: phone.execute_script(IS_ON_SCREEN, link))
    link.click()
    assert "Seeds, reproducibility and pairing" in phone.title


IS_ON_SCREEN = """
const box = arguments[0].getBoundingClientRect();
return box.left >= 0 && box.left < innerWidth;
"""
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
    requests_of(phone)
    for path in pages:
        name = path.relative_to(site).as_posix()
        phone.get(f"{address}/{name}")
        assert phone.execute_script(OVERFLOWING) == [], name
        assert phone.execute_script(BRIGHT_PICTURES) == [], name
        requests = requests_of(phone)
        assert requests, name
        assert not leaving(requests, address), name
