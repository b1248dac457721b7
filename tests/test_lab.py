"""The live laboratory: what may be set, the run, the server that is closed to others, the words."""

import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time

import numpy
import pytest

import tinygan
from tinygan import lab, losses
from tinygan.files import UsageError
from tinygan.lab import controls, words
from tinygan.lab.session import Session

SMALL = {"width": 8, "batch_size": 8}


@pytest.fixture
def session():
    """A function that opens a session with small networks."""
    opened = []

    def session(**given):
        opened.append(Session(controls.read(SMALL | given), tinygan.device()))
        return opened[-1]

    yield session
    for one in opened:
        one.close()
        assert not one.thread.is_alive()


def until(messages, condition, seconds=20):
    """The first message for which it is true: condition(kind, what it says)."""
    ends = time.monotonic() + seconds
    for kind, text in messages:
        assert time.monotonic() < ends
        said = json.loads(text) if text else None
        if kind and condition(kind, said):
            return said
    raise AssertionError("the session ended")


def picture(messages, step=0, run=None):
    return until(messages, lambda kind, said: kind == "picture" and said["row"]["step"] >= step
                 and run in (None, said["run"]))


# ---------------------------------------------------------------- what may be set


def test_settings_come_from_a_link_and_the_rest_are_the_defaults():
    settings = lab.from_link("http://127.0.0.1:8765/#pack=2&lr=0.01&data=grid")
    assert (settings.pack, settings.lr, settings.data) == (2, 0.01, "grid")
    assert vars(lab.from_link("")) == {n: c.default for n, c in controls.CONTROLS.items()}


@pytest.mark.parametrize("name", [*controls.CONTROLS])
def test_every_default_is_within_its_bounds_and_what_is_outside_is_refused(name):
    control = controls.CONTROLS[name]
    assert getattr(controls.read({name: control.default}), name) == control.default
    wrong = ["magic", None, [], {}, "\x00", "é" * 99]
    if isinstance(control.default, float | int):
        low, high = control.bounds
        wrong += ["", "nan", "inf", "-inf", low - 1, high + 1, 10**400, True]
    for value in wrong:
        with pytest.raises(UsageError, match=name):
            controls.read({name: value})


def test_an_unknown_setting_is_refused():
    with pytest.raises(UsageError, match="no setting 'lrr': use data"):
        controls.read({"lrr": 1})


@pytest.mark.parametrize("points", ["1", "1,2,3", "1,x", "1.5,2", "300,0", "0," * 402 + "0", ",,"])
def test_drawn_points_are_pairs_of_hundredths_and_not_too_many(points):
    with pytest.raises(UsageError, match="points are"):
        controls.read({"data": "drawn", "points": points})


def test_drawn_points_become_a_mixture():
    settings = controls.read({"data": "drawn", "points": "50,-25,0,100"})
    centers, deviation = controls.mixture(settings)
    assert centers.tolist() == [[0.5, -0.25], [0, 1]] and centers.dtype == numpy.float32
    assert deviation == 0.05
    with pytest.raises(UsageError, match="draw some points"):
        controls.read({"data": "drawn"})


# ---------------------------------------------------------------- the run


def weights(laboratory):
    return [p.numpy().copy() for part in (laboratory.G, laboratory.D) for p in part.parameters()]


def test_it_trains_as_the_demo_does(session):
    """Pictures and the thread change no bit: the same weights after as many steps."""
    one = session(pack=2, seed=3)
    messages = one.watch()
    one.ask(one.set_speed, "20 a second")
    one.ask(one.play)
    picture(messages, step=2)
    one.ask(one.pause)
    until(messages, lambda kind, said: kind == "state" and not said["playing"])
    settings = controls.read(SMALL | {"pack": 2, "seed": 3})
    tinygan.seed(3)
    demo = controls.RING.start(settings, controls.mixture(settings))
    for number in range(one.lab.adam_d.steps):
        controls.RING.update_d(demo)
        if number < one.lab.adam_g.steps:
            controls.RING.update_g(demo)
    for mine, theirs in zip(weights(one.lab), weights(demo), strict=True):
        assert numpy.array_equal(mine, theirs)


