"""The laboratory's page in a real browser, headless: what is shown, what each control does."""

import json
import re
from pathlib import Path

import pytest
from browser import MISSING, Browser

from tinygan import lab
from tinygan.lab import controls
from tinygan.lab.session import SPEEDS

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING),
              pytest.mark.cpu_only("the page is the same on each device")]
EXERCISES = Path(__file__).parent / "exercises" / "README.md"
FIELDS = [name for name in controls.CONTROLS if name != "points"]


@pytest.fixture(scope="module")
def server():
    server = lab.Server(lab.Session(lab.from_link("")))
    server.in_background()
    yield server
    server.session.close()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(server, browser):
    """A function that opens the page by a link; at the end its console must be empty."""

    def page(link="", ready="picture && picture.row"):
        server.session.ask(server.session.pause)
        server.session.ask(server.session.set_speed, "full")
        server.session.ask(server.session.change, lab.from_link("width=16"))
        browser.go("about:blank")
        browser.console()
        browser.go(server.address + "#" + link)
        browser.wait(ready, 90)
        return browser

    yield page
    server.session.ask(server.session.pause)
    assert browser.console() == []


def step(page):
    return page.script("return picture.row.step")


def ink(page, canvas):
    """How many colours a canvas shows."""
    return page.script("""
        const canvas = byId(arguments[0]), size = [canvas.width, canvas.height];
        return new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, ...size)
                                             .data.buffer)).size""", canvas)


def test_it_shows_the_plane_the_curves_the_numbers_the_words_and_the_updates(page):
    page = page()
    page.click("play")
    page.wait("rows.length > 5")
    assert ink(page, "plane") > 200 and all(ink(page, f"curve-{i}") > 5 for i in (1, 2, 3))
    seen = page.script("return document.body.innerText")
    for words in ("of 8\nmodes found", "What helps", "D(x) =", "def update_d(lab: Laboratory)",
                  "lab.adam_g.step()", "Copy link"):
        assert words in seen, words
    page.click("play")
    page.click("reset")  # at the start all points are in view
    page.wait("!state.playing && picture.row.step === 0")
    for layer in ("land", "pushes", "sheet"):  # each can be taken away
        before = page.script("return byId('plane').toDataURL()")
        page.click(layer)
        assert page.script("return byId('plane').toDataURL()") != before


def test_play_pause_single_steps_speeds_and_reset_by_button_and_by_key(page):
    page = page()
    page.press(" ")
    page.wait("state.playing && picture.row.step > 3")
    page.press(" ")
    page.wait("!state.playing && picture.last !== 'DG'")
    before = step(page)
    for press, player in ((lambda: page.click("step-d"), "D"), (lambda: page.press("g"), "G")):
        press()
        page.wait(f"picture.last === '{player}'")
        assert page.script(f"return byId('source-{player}').className") == "now"
    assert step(page) <= before + 1
    for press, speed in ((lambda: page.press("-"), "20 a second"),
                         (lambda: page.click("slower"), "5 a second"),
                         (lambda: page.click("faster"), "20 a second")):
        press()
        page.wait(f"byId('speed').textContent === '{speed}'")
    page.press("r")
    page.wait("picture.row.step === 0 && run.run === picture.run")


def test_line_by_line_the_line_that_runs_is_marked(page):
    page = page()
    for speed in [*SPEEDS][-2::-1]:
        page.click("slower")
        page.wait(f"byId('speed').textContent === '{speed}'")
    page.click("play")
    page.wait("document.querySelector('pre.now .line')?.textContent.includes('samples(')")
    page.wait("document.querySelector('pre.now .line')?.textContent.includes('packed(')")


def test_each_control_sets_what_it_says(page, server):
    page = page()
    assert page.script("return [...byId('settings').elements].map(field => field.name).sort()") \
        == sorted(FIELDS)
    for name in sorted(FIELDS, key="mistake".__eq__):  # which greys out others, last
        control = controls.CONTROLS[name]
        if isinstance(control.default, str):
            value = control.bounds[1]
        else:
            value = min(control.default * 2 + 1, control.bounds[1])
        page.script("""const field = byId('settings').elements[arguments[0]];
                       field.value = arguments[1];
                       field.dispatchEvent(new Event('change'))""", name, str(value))
        page.wait(f"state.settings.{name} === {json.dumps(value)}")
        assert getattr(server.session.settings, name) == value
    greyed = page.script("return [...byId('settings').elements].filter(field => field.disabled)"
                         ".map(field => field.name)")
    assert {*greyed} == {n for n in FIELDS if not controls.CONTROLS[n].broken}


def test_a_wrong_value_is_said_and_changes_nothing(page, server):
    page = page()
    page.script("""const field = byId('settings').elements.pack;
                   field.value = 77; field.dispatchEvent(new Event('change'))""")
    page.wait("byId('problem').textContent.includes('pack is a whole number from 1 to 4')")
    assert server.session.settings.pack == 1
    # The browser writes down every answer of status 400: that alone is in the console.
    assert all("400" in message for message in page.console())


