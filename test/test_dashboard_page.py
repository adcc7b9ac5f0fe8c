"""The page in a real browser: it shows the robot, hands on what is pressed, and asks no other host for anything."""

import io
import queue

import numpy as np
import pytest
from browser import Browser, needs_browser
from PIL import Image

from digital_twin.core.view import View
from digital_twin.dashboard.board import Board, Said
from digital_twin.dashboard.cast import load_cast
from digital_twin.dashboard.guard import Guard, open_socket
from digital_twin.dashboard.moment import Moment
from digital_twin.dashboard.page import Page
from digital_twin.dashboard.panel import Action

pytestmark = needs_browser
# Red and a metre high, so that it is easily found in a picture.
URDF = """<robot name="post"><material name="red"><color rgba="1 0 0 1"/></material><link name="a"><inertial><mass value="5"/>
<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial><visual><origin xyz="0 0 0.5"/><geometry><box
 size="0.4 0.4 1"/></geometry><material name="red"/></visual></link><link name="b"><inertial><mass value="1"/><inertia ixx="1"
 iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link><joint name="j" type="revolute"><parent link="a"/><child link="b"/>
<axis xyz="0 1 0"/><limit lower="-1" upper="1" velocity="1" effort="1"/></joint></robot>"""


class Served:
    """A page with a robot."""

    def __init__(self, host="127.0.0.1", token=""):
        own = open_socket(host, 0)
        self.guard = Guard(host, token, 8)
        self.page = Page(own, self.guard)
        self.port = own.getsockname()[1]
        cast = load_cast(URDF, "", "")
        self.page.furnish(cast.figure, cast.rest, (), "Digital twin of a post", [], 60.0)
        self.page.follow(False)
        self.k = 0

    def show(self, x=0.0):
        nothing, self.k = np.zeros(0), self.k + 1
        view = View(
            np.array([x, 0.0, 0.0]), np.array([0.0, 0, 0, 1]), np.zeros(3), 0.0, np.zeros(3), np.zeros(3), nothing > 0, True,
            np.zeros(1), np.zeros(1), np.full(1, np.nan), np.zeros((0, 6)), np.full(7, np.nan),
        )  # fmt: skip
        self.page.show(Moment(self.k * 33_000_000, view))


@pytest.fixture(scope="module")
def served():
    s = Served()
    yield s
    s.page.close()


@pytest.fixture(scope="module")
def browser(served):
    with Browser(1000, 480) as b:
        b.open(f"http://127.0.0.1:{served.port}/")
        b.until("document.body.innerText.includes('Emergency stop') && !!document.querySelector('canvas')", "the page")
        yield b


def red(browser):
    """Columns of the red pixels between the panels: their mean and number."""
    picture = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("RGB")).astype(int)[:, 320:600]
    r, g, b = picture[150:].transpose(2, 0, 1)  # above, the browser complains that it renders in software
    found = (r > 110) & (g < 0.6 * r) & (b < 0.6 * r)
    return (float(np.nonzero(found)[1].mean()) if found.any() else np.nan), int(found.sum())


def until_red(browser, condition, what):
    for _ in range(40):
        found = red(browser)
        if condition(*found):
            return found
    raise AssertionError(f"waited in vain for {what}; the last was {found}")


def test_the_robot_is_seen_before_anything_is_known_of_it_and_then_where_it_is(served, browser):
    place, count = until_red(browser, lambda _, n: n > 300, "the robot to be seen")
    served.show(x=0.35)  # ahead is to the left in this picture
    until_red(browser, lambda x, n: n > 100 and abs(x - place) > 12.0, "the robot to have moved")


def test_texts_and_curves_are_there_and_nothing_is_taken_for_html(served, browser):
    board = Board(60.0)
    board.drift = {"d": Said(2, "the knee drags <b>badly</b>", {"cause": "friction"}, 10.0)}
    board.nodes = {"twin_synchronizer": Said(1, "<img src=x onerror='document.title=`bad`'>", {}, 10.0)}
    for now in np.arange(0.0, 10.0, 0.5):
        board.figure("motor", 40.0 + now, now)
        board.sample(now)
    served.page.say(board, None, 10.0, simulated=False, gait=False)
    browser.until("document.body.innerText.includes('the knee drags <b>badly</b>')")
    text = browser.text()
    assert "cause: friction" in text and "Digital twin of a post" in text and "Hottest motor" in text
    browser.click("Nodes")
    browser.until('document.body.innerText.includes("<img src=x onerror")')
    assert browser.js("document.title") != "bad" and not browser.js("document.querySelector('img[src=x]')")


@pytest.mark.parametrize(("label", "name"), [("Emergency stop", "stop"), ("Release", "release"), ("Pause", "pause")])
def test_what_is_pressed_is_handed_on(served, browser, label, name):
    browser.click(label)
    action = served.page.actions.get(timeout=20)
    assert action == Action(name)
    with pytest.raises(queue.Empty):
        served.page.actions.get_nowait()


def test_a_pause_is_said(served, browser):
    served.page.time(True)
    browser.until("document.body.innerText.includes('Go on live')")
    served.page.time(False)
    browser.until("!document.body.innerText.includes('Go on live')")
    assert served.page.actions.empty(), "what we set ourselves is nobody's wish"


def test_no_other_host_is_asked(served, browser):
    """Runs last: all that the page has asked for. The policy it is served with would not let it either."""
    own = (f"http://127.0.0.1:{served.port}/", f"ws://127.0.0.1:{served.port}", "data:", "blob:", "about:")
    assert browser.requests and [r for r in browser.requests if not r.startswith(own)] == []
    assert browser.errors == []
    refused = browser.js("fetch('http://example.com/').then(() => 'went out', e => 'refused: ' + e)")
    assert refused.startswith("refused")


def test_without_the_token_there_is_nothing_to_see():
    s = Served(token="open-sesame")
    try:
        with Browser(600, 400) as b:
            b.open(f"http://127.0.0.1:{s.port}/")
            b.until("document.body.innerText.includes('wants its whole address')")
            b.open(f"http://127.0.0.1:{s.port}/open-sesame/")
            b.until("document.body.innerText.includes('Digital twin of a post')")
        assert s.guard.refused["token"] >= 1
    finally:
        s.page.close()
