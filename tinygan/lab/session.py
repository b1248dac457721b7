"""One run that pages watch and steer: a thread trains, and does between two updates what is asked."""

import argparse
import inspect
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy

from .. import backend, losses
from . import controls, words
from .controls import BREAK_IT, CONTROLS, RING
from .picture import Picture

PICTURES = 20  # in a second, at most
SHARE = 1 / 3  # of the time, at most, for pictures
SPEEDS = {"line by line": 0.0, "1 a second": 1.0, "5 a second": 5.0, "20 a second": 20.0,
          "full": numpy.inf}  # updates in a second
SECONDS_A_LINE = 0.7
ROWS_KEPT = 1000  # of the curves; beyond, every other one is dropped


class Session:
    """Trains as demos/ring.py or demos/break_it.py do, by their own build, update_d and update_g.

    settings  as controls.read gives them
    device    as in use_device

    Its methods may be called by any thread. close() ends it.
    """

    def __init__(self, settings: argparse.Namespace, device: str = "cpu"):
        self.settings, self.device = settings, device
        self.news = threading.Condition()  # guards what follows
        self.asked: list[Callable[[], None]] = []
        self.messages: dict[str, str] = {}  # by kind, the latest one
        self.watching, self.closed = 0, False
        # The thread's own.
        self.playing, self.speed, self.error, self.runs = False, "full", "", 0
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    # ------------------------------------------------------------ for other threads

    def play(self) -> None:
        self._ask(lambda: self._set(playing=True))

    def pause(self) -> None:
        self._ask(lambda: self._set(playing=False))

    def set_speed(self, speed: str) -> None:
        self._ask(lambda: self._set(speed=speed))

    def update(self, player: str) -> None:
        """One update of "D" or of "G", then rest."""
        self._ask(lambda: self._one(player))

    def change(self, settings: argparse.Namespace) -> None:
        """Go on under other settings; where that is not possible, the run starts anew."""
        self._ask(lambda: self._change(settings))

    def reset(self) -> None:
        self._ask(self._start)

    def close(self) -> None:
        self._ask(lambda: self._set(closed=True))
        self.thread.join(timeout=10)

    def watch(self) -> Iterator[tuple[str, str]]:
        """Messages as (kind, JSON), the latest of each kind; ("", "") when nothing came for 5 s."""
        seen: dict[str, str] = {}
        with self.news:
            self.watching += 1
            history = {"run": self.runs, "rows": getattr(self, "rows", [])}
            self.news.notify_all()
        try:
            yield "history", json.dumps(history)
            while not self.closed:
                with self.news:
                    self.news.wait_for(lambda: self.closed or self.messages != seen, timeout=5)
                    fresh = [(kind, text) for kind, text in self.messages.items()
                             if seen.get(kind) != text]
                    seen = dict(self.messages)
                yield from fresh or [("", "")]
        finally:
            with self.news:
                self.watching -= 1

    def _ask(self, what: Callable[[], None]) -> None:
        with self.news:
            self.asked.append(what)
            self.news.notify_all()

    # ------------------------------------------------------------ for the thread itself

    def _tell(self, kind: str, message: Any) -> None:
        text = json.dumps(message)
        with self.news:
            self.messages[kind] = text
            self.news.notify_all()

    def _tell_state(self) -> None:
        self._tell("state", {"settings": vars(self.settings), "playing": self.playing,
                             "speed": self.speed, "error": self.error, "device": self.device})

    def _set(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)
        self._tell_state()

    def _work(self) -> None:
        backend.use_device(self.device)  # of CuPy, each thread has its own
        with numpy.errstate(all="ignore"):  # what explodes is shown, not printed
            self._ask(self._start)
            while not self.closed:
                with self.news:
                    asked, self.asked = self.asked, []
                try:
                    for what in asked:
                        what()
                    if not self.playing:
                        self._wait(None)
                        continue
                    self._update(self._next_player())
                except (ValueError, ArithmeticError, MemoryError) as error:
                    self._set(playing=False, error=f"The run stopped: {error}")

    def _wait(self, seconds: float | None) -> None:
        """Until something is asked for, at most so many seconds."""
        with self.news:
            self.news.wait_for(lambda: self.asked, timeout=seconds)

    def _start(self) -> None:
        """Make the networks anew, from the seed."""
        settings = controls.in_force(self.settings)
        mixture = controls.mixture(settings)
        backend.seed(settings.seed)
        if settings.mistake == "none":
            self.demo, self.lab = RING, RING.start(settings, mixture)
        else:
            self.demo = BREAK_IT
            self.lab = BREAK_IT.View(settings, BREAK_IT.build(settings))
            self.lab.mixture = mixture
        self.step, self.turn, self.last, self.rows, self.error = 0, 0, "", [], ""
        self.lab.d_loss = self.lab.g_loss = numpy.nan  # until there are some
        self.lab.answers = {}
        self.picture = Picture(self.lab, settings, mixture)
        self._follow(settings)
        self.runs += 1
        with self.news:
            self.messages.pop("picture", None)
        sources = {player: inspect.getsource(self._function(player)) for player in "DG"}
        self._tell("run", {"run": self.runs, "demo": self.demo.__name__.rpartition(".")[2],
                           "sources": sources, "speeds": [*SPEEDS],
                           "controls": {name: control._asdict()
                                        for name, control in CONTROLS.items()},
                           **self.picture.frame()})
        self._tell_state()
        self._draw()

    def _follow(self, settings: argparse.Namespace) -> None:
        """Let the run that is there go on under these settings."""
        lab = self.lab
        self.in_force = self.picture.settings = settings
        if settings.mistake != "none":
            lab.batch = settings.batch_size
            lab.set_rate(settings.lr)
            return
        lab.settings, lab.game = settings, losses.GAMES[settings.loss]()
        lab.adam_g.lr, lab.adam_d.lr = settings.lr, settings.d_lr
        lab.adam_g.betas = lab.adam_d.betas = (settings.beta1, settings.beta2)

    def _change(self, settings: argparse.Namespace) -> None:
        anew = any(getattr(settings, name) != getattr(self.settings, name)
                   for name, control in CONTROLS.items() if not control.live)
        self.settings = settings
        if anew:
            self._start()
        else:
            self._follow(controls.in_force(settings))
            self._tell_state()

    def _next_player(self) -> str:
        settings = self.in_force
        self.turn %= settings.d_steps + settings.g_steps
        return "D" if self.turn < settings.d_steps else "G"

    def _function(self, player: str) -> Callable[[Any], None]:
        return self.demo.update_d if player == "D" else self.demo.update_g

    def _one(self, player: str) -> None:
        self.playing = False
        if player == "G" and not self.lab.answers:  # which answers the points of a step of D
            self._function("D")(self.lab)
        self._update(player)
        self._tell_state()

    def _update(self, player: str) -> None:
        """One update of a player, and a picture if it is time for one."""
        began, rate = time.perf_counter(), SPEEDS[self.speed]
        function, self.last = self._function(player), player
        if rate == 0 and self.playing:
            sys.settrace(self._trace)
        try:
            function(self.lab)
        finally:
            sys.settrace(None)
        self.turn += 1
        if self.turn == self.in_force.d_steps + self.in_force.g_steps:
            self.step += 1
        if not self.playing or rate < numpy.inf or began >= self.due:
            self._draw()
        if self.playing and 0 < rate < numpy.inf:
            self._wait(max(0, began + 1 / rate - time.perf_counter()))

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        """Called by Python for each line that runs; show those of the update, slowly."""
        function = self._function(self.last)
        if frame.f_code is not function.__code__:
            return None
        if event == "line":
            line = frame.f_lineno - function.__code__.co_firstlineno
            self._tell("line", {"player": self.last, "line": line, "step": self.step})
            self._wait(SECONDS_A_LINE)
        return self._trace

    def _draw(self) -> None:
        began = time.perf_counter()
        picture, numbers = self.picture.draw()
        row = {"step": self.step} | numbers
        if not self.rows or self.step > self.rows[-1]["step"]:
            self.rows.append(row)
        if len(self.rows) > ROWS_KEPT:
            self.rows = self.rows[::2]
        if None in (row["D loss"], row["G loss"]) and self.step > 1:
            self.playing = False
        every_line = SPEEDS[self.speed] < numpy.inf or not self.playing
        self._tell("picture", {
            **picture, "run": self.runs, "row": row, "modes of": len(self.lab.mixture.centers),
            "last": self.last if every_line else "DG",
            "words": words.about(self.lab.game, self.rows),
        })
        ended = time.perf_counter()
        least = 1 / PICTURES if self.watching else 1.0
        self.due = max(began + least, ended + (ended - began) * (1 / SHARE - 1))
