"""The review page and the report in a real browser: used by keyboard and mouse, and looked over by axe.

Skipped with a word where there is no Chromium (Debian: `apt-get install chromium`) or no Playwright.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest

from test_report import add_scores, add_training, enter
from test_review import EVIL, SLOW, reviewed, served
from unstuck.diagnosis import Finding, Panel
from unstuck.guidance import load_guidance
from unstuck.review import export

FOUND = [path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not FOUND, reason="no Chromium here: apt-get install chromium"),
]
FORMS = [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers and root do not have; it opens pages of these tests only.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        launched = playwright.chromium.launch(executable_path=FOUND[0], args=["--no-sandbox"] if root else [])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser):
    """Open an address; whatever the page complains of in its console fails the test."""
    pages, wrong = [], []

    def opened(address, width=1400, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(address, timeout=120_000)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert wrong == []


def diagnosed(run):
    panel = Panel(
        agent="a", env="MountainCar-v0", verdict="stuck", summary="Stuck: nothing pays.",
        findings=(Finding(name="reward-signal", value=0, status="fault", meaning="All pay the same.", remedy="Guide."),
                  Finding(name="dead-units", value=0.1, status="ok", meaning="Few.")),
    )  # fmt: skip
    (run.root / "diagnosis.json").write_text(panel.as_json())
    return run


@pytest.fixture
def run(tmp_path):
    return diagnosed(reviewed(tmp_path))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A run that nothing changes, with a race under way, and its address."""
    run = diagnosed(reviewed(tmp_path_factory.mktemp("run")))
    home = run.root / "race" / "race" / "1"
    home.mkdir(parents=True)
    ranks = [
        {"name": "continue", "trained": 500, "level": -200.0},
        {"name": "afresh", "status": "dropped", "note": "flat"},
    ]
    data = {"title": "rung 1 of 3", "spent": {"train": 1000}, "budget": 9000, "usd": None, "ranks": ranks}
    (home / "ladder.json").write_text(json.dumps(data))
    with served(run) as address:
        yield run, address


def axe(page):
    """What the accessibility checker finds serious or worse, in words."""
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = sync_playwright.Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]


