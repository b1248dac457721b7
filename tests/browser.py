"""A headless Chromium, driven through chromedriver by the W3C's WebDriver protocol."""

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request

MISSING = "" if shutil.which("chromedriver") and shutil.which("chromium") else (
    "no Chromium here: apt-get install chromium chromium-driver")


class Browser:
    """One window. The console's messages are kept; scripts may return what JSON can hold."""

    def __init__(self, width=1500, height=1000):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started = next(line for line in self.driver.stdout if "started successfully" in line)
        self.root = f"http://127.0.0.1:{re.search('port ([0-9]+)', started)[1]}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--window-size={width},{height}"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments},
                  "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.root += "/" + session["sessionId"]

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def go(self, address):
        self._ask("POST", "/url", {"url": address})

    def script(self, code, *arguments):
        return self._ask("POST", "/execute/sync", {"script": code, "args": arguments})

    def wait(self, condition, seconds=20):
        """Until a JavaScript expression is true; its value. Fails with what the page says."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if value := self.script(f"return {condition}"):
                return value
            time.sleep(0.05)
        raise AssertionError(f"{condition} did not come true; the page says: "
                             + self.script("return document.body.innerText.slice(0, 900)"))

    def click(self, name):
        self.script("document.getElementById(arguments[0]).click()", name)

    def press(self, key):
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": [
            {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]}]})

    def drag(self, places, kind="mouse"):
        """Press at the first of places (x, y) in the window, move over the others, let go."""
        moves = [{"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}
                 for x, y in places]
        strokes = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:],
                   {"type": "pointerUp", "button": 0}]
        self._ask("POST", "/actions", {"actions": [{
            "type": "pointer", "id": kind, "parameters": {"pointerType": kind},
            "actions": strokes}]})

    def console(self):
        """What the console has shown since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def choose_scheme(self, scheme):
        """Let the page think that the user prefers "dark" or "light"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("POST", "/goog/cdp/execute", {
            "cmd": "Emulation.setEmulatedMedia", "params": {"features": features}})

    def resize(self, width, height):
        self._ask("POST", "/window/rect", {"width": width, "height": height})

    def screenshot(self):
        """PNG bytes of the window."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def close(self):
        self._ask("DELETE", "")
        self.driver.terminate()
        self.driver.wait()
