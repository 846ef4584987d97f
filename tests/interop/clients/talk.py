"""What the conversations of all Python clients share: the recordings, the pace, and what must be heard.

The simulator plays a spoken turn back, quotes a typed one and tells a tool's answer. So each
conversation can be judged by what the client's own user gets from it: words and sound.
"""

import asyncio
import pathlib
import sys
import time
import traceback

AUDIO = pathlib.Path(__file__).resolve().parent.parent.parent / "audio"
WAV_HEADER_BYTES = 44
BYTES_PER_MS = 48  # PCM16, 24 kHz, mono
CHUNK = 20 * BYTES_PER_MS
PACE = 3  # times real time
PATIENCE = 60.0  # seconds for one turn
SPOKEN_MS = 2000  # each recording holds more speech than that

KEY = "a-key-of-this-test"
MODEL = "gpt-realtime"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER_QUESTION = "What is the weather in Paris?"
WEATHER_ANSWER = {"condition": "fog"}
WEATHER_TOLD = "[simulator] The tool says that condition is fog."


class Failure(Exception):
    """What was expected and what came instead."""


def require(condition, message):
    if not condition:
        raise Failure(message)


def spoken(name="weather"):
    """A recording, and the silence by which the service knows that the turn is over."""
    parts = [(AUDIO / f"{part}.wav").read_bytes()[WAV_HEADER_BYTES:] for part in (name, "silence-1s")]
    return b"".join(parts)


async def microphone(pcm):
    """The recording as a microphone brings it, only faster."""
    start = time.monotonic()
    for offset in range(0, len(pcm), CHUNK):
        yield pcm[offset : offset + CHUNK]
        due = start + (offset + CHUNK) / BYTES_PER_MS / 1000 / PACE
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def require_echo(said, heard):
    """The reply to a spoken turn is that turn, byte for byte."""
    require(len(heard) > SPOKEN_MS * BYTES_PER_MS, f"a reply of {len(heard)} bytes only")
    require(said.find(heard) >= 0, f"{len(heard)} bytes of reply are not what was said")


def require_spoken_words(user, assistant):
    require(user.startswith("[simulator] (") and user.endswith("of speech)"), f"user: {user!r}")
    require(assistant.startswith("[simulator] You said that for "), f"assistant: {assistant!r}")


def require_city(arguments):
    require(arguments == {"city": "Paris"}, f"called with {arguments!r}")


async def within(awaitable, what, patience=PATIENCE):
    try:
        return await asyncio.wait_for(awaitable, patience)
    except asyncio.TimeoutError:
        raise Failure(f"{what}: nothing for {patience:.0f} s") from None


async def steps(named):
    """Carries out the steps one after the other, and says how each went; whether all passed."""
    for name, step in named:
        start = time.monotonic()
        try:
            await step()
        except Exception as failure:  # whatever it is, this step has failed
            traceback.print_exc()
            print(f"FAIL  {name}: {type(failure).__name__}: {failure}", flush=True)
            return False
        print(f"PASS  {name} ({time.monotonic() - start:.1f} s)", flush=True)
    return True


def run(conversation):
    """Runs `conversation(address)`, with HOST:PORT from the command line, to its verdict."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT")
    try:
        fine = asyncio.run(conversation(sys.argv[1]))
    except Exception as failure:
        traceback.print_exc()
        print(f"FAIL  {type(failure).__name__}: {failure}", flush=True)
        fine = False
    sys.exit(0 if fine else 1)
