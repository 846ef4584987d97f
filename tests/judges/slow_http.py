"""slowhttptest against both ports of the daemon: slow heads (-H) and slow readers (-X).

Usage: slow_http.py DAEMON

400 slow connections, more than there are places. Meanwhile the page's health is asked for ten times
a second on the same port: every answer must come. The tool must see the service available
throughout, and it is the daemon that closes all of them while the tool still goes on.
"""

import collections
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import daemon

CONNECTIONS, RATE = 400, 100
# So many at once are an attack: there are 64 places, fewer on a machine that is busy itself.
ATTACK = 40
# Each has 5 s for its head, or for taking its answer. A slow reader finds out that it was closed
# when it has read what its kernel holds, so the daemon's descriptors tell when all are gone: for so
# long there is none but a visitor's. The tool would go on for the rest of its time.
QUIET, SECONDS = 3, 90
MODES = {
    "slow heads": ["-H", "-i", "1", "-x", "8"],
    # A window of 8 to 16 bytes, 4 of them read every second; each asks for ten answers.
    "slow readers": ["-X", "-k", "10", "-w", "8", "-y", "16", "-n", "1", "-z", "4"],
}


class Visitor(threading.Thread):
    """Asks for /healthz until told to stop, and watches the daemon's descriptors."""

    def __init__(self, running, url, authority):
        super().__init__()
        self.running, self.url = running, url
        self.answers, self.worst, self.wrong = 0, 0.0, []
        # When the daemon last held more than a visitor's descriptor, and the most it held.
        self.before, self.busy, self.most = running.descriptors(), time.monotonic(), 0
        self.over = threading.Event()
        self.context = ssl.create_default_context(cafile=authority) if authority else None

    def run(self):
        while not self.over.wait(0.1):
            start = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, timeout=60, context=self.context) as answer:
                    if answer.read() != b"ok":
                        self.wrong.append("another answer")
            except OSError as error:
                self.wrong.append(str(error))
            self.answers += 1
            self.worst = max(self.worst, time.monotonic() - start)
            held = self.running.descriptors() - self.before
            self.most = max(self.most, held)
            if held > 1:
                self.busy = time.monotonic()

    def sees_all_gone(self):
        return self.most >= ATTACK and time.monotonic() - self.busy > QUIET


def attack(url, options, visitor):
    """Runs slowhttptest until the daemon has closed all; what was wrong."""
    command = ["slowhttptest", *options, "-u", url, "-c", str(CONNECTIONS), "-r", str(RATE)]
    command += ["-l", str(SECONDS), "-p", "30"]
    with tempfile.TemporaryFile("w+") as output:
        tool = subprocess.Popen(command, stdout=output, stderr=output)
        while tool.poll() is None and not visitor.sees_all_gone():
            time.sleep(0.1)
        # Told to stop, it says what it has seen.
        tool.send_signal(signal.SIGINT)
        tool.wait(60)
        output.seek(0)
        text = re.sub(r"\x1b\[[0-9;]*m", "", output.read())
    wrong = []
    available = collections.Counter(re.findall(r"service available:\s+(\w+)", text))
    if set(available) != {"YES"}:
        wrong.append(f"service available: {dict(available)}; {text[-300:]}")
    if visitor.most < ATTACK:
        wrong.append(f"no attack: {visitor.most} connections at once")
    elif "Hit test time limit" in text:
        wrong.append("some are not closed")
    return wrong


def judge(running, scheme, mode):
    port = running.secure if scheme == "https" else running.plain
    base = f"{scheme}://localhost:{port}"
    visitor = Visitor(running, f"{base}/healthz", running.ca if scheme == "https" else None)
    visitor.start()
    start = time.monotonic()
    try:
        wrong = attack(f"{base}/app.js", MODES[mode], visitor)
    except (OSError, subprocess.SubprocessError) as error:
        wrong = [str(error)]
    visitor.over.set()
    visitor.join()
    wrong += visitor.wrong
    print(
        f"{mode} on {scheme}: {'FAILED' if wrong else 'passed'}: at most {visitor.most} at once, "
        f"all closed after {visitor.busy - start:.1f} s; "
        f"{visitor.answers} visitors, longest wait {visitor.worst * 1000:.0f} ms"
    )
    for what in wrong:
        print(f"{mode} on {scheme}: {what}")
    return not wrong


def main(words):
    if len(words) != 1:
        raise SystemExit(__doc__)
    with daemon.demo(words[0]) as running:
        passed = [judge(running, scheme, mode) for scheme in ("http", "https") for mode in MODES]
        print(f"memory at most {running.memory()} kB")
    sys.exit(not all(passed))


if __name__ == "__main__":
    main(sys.argv[1:])