def fits(page):
    """Whether nothing sticks out to the right of the page."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize(("width", "scheme"), FORMS)
def test_axe_finds_nothing_serious_and_nothing_sticks_out(shared, open_page, width, scheme):
    page = open_page(shared[1], width, scheme)
    for details in page.query_selector_all("details"):
        details.evaluate("d => d.open = true")
    assert axe(page) == []
    assert fits(page)
    page.click("[data-kind=advice] [data-do=edit] >> nth=0")
    page.wait_for_selector("#checked p")
    assert axe(page) == []
    page.keyboard.press("Escape")


def test_everything_can_be_done_by_keyboard(run, open_page):
    with served(run) as address:
        page = open_page(address)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the advice"
        page.focus("[data-key=s1]")
        page.keyboard.press("a")
        page.wait_for_selector("[data-key=s1][data-decision=accepted]")
        assert page.evaluate("document.activeElement.dataset.key") == "s1"
        assert "guidance.json is written" in page.inner_text("#told")
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("r")
        page.wait_for_selector("[data-key=r1][data-decision=rejected]")
        page.keyboard.press("e")
        page.wait_for_selector("dialog[open]")
        page.fill("[name=why]", "Its own way is a good way.")
        page.keyboard.press("Tab")
        page.focus("dialog [type=submit]")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-key=r1][data-decision=edited]")
        assert "2 of 5 decided" in page.inner_text("#summary")
        page.goto("about:blank")  # it asks the server for as long as it is open
    made = {a.id: a for a in load_guidance(run.guidance_path).advice}
    assert (made["s1"].decision, made["r1"].why) == ("accepted", "Its own way is a good way.")


def test_what_is_written_is_checked_at_once_and_saved_when_it_is_right(run, open_page):
    with served(run) as address:
        page = open_page(address, 390)
        page.click("[data-new=rule]")
        page.wait_for_selector("#checked p")
        page.click("[data-add=clause]")
        page.select_option(".clauses .variable", "velocity")
        page.fill(".clauses .number", "0.001")
        page.select_option("[name=index]", "2")
        page.wait_for_selector("#checked >> text=where velocity is above 0.001")
        assert "of the collected steps" in page.inner_text("#checked")
        page.fill("[name=hold]", "500")
        page.wait_for_selector("#checked .wrong")
        assert "hold" in page.inner_text("#checked")
        assert len(load_guidance(run.guidance_path).advice) == 4
        page.fill("[name=hold]", "5")
        page.check("[name=first]")
        page.click("dialog [type=submit]")
        page.wait_for_selector("[data-key=p1]")
        made = load_guidance(run.guidance_path).advice[0]
        assert (made.id, made.hold, made.action.index, made.decision) == ("p1", 5, 2, "written")
        page.click("[data-kind=term] [data-do=edit]")
        page.click("dialog summary")
        page.fill(
            "[name=json]", json.dumps({"variable": "velocity", "weight": 3, "cap": 1, "when": [SLOW.model_dump()]})
        )
        page.wait_for_selector("#checked >> text=+3 for each")
        page.click("dialog [type=submit]")
        page.wait_for_selector("[data-kind=term][data-decision=edited]")
        assert load_guidance(run.guidance_path).reward_terms[0].weight == 3
        page.click("[data-key=p1] [data-do=remove]")
        page.wait_for_selector("[data-key=p1]", state="detached")
        page.goto("about:blank")


def test_pictures_follow_the_slider_and_the_ladder_what_happens(shared, open_page):
    run, address = shared
    page = open_page(address)
    page.wait_for_selector("#live:not([hidden]) >> text=rung 1 of 3")
    film = "[data-key=s1] .film"
    page.wait_for_selector(f"{film} .screen.ready")
    before = page.get_attribute("[data-key=s1] .cursor", "x1")
    page.focus(f"{film} input")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(f"{film} output") == "24"
    assert page.get_attribute(f"{film} input", "aria-valuetext") == "step 24"
    assert page.get_attribute("[data-key=s1] .cursor", "x1") != before
    path = run.root / "race" / "race" / "1" / "ladder.json"
    text = path.read_text()
    path.write_text(text.replace("rung 1 of 3", "rung 2 of 3"))
    page.wait_for_selector("#live >> text=rung 2 of 3")
    path.write_text(text)


def test_another_page_reaches_nothing(shared, browser):
    """As a page of somewhere else would try, even if it knew the secret."""
    address = shared[1]
    page = browser.new_page()
    tried = "url => fetch(url, {mode: 'cors'}).then(a => a.text(), () => 'refused')"
    assert page.evaluate(tried, f"{address}live") == "refused"
    frame = "url => { const f = document.createElement('iframe'); f.src = url; document.body.append(f); }"
    page.evaluate(frame, address)
    page.wait_for_timeout(500)
    assert len(page.frames) == 2
    assert "Critical" not in page.frames[1].content()
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_the_page_to_keep_opens_alone(shared, open_page, tmp_path, width, scheme):
    path = export(shared[0], tmp_path / "page.html")
    page = open_page(path.as_uri(), width, scheme)
    page.wait_for_selector(".film .screen.ready")
    assert axe(page) == []
    assert fits(page)
    assert page.query_selector("button") is None
    assert EVIL in page.inner_text("body")


@pytest.mark.parametrize(("width", "scheme"), FORMS)
def test_the_report_is_read_by_all(run, open_page, width, scheme):
    from unstuck.stages.report import report

    add_training(run)
    add_scores(run)
    enter(run, "evaluate")
    page = open_page(report(run).as_uri(), width, scheme)
    for details in page.query_selector_all("details"):
        details.evaluate("d => d.open = true")
    assert axe(page) == []
    assert fits(page)
