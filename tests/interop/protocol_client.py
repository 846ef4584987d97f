"""The Python client of docs/protocol.md, as it stands there: python protocol_client.py DAEMON

It talks with `voicelived demo` through a relay that breaks: not at all, while the user speaks, while the
answer comes, and for longer than the daemon holds a call."""

import asyncio
import os
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEECH = ROOT / "tests/audio/weather.wav"
WHOLE_RUN = 300.0  # it takes 45 s, and more on a busy machine
WORDS = [
    "user: [simulator] (3.0 seconds of speech)",
    "assistant: [simulator] You said that for 3.0 seconds; here it is again.",
    "ended You ended the call.",
]


class Relay:
    """Passes bytes on, until it breaks."""

    def __init__(self):
        self.port, self.pairs, self.away, self.visits = 0, [], False, 0

    async def start(self):
        server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def relay(self, reader, writer):
        self.visits += 1
        if self.away:
            return writer.transport.abort()
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self.pairs += [writer, back]
        await asyncio.gather(carry(reader, back), carry(there, writer))

    def break_all(self):
        for writer in self.pairs:
            writer.transport.abort()
        self.pairs.clear()


async def carry(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
    except OSError:
        pass


async def started(daemon, relay):
    process = await asyncio.create_subprocess_exec(
        daemon, "demo", "--listen", "127.0.0.1:0", stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "VOICELIVED_RESUME_SECONDS": "3",
            "VOICELIVED_ALLOWED_ORIGINS": f"http://127.0.0.1:{relay}",  # clients name it as their host
        },
    )
    async for line in process.stderr:
        if found := re.search(rb"listening on http://127.0.0.1:(\d+)", line):
            return process, int(found[1])
    raise SystemExit("the daemon does not listen")


async def talk(client, relay, port, faults):
    """Runs the client. `faults` has, for each line that it prints, what happens to the relay then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", client, f"ws://127.0.0.1:{port}/ws", SPEECH, stdout=asyncio.subprocess.PIPE
    )
    lines = []
    async for line in process.stdout:
        lines.append(line.decode().rstrip())
        for word, fault in list(faults.items()):
            if lines[-1].startswith(word):
                asyncio.create_task(fault(relay))
                del faults[word]
    await process.wait()
    return lines


def after(seconds, away=False):
    async def fault(relay):
        await asyncio.sleep(seconds)
        relay.away = away
        relay.break_all()

    return fault


async def main():
    text = (ROOT / "docs/protocol.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    relay = Relay()
    port = await relay.start()
    daemon, relay.port = await started(sys.argv[1], port)
    try:
        await judge(code, relay, port)
    finally:
        daemon.terminate()
        await daemon.wait()


async def judge(code, relay, port):
    with tempfile.TemporaryDirectory() as folder:
        client = pathlib.Path(folder) / "client.py"
        client.write_text(code)
        for name, faults, lost in [
            ("nothing breaks", {}, 0),
            ("while the user speaks", {"active": after(2.5)}, 1),
            ("while the answer comes", {"user: ": after(0.3)}, 1),
            ("twice", {"active": after(2.0), "user: ": after(0.2)}, 2),
        ]:
            relay.visits = 0
            lines = await talk(client, relay, port, faults)
            said = [line for line in lines if line.startswith(("assistant", "user", "ended"))]
            # How much of the welcome is heard before the user speaks depends on the machine.
            assert said[0].startswith("assistant: [simulator] This is") and said[1:] == WORDS, (name, lines)
            assert sum(line.startswith("lost") for line in lines) == lost, (name, lines)
            assert relay.visits == lost + 1, (name, relay.visits)
            # The simulator plays back what it has heard: a piece that is missing would be one of the answer.
            to_play = int(lines[-1].split()[0])
            assert lines[-1].endswith("close code 1000") and 3000 <= to_play <= 3120, (name, lines)
            print(f"PASS {name}: {lines[-1]}")
        lines = await talk(client, relay, port, {"active": after(1.0, away=True)})
        # Fewer where each try takes its time.
        assert 3 <= sum(line.startswith("lost") for line in lines) <= 9, lines
        assert not any(line.startswith("ended") for line in lines), lines
        print("PASS away for good: it gives up in time")


asyncio.run(asyncio.wait_for(main(), WHOLE_RUN))
