"""One run that pages watch and steer: a thread trains, and between two updates does what they ask.

It trains as demos/ring.py and demos/break_it.py do, by their own build, update_d and update_g.
"""

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

PICTURES, SHARE = 16, 1 / 3  # in a second, and of the time for training: both at most
SPEEDS = {"line by line": 0.0, "1 a second": 1.0, "5 a second": 5.0, "20 a second": 20.0,
          "full": numpy.inf}  # updates in a second
SECONDS_A_LINE = 0.7
ROWS_KEPT = 1000  # of the curves; beyond, every other one is dropped


class Session:
    """ask, watch and close are for any thread; ask(session.play) and the like for the rest.

    settings  as controls.read gives them
    device    as in use_device
    """

    def __init__(self, settings: argparse.Namespace, device: str = "cpu"):
        self.settings, self.device = settings, device
        self.playing, self.speed, self.error, self.runs = False, "full", "", 0
        self.news = threading.Condition()  # guards the four that follow
        self.asked: list[tuple[Callable, tuple]] = [(self.reset, ())]
        self.messages: dict[str, str] = {}  # by kind, the latest one
        self.watching, self.closed = 0, False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def ask(self, what: Callable, *arguments: Any) -> None:
        """Have it done between two updates."""
        with self.news:
            self.asked.append((what, arguments))
            self.news.notify_all()

    def watch(self) -> Iterator[tuple[str, str]]:
        """Messages as (kind, JSON), the latest of each kind; ("", "") when nothing came for 5 s."""
        seen: dict[str, str] = {}

        def unseen() -> list[tuple[str, str]]:
            return [item for item in self.messages.items() if seen.get(item[0]) != item[1]]

        with self.news:
            self.watching += 1
            history = {"run": self.runs, "rows": self.rows if self.runs else []}
        self.ask(self._draw)  # at once, not after the long pause of a run that nobody watches
        try:
            yield "history", json.dumps(history)
            while not self.closed:
                with self.news:
                    self.news.wait_for(lambda: self.closed or unseen(), timeout=5)
                    fresh = unseen()
                seen.update(fresh)
                yield from fresh or [("", "")]
        finally:
            with self.news:
                self.watching -= 1

    def close(self) -> None:
        with self.news:
            self.closed = True
            self.news.notify_all()
        self.thread.join(timeout=10)

    # ------------------------------------------------------------ to be asked for

    def play(self) -> None:
        self._set(playing=True)

    def pause(self) -> None:
        self._set(playing=False)
        self._draw()

    def set_speed(self, speed: str) -> None:
        self._set(speed=speed)

    def update(self, player: str) -> None:
        """One update of "D" or of "G", then rest."""
        self._set(playing=False)
        if player == "G" and not self.lab.answers:  # G's step uses the points of one of D
            self._update("D")
        self._update(player)

    def change(self, settings: argparse.Namespace) -> None:
        """Go on under other settings; where that is not possible, the run starts anew."""
        anew = any(getattr(settings, name) != getattr(self.settings, name)
                   for name, control in CONTROLS.items() if not control.live)
        self.settings = settings
        if anew:
            self.reset()
        else:
            self._follow(controls.in_force(settings))
            self._set()

    def reset(self) -> None:
        """Make the networks anew, from the seed."""
        settings = controls.in_force(self.settings)
        mixture = controls.mixture(settings)
        backend.seed(settings.seed)
        if settings.mistake == "none":
            self.demo, self.lab = RING, RING.start(settings, mixture)
        else:
            self.demo, self.lab = BREAK_IT, BREAK_IT.View(settings, BREAK_IT.build(settings))
            self.lab.mixture = mixture
        self.lab.d_loss = self.lab.g_loss = numpy.nan  # until there are some
        self.lab.answers, self.rows = {}, []
        self.step, self.turn, self.last, self.due = 0, 0, "", 0.0
        self.picture = Picture(self.lab, settings, mixture)
        self._follow(settings)
        with self.news:
            self.runs += 1
            self.messages.pop("picture", None)
        self._tell("run", {
            "run": self.runs, "demo": self.demo.__name__.rpartition(".")[2], "speeds": [*SPEEDS],
            "sources": {player: inspect.getsource(self._function(player)) for player in "DG"},
            "controls": {name: control._asdict() | {"whole": type(control.default) is int}
                         for name, control in CONTROLS.items()},
            **self.picture.frame(),
        })
        self._set(error="")
        self._draw()

    # ------------------------------------------------------------ the thread's own

    def _work(self) -> None:
        backend.use_device(self.device)  # of CuPy, each thread has its own
        with numpy.errstate(all="ignore"):  # what explodes is shown, not printed
            while not self.closed:
                with self.news:
                    asked, self.asked = self.asked, []
                try:
                    for what, arguments in asked:
                        what(*arguments)
                    if self.playing:
                        self._update("D" if self.turn < self.in_force.d_steps else "G")
                    else:
                        self._rest(None)
                except Exception as error:  # is shown where somebody looks, and the thread stays
                    self._set(playing=False, error=f"The run stopped: {error!r}")

    def _rest(self, seconds: float | None) -> None:
        """Until something is asked for, at most so many seconds."""
        with self.news:
            self.news.wait_for(lambda: self.closed or self.asked, timeout=seconds)

    def _tell(self, kind: str, message: Any) -> None:
        text = json.dumps(message)
        with self.news:
            self.messages[kind] = text
            self.news.notify_all()

    def _set(self, **attributes: Any) -> None:
        vars(self).update(attributes)
        self._tell("state", {"settings": vars(self.settings), "playing": self.playing,
                             "speed": self.speed, "error": self.error, "device": self.device})

    def _follow(self, settings: argparse.Namespace) -> None:
        """Let the run that is there go on under these settings."""
        lab = self.lab
        self.in_force = self.picture.settings = settings
        if settings.mistake == "none":
            lab.settings, lab.game = settings, losses.GAMES[settings.loss]()
            lab.adam_g.lr, lab.adam_d.lr = settings.lr, settings.d_lr
            lab.adam_g.betas = lab.adam_d.betas = (settings.beta1, settings.beta2)
        else:
            lab.batch = settings.batch_size
            lab.set_rate(settings.lr)

    def _function(self, player: str) -> Callable[[Any], None]:
        return self.demo.update_d if player == "D" else self.demo.update_g

    def _update(self, player: str) -> None:
        """One update of a player, and a picture if it is time for one."""
        began, rate = time.perf_counter(), SPEEDS[self.speed]
        self.last = player
        sys.settrace(self._trace if self.playing and rate == 0 else None)
        try:
            self._function(player)(self.lab)
        finally:
            sys.settrace(None)
        self.turn = (self.turn + 1) % (self.in_force.d_steps + self.in_force.g_steps)
        if self.turn == 0:
            self.step += 1
        if not self.playing or rate < numpy.inf or began >= self.due:
            self._draw()
        if self.playing and 0 < rate < numpy.inf:
            self._rest(max(0.0, began + 1 / rate - time.perf_counter()))

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        """Python calls this for each line that runs: show those of the update, slowly."""
        code = self._function(self.last).__code__
        if frame.f_code is not code:
            return None
        if event == "line":
            line = frame.f_lineno - code.co_firstlineno
            self._tell("line", {"player": self.last, "line": line, "step": self.step})
            self._rest(SECONDS_A_LINE)
        return self._trace

    def _draw(self) -> None:
        began = time.perf_counter()
        picture, numbers = self.picture.draw()
        row = {"step": self.step} | numbers
        if not self.rows or self.step > self.rows[-1]["step"]:
            self.rows = [*self.rows[:: 2 if len(self.rows) == ROWS_KEPT else 1], row]
        if self.step and None in (row["D loss"], row["G loss"]):
            self._set(playing=False)  # not finite any more
        slow = SPEEDS[self.speed] < numpy.inf or not self.playing
        self._tell("picture", {
            **picture, "run": self.runs, "row": row, "modes of": len(self.lab.mixture.centers),
            "last": self.last if slow else "DG", "words": words.about(self.lab.game, self.rows),
        })
        ended = time.perf_counter()
        least = 1 / PICTURES if self.watching else 1.0
        self.due = max(began + least, ended + (ended - began) * (1 / SHARE - 1))