def test_one_step_of_d_and_one_of_g_move_that_player_alone(session):
    one = session()
    messages = one.watch()
    picture(messages)
    for player, steps in (("G", (1, 1)), ("G", (1, 2)), ("D", (2, 2))):  # G's first needs one of D
        one.ask(one.update, player)
        until(messages, lambda kind, said, steps=steps, player=player: kind == "picture"
              and said["last"] == player
              and (one.lab.adam_d.steps, one.lab.adam_g.steps) == steps)
        assert not one.playing
    assert one.step == 2


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [("lr", 0.5, lambda one: one.lab.adam_g.lr), ("d_lr", 0.25, lambda one: one.lab.adam_d.lr),
     ("beta1", 0.75, lambda one: one.lab.adam_g.betas[0]),
     ("loss", losses.Hinge, lambda one: type(one.lab.game)),
     ("r1", 2.0, lambda one: one.lab.settings.r1)],
)
def test_a_change_of_rate_or_game_takes_effect_at_once(session, name, value, what):
    one = session()
    messages = one.watch()
    one.ask(one.play)
    step = picture(messages, step=3)["row"]["step"]
    given = "hinge" if name == "loss" else value
    one.ask(one.change, controls.read(SMALL | {name: given}))
    until(messages, lambda kind, said: kind == "state" and said["settings"][name] == given)
    assert what(one) == value and picture(messages, run=1)["row"]["step"] >= step


@pytest.mark.parametrize(("name", "value"), [("width", 9), ("pack", 3), ("data", "moons"),
                                             ("seed", 5), ("mistake", "no-detach"), ("bend", 1)])
def test_other_changes_start_the_run_anew(session, name, value):
    one = session()
    messages = one.watch()
    one.ask(one.play)
    picture(messages, step=3)
    one.ask(one.change, controls.read(SMALL | {name: value}))
    assert until(messages, lambda kind, said: kind == "run" and said["run"] == 2)
    assert picture(messages, step=1, run=2)  # and goes on playing


@pytest.mark.parametrize("mistake", controls.BREAK_IT.NAMES)
def test_each_mistake_runs_by_the_code_of_its_demo(session, mistake):
    one = session(mistake=mistake, d_steps=7, pack=4, batch_size=8)
    messages = one.watch()
    run = until(messages, lambda kind, said: kind == "run")
    assert run["demo"] == "break_it" and 'broken != "no-detach"' in run["sources"]["D"]
    one.ask(one.play)
    assert picture(messages, step=2)["row"]["D loss"] is not None
    assert one.lab.broken == mistake and one.in_force.d_steps == one.in_force.pack == 1


@pytest.mark.parametrize("given", [{"loss": "wasserstein", "latent": 1}, {"unrolled": 2, "pack": 4},
                                   {"r1": 1, "bend": 1, "data": "grid"}, {"loss": "hinge"},
                                   {"data": "drawn", "points": "0,0"}, {"loss": "least-squares"}])
def test_a_picture_is_small_and_has_everything(session, given):
    one = session(**given)
    messages = one.watch()
    one.ask(one.play)
    shown = picture(messages, step=2)
    assert len(json.dumps(shown)) < 9000
    assert shown.keys() >= {"fake", "sheet", "land", "pushes", "row", "words"}
    assert 0 <= shown["row"]["modes"] <= 1 and shown["row"]["G loss"] is not None


def test_line_by_line_tells_each_line_of_the_update_that_runs(session, monkeypatch):
    monkeypatch.setattr("tinygan.lab.session.SECONDS_A_LINE", 0.05)
    one = session()
    messages = one.watch()
    sources = until(messages, lambda kind, said: kind == "run")["sources"]
    one.ask(one.set_speed, "line by line")
    one.ask(one.play)
    for words_of_it in ("game.discriminator(", ".adam_d.zero_grad()", ".adam_d.step()"):
        until(messages, lambda kind, said, words_of_it=words_of_it: kind == "line" and words_of_it
              in sources[said["player"]].splitlines()[said["line"]])


def test_a_run_that_explodes_is_stopped_and_said_to_have(session):
    one = session(lr=1.0, d_lr=1.0, loss="wasserstein", penalty=100, beta1=0.999)
    messages = one.watch()
    one.ask(one.play)
    picture(messages, step=1)
    one.lab.G.parameters()[0].data[:] = numpy.nan
    shown = until(messages, lambda kind, said: kind == "picture" and said["row"]["G loss"] is None)
    assert shown["words"]["failure"] == "Explosion" and not one.playing


def test_an_error_stops_the_run_and_is_said(session):
    one = session()
    messages = one.watch()
    one.ask(one.play)
    picture(messages, step=1)
    one.lab.D = None
    said = until(messages, lambda kind, said: kind == "state" and said["error"])
    assert "NoneType" in said["error"] and not said["playing"]
    one.ask(one.reset)
    assert picture(messages, run=2) and one.error == ""


# ---------------------------------------------------------------- the words


def rows(game, step=1000, **numbers):
    usual = {"D loss": game.balance, "G loss": 0.7, "D(x)": 0.5, "D(G(z))": 0.5, "modes": 0.5,
             "on a mode": 0.5, "spread": 0.9}
    return [{"step": step + i} | usual | {name: value[i % len(value)] if isinstance(value, list)
                                          else value for name, value in numbers.items()}
            for i in range(50)]