def test_a_link_carries_all_settings_and_no_token(page, server):
    page = page("pack=3&lr=0.01&width=24&data=moons", "state && state.settings.pack === 3")
    page.wait("state.playing && picture.row.step > 1")
    address = page.wait("location.href.includes('pack=3') && location.href")
    assert server.token not in address
    server.session.ask(server.session.change, lab.from_link("width=16"))
    page.wait("state.settings.pack === 1")
    page.go("about:blank")
    page.go(address)  # in another window of the same browser, say
    page.wait("state && state.settings.pack === 3 && state.settings.width === 24")
    page.script("location.hash = 'pack=2&width=16'")
    page.wait("state.settings.pack === 2 && state.settings.data === 'ring'")
    runs = server.session.runs
    page.script("location.hash = 'pack=2&width=16&lr=0.1'")  # this alone would be no new run
    page.wait(f"run.run > {runs} && state.settings.lr === 0.1 && state.playing")
    page.script("location.hash = 'pack=9'")
    page.wait("byId('problem').textContent.includes('pack is')")
    page.console()  # where the browser writes down the answer of status 400


def test_a_link_without_a_token_says_how_to_get_one(page, server):
    page = page()
    page.script("localStorage.clear()")
    page.go("about:blank")
    page.go(server.address.partition("?")[0] + "#pack=2")
    page.wait("byId('problem').textContent.includes('open the address that it prints')")
    assert server.session.settings.pack == 1
    page.console()  # where the browser writes down the answer of status 403


def draw(page, kind, *places):
    box = page.script("const b = byId('plane').getBoundingClientRect(); return [b.x, b.y, b.width]")
    page.drag([(box[0] + x * box[2], box[1] + y * box[2]) for x, y in places], kind)


def test_points_are_drawn_by_mouse_and_by_touch(page):
    page = page()
    page.click("draw")
    draw(page, "mouse", *((0.2 + i / 50, 0.3) for i in range(20)))
    drawn = page.script("return stroke.length")
    draw(page, "touch", *((0.2 + i / 50, 0.7) for i in range(20)))
    assert page.script("return stroke.length") > drawn > 10
    page.click("draw")
    page.wait("state.settings.data === 'drawn' && run.run === picture.run")
    x, y = page.script("return state.settings.points.split(',').slice(0, 2).map(Number)")
    assert abs(x - (0.2 * 2 - 1) * 140) < 3 and abs(y - (1 - 0.3 * 2) * 140) < 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen_in_either_scheme(page, scheme):
    page = page()
    page.choose_scheme(scheme)
    page.resize(400, 800)
    try:
        assert page.script("return document.documentElement.scrollWidth <= innerWidth")
        colour = page.script("return getComputedStyle(document.body).backgroundColor")
        assert (int(colour[4:].partition(",")[0]) < 100) == (scheme == "dark")
    finally:
        page.choose_scheme("light")
        page.resize(1500, 1000)


# ---------------------------------------------------------------- what a class sees


def shares(page, link, steps):
    """Of a run that a link starts: the shares of modes found and of samples on one, late."""
    page = page(link, f"state && state.playing && picture.row.step > {steps}")
    late = page.script("return rows.slice(-20)")
    return [sum(row[name] for row in late) / len(late) for name in ("modes", "on a mode")]


@pytest.mark.slow
def test_it_collapses_without_packs_and_finds_the_modes_with_packs_of_two(page):
    alone, pairs = shares(page, "pack=1", 3000), shares(page, "pack=2", 3000)
    assert alone[0] < 0.4 and pairs[0] > 0.8 and pairs[1] > 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "failure", "cure", "cured"),
    [("d_steps=5", "D too strong", {"r1": 1}, "picture.row.spread > 0.85"),
     ("beta1=0.9", "Swinging", {"beta1": 0.5}, "picture.row.modes > 0.6")],
)
def test_the_experiments_of_the_exercises_fail_and_are_cured(page, title, failure, cure, cured):
    link = re.search(rf"\[{title}\]\(http://127.0.0.1:8765/#(.*)\)", EXERCISES.read_text())[1]
    page = page(link, f"state && picture.row.step > 800 && picture.words.failure === '{failure}'")
    for name, value in cure.items():
        page.script("change({[arguments[0]]: arguments[1]})", name, value)
    page.wait(cured, 60)


@pytest.mark.slow
def test_what_is_drawn_is_learned(page):
    page = page("d_lr=0.002&lr=0.002")
    page.click("draw")
    draw(page, "mouse", *((0.25 + i / 60, 0.3) for i in range(30)))
    draw(page, "mouse", *((0.25 + i / 60, 0.7 - i / 150) for i in range(30)))
    page.click("draw")
    page.wait("state.settings.data === 'drawn' && run.run === picture.run")
    page.click("play") if not page.script("return state.playing") else None
    page.wait("rows.slice(-5).every(row => row.modes > 0.8 && row['on a mode'] > 0.6)", 60)
