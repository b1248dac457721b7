"""How fast the laboratory trains with its page and without, and how many pictures the page gets.

    python tests/benchmarks/lab.py [SETTINGS, as in a link]

The page is open in a headless Chromium, which draws without a GPU; or, with --no-browser, a
process reads what a page would be sent, and draws nothing. Rounds with and without a page take
turns, so that other work on the machine meets both.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tinygan import lab

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import Browser

ROUNDS, SECONDS = 5, 3
READER = """
import sys, urllib.request
for line in urllib.request.urlopen(sys.argv[1]):
    if line == b"event: picture\\n":
        print(flush=True)
"""


def steps_in_a_second(session):
    began, before = time.perf_counter(), session.step
    time.sleep(SECONDS)
    return (session.step - before) / (time.perf_counter() - began)


def with_a_browser(server):
    """Steps and drawn pictures in a second while the page is open in a browser."""
    browser = Browser()
    browser.go(server.address)
    browser.wait("picture")
    browser.script("""window.drawn = 0;
        const tell = () => { if (picture !== window.last) { window.last = picture; drawn += 1; }
                             requestAnimationFrame(tell); };
        tell();""")
    steps, pictures = steps_in_a_second(server.session), browser.script("return drawn") / SECONDS
    browser.close()
    return steps, pictures


def with_a_reader(server):
    address = server.address.replace("/?", "/events?")
    reader = subprocess.Popen([sys.executable, "-c", READER, address], stdout=subprocess.PIPE)
    reader.stdout.readline()
    steps = steps_in_a_second(server.session)
    reader.kill()
    return steps, len(reader.communicate()[0]) / SECONDS


def main():
    words = [word for word in sys.argv[1:] if word != "--no-browser"]
    page = with_a_reader if "--no-browser" in sys.argv else with_a_browser
    server = lab.Server(lab.Session(lab.from_link(*words or [""])))
    server.in_background()
    server.session.ask(server.session.play)
    time.sleep(1)
    rounds = [(steps_in_a_second(server.session), *page(server)) for _ in range(ROUNDS)]
    server.session.close()
    alone, watched, pictures = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(row[1] / row[0] for row in rounds)
    print(f"{alone:.0f} steps a second without a page, {watched:.0f} with one: {ratio:.0%}; "
          f"{pictures:.1f} pictures a second")


if __name__ == "__main__":
    main()