@pytest.mark.parametrize(
    ("game", "numbers", "failure"),
    [
        (losses.NonSaturating, {"modes": 1.0, "on a mode": 0.8}, words.HEALTHY),
        (losses.NonSaturating, {"spread": 0.2, "D loss": 1.1}, words.COLLAPSE),
        (losses.NonSaturating, {"modes": 0.2, "D loss": 0.2, "D(x)": 0.95}, words.STRONG),
        (losses.Hinge, {"modes": 0.2, "D loss": 0.2}, words.STRONG),
        (losses.Minimax, {"D loss": 0.2, "on a mode": 0.0}, words.SATURATED),
        (losses.NonSaturating, {"spread": 0.2}, words.WEAK),
        (losses.NonSaturating, {"D loss": [0.7, 1.9]}, words.SWING),
        (losses.NonSaturating, {"D loss": 80.0}, words.EXPLODED),
        (losses.NonSaturating, {"D loss": None}, words.EXPLODED),
        (losses.NonSaturating, {"D loss": 0.0, "G loss": 3e8}, words.EXPLODED),
        (losses.NonSaturating, {"D(G(z)) in G's step": 0.9}, words.MIXED),
        (losses.NonSaturating, {"modes": 0.7, "D loss": 1.2}, words.ON_ITS_WAY),
        (losses.NonSaturating, {"step": 10}, words.TOO_EARLY),
        (losses.Wasserstein, {"spread": 0.2}, words.COLLAPSE),
        (losses.Wasserstein, {"D loss": -30.0}, words.ON_ITS_WAY),
    ],
)
def test_a_failure_is_known_by_its_signs(game, numbers, failure):
    assert words.judgement(game(), rows(game(), **numbers)) == failure


def test_the_answers_of_d_are_put_into_words():
    row = rows(losses.Minimax())[0]
    said = words.meaning(losses.Minimax(), row | {"D(x)": 0.9, "D(G(z))": 0.1})
    assert "90%" in said and "sees through" in said
    assert "can't tell" in words.meaning(losses.Minimax(), row)
    assert "mean answer" in words.meaning(losses.Hinge(), row)
    assert "carried" in words.meaning(losses.Wasserstein(), {"Wasserstein estimate": 2.0})
    assert "runs after" in words.meaning(losses.Wasserstein(), {"Wasserstein estimate": -2.0})
    assert "Press play" in words.meaning(losses.Minimax(), {"step": 0})


# ---------------------------------------------------------------- the server


@pytest.fixture(scope="module")
def server():
    server = lab.Server(Session(controls.read(SMALL), tinygan.device()))
    server.in_background()
    yield server
    server.shutdown()
    server.server_close()
    server.session.close()


