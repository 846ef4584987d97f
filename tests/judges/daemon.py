"""A `voicelived demo` with both ports on loopback and a state folder of its own."""

import contextlib
import os
import pathlib
import re
import subprocess
import tempfile
import time


class Demo:
    """Ports `plain` and `secure`, and `ca`, the file of its authority's certificate."""

    def __init__(self, program, folder):
        self.log = folder / "log"
        self.ca = folder / "state" / "ca.pem"
        settings = {
            "PATH": os.environ["PATH"],
            "VOICELIVED_TLS_LISTEN": "127.0.0.1:0",
            "VOICELIVED_STATE_DIR": str(folder / "state"),
            # Scanners name no port in their Host field; without this they would see 421 only.
            "VOICELIVED_ALLOWED_ORIGINS": "https://localhost",
        }
        command = [pathlib.Path(program).resolve(), "demo", "--listen", "127.0.0.1:0"]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                command, env=settings, cwd=folder, stdout=out, stderr=out
            )
        self.plain, self.secure = self.port("http"), self.port("https")

    def port(self, scheme):
        for _ in range(600):
            found = re.search(rf"listening on {scheme}://127\.0\.0\.1:(\d+)", self.log.read_text())
            if found:
                return int(found[1])
            time.sleep(0.1)
        raise SystemExit(f"no {scheme} port: {self.log.read_text()}")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Kilobytes resident, at most so far."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


@contextlib.contextmanager
def demo(program):
    with tempfile.TemporaryDirectory() as temporary:
        running = Demo(program, pathlib.Path(temporary))
        try:
            yield running
            if running.process.poll() is not None:
                raise SystemExit(f"the daemon ended: {running.log.read_text()}")
        finally:
            running.process.terminate()
            running.process.wait(60)
