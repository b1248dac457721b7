"""The live laboratory: watch a GAN learn points in the plane, and change it while it learns.

    tinygan lab                     serves one page on 127.0.0.1, and opens it
    tinygan lab 'pack=2&d_lr=1e-4'  starts with these settings; so does a link from the page
    tinygan.lab.show()              in a notebook, after import tinygan.lab
"""

import argparse
import webbrowser
from typing import Any
from urllib.parse import parse_qsl

from .. import backend
from . import controls
from .server import Server
from .session import Session

__all__ = ["Server", "Session", "main", "show"]

PORT = 8765  # that of the links in exercises
_shown: list[Server] = []  # by show(), at most one


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tinygan lab", allow_abbrev=False,
                                     description="Watch a GAN learn, live in a browser.")
    add = parser.add_argument
    add("settings", nargs="?", default="", metavar="SETTINGS",
        help="such as 'pack=2&lr=1e-3', or a link from the page")
    add("--port", type=int, default=PORT, choices=range(65_536), metavar="PORT",
        help=f"on 127.0.0.1; 0: any that is free (default: {PORT})")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--no-browser", action="store_true", help="only print the address")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args()


def from_link(link: str) -> argparse.Namespace:
    """The settings after the # of a link, or such settings alone."""
    return controls.read(dict(parse_qsl(link.rpartition("#")[2], keep_blank_values=True)))


def main() -> None:
    asked = options()
    backend.use_device(asked.device)
    session = Session(from_link(asked.settings), asked.device)
    server = Server(session, asked.port)
    try:
        print(f"The laboratory is at {server.address}\nCtrl-C ends it.", flush=True)
        if not asked.no_browser:
            webbrowser.open(server.address)
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nThe laboratory is closed.")
    finally:
        session.close()
        server.server_close()


def show(settings: str = "", height: int = 900) -> Any:
    """In a notebook, the laboratory in the cell; settings as in a link. One for the whole kernel.

    The kernel must run on the machine of the browser: the laboratory listens to no other.
    """
    from IPython.display import IFrame

    if not _shown:
        _shown.append(Server(Session(from_link(settings), backend.device())))
        _shown[0].in_background()
    elif settings:
        session = _shown[0].session
        session.ask(session.change, from_link(settings))
    return IFrame(_shown[0].address, width="100%", height=height)