def ask(server, method="POST", path="/do", body=b'{"do": "pause"}', token=True, **headers):
    """The status of a request and what it says."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    address = path + f"?token={server.token}" * token
    connection.request(method, address, body, {n.replace("_", "-"): v for n, v in headers.items()})
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


def test_it_serves_the_page_and_does_what_the_page_asks(server):
    status, page = ask(server, "GET", "/", None, token=False)
    assert status == 200 and page.startswith("<!DOCTYPE html>")
    assert "http://" not in page and "https://" not in page and len(page.splitlines()) <= 600
    for wish in ({"do": "play"}, {"do": "speed", "value": "5 a second"}, {"do": "reset"},
                 {"do": "update", "value": "G"}, {"do": "change", "value": SMALL | {"pack": 2}}):
        assert ask(server, body=json.dumps(wish)) == (200, "done")
    until(server.session.watch(), lambda kind, said: kind == "state" and not said["playing"]
          and said["settings"]["pack"] == 2 and said["speed"] == "5 a second")


def test_it_listens_on_the_loopback_address_alone(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Host": ""}, {"Host": "127.0.0.1"}, {"Origin": "http://evil.example"},
    {"Origin": "null"}, {"Origin": "https://127.0.0.1:1"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/events"), ("POST", "/do")])
def test_other_hosts_and_origins_are_refused(server, method, path, headers):
    assert ask(server, method, path, **headers)[0] == 403


def test_the_origin_of_the_page_itself_is_allowed(server):
    assert ask(server, Origin=f"http://localhost:{server.server_address[1]}")[0] == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/events"), ("POST", "/do"), ("GET", "/else"),
                                              ("GET", "/events?token=%C3%A9%ff"),
                                              ("POST", "/do?token=wrong&token=")])
def test_without_the_token_nothing_is_told_or_done(server, method, path):
    assert ask(server, method, path, token=False)[0] == 403


def test_what_is_not_there_is_not_found(server):
    assert ask(server, "GET", "/etc/passwd")[0] == ask(server, "GET", "/do")[0] == 404


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"7", b"null", b'{"do": "close"}', b'{"do": "__init__"}', b"\xff\xfe",
    b'{"do": "change"}', b'{"do": "change", "value": {"pack": 99}}', b"[" * 50_000,
    b'{"do": "change", "value": {"lr": NaN}}', b'{"do": ["play"]}', b'{"do": "speed", "value": []}',
    b'{"do": "update", "value": "X"}',
    b'{"do": "change", "value": {"pack": ' + b"1" * 9000 + b"}}"])
def test_a_wrong_request_is_one_sentence(server, body):
    status, said = ask(server, body=body)
    assert status == 400 and "Traceback" not in said and len(said) < 300


@pytest.mark.parametrize("length", ["x", "-1", "", "999999999999", "²", "000000005"])
def test_a_wrong_length_is_refused(server, length):
    assert ask(server, Content_Length=length.encode())[0] == 413


@pytest.mark.parametrize("bytes_", [
    b"\x00\xff\x80\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000 + b"\r\n\r\n",
    b"GET //[ HTTP/1.0\r\nHost: x\r\n\r\n", b"",
    b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 200 + b"\r\n"])
def test_it_survives_what_is_no_request(server, bytes_):
    with socket.create_connection(server.server_address) as connection:
        connection.sendall(bytes_)
        connection.shutdown(socket.SHUT_WR)
        with pytest.MonkeyPatch.context() as patch:  # a reset is an answer, too
            patch.setattr(socket, "timeout", TimeoutError)
            try:
                connection.recv(100)
            except ConnectionError:
                pass
    assert ask(server)[0] == 200


def stream(server):
    connection = socket.create_connection(server.server_address, timeout=20)
    connection.sendall(f"GET /events?token={server.token} HTTP/1.0\r\n"
                       f"Host: 127.0.0.1:{server.server_address[1]}\r\n\r\n".encode())
    return connection, connection.makefile("rb")


def heard(file, kind):
    """The next event of that kind."""
    while (line := file.readline()) != f"event: {kind}\n".encode():
        assert line
    return json.loads(file.readline().removeprefix(b"data: "))


def test_two_pages_see_the_same_and_one_that_goes_away_is_no_matter(server, capfd):
    (first, one), (second, other) = stream(server), stream(server)
    assert heard(one, "run") == heard(other, "run")
    watching = server.session.watching
    one.close()
    first.close()
    ask(server, body=b'{"do": "play"}')
    for _ in range(5):
        step = heard(other, "picture")["row"]["step"]
    assert step > 0
    ends = time.monotonic() + 20
    while server.session.watching >= watching:
        assert time.monotonic() < ends
        time.sleep(0.01)
    other.close()
    second.close()
    assert capfd.readouterr().err == ""


def test_a_page_that_comes_later_gets_the_curves_so_far(server):
    server.session.ask(server.session.play)
    picture(server.session.watch(), step=5)
    _, file = stream(server)
    past = heard(file, "history")
    assert past["run"] == server.session.runs and past["rows"][-1]["step"] > 0
    assert all(isinstance(row["modes"], float) for row in past["rows"])


def test_there_are_not_too_many_pages(server, monkeypatch):
    monkeypatch.setattr("tinygan.lab.server.MOST_PAGES", 0)
    assert ask(server, "GET", "/events")[0] == 503


# ---------------------------------------------------------------- as a user runs it


def command(*words_):
    return [sys.executable, "-m", "tinygan", "lab", "--no-browser", *words_]


def test_the_command_prints_the_address_and_ends_by_ctrl_c():
    # A program that a script has put in the background ignores Ctrl-C, and so do its children.
    process = subprocess.Popen(
        command("--port", "0", "pack=2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    address = process.stdout.readline().split()[-1]
    assert address.startswith("http://127.0.0.1:") and "/?token=" in address
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "") and "closed" in said


def test_it_is_loaded_only_when_it_is_asked_for():
    code = "import sys, tinygan; print({'tinygan.lab', 'http.server'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n"


def test_wrong_words_and_a_taken_port_are_one_sentence(server):
    port = str(server.server_address[1])
    for line, sentence in ((["pack=9"], "pack is a whole number from 1 to 4, not '9'"),
                           (["--port", port], f"port {port} can't be had")):
        done = subprocess.run(command(*line), capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_a_notebook_shows_it_in_a_cell(monkeypatch):
    class IFrame:
        def __init__(self, address, width, height):
            self.address = address

    monkeypatch.setitem(sys.modules, "IPython", type("IPython", (), {}))
    monkeypatch.setitem(sys.modules, "IPython.display", type("display", (), {"IFrame": IFrame}))
    monkeypatch.setattr(lab, "_shown", [])
    cell = lab.show("width=8")
    assert lab.show("width=9").address == cell.address
    (server,) = lab._shown
    until(server.session.watch(), lambda kind, said: kind == "state"
          and said["settings"]["width"] == 9)
    server.shutdown()
    server.server_close()
    server.session.close()
    assert math.isfinite(server.session.step)
