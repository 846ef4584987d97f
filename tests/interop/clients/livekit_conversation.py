#!/usr/bin/env python3
"""LiveKit's agent with its Voice Live plugin talks with the simulator, natively and as a cascade.

    livekit_conversation.py HOST:PORT

There is no room: microphone and loudspeaker are this script's. The agent runs the tool and asks for the
answer by itself. What counts is what its user gets: the history, and the sound.
"""

import asyncio
import json

import talk
from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.voice import io
from livekit.plugins.azure.realtime import RealtimeModel

RATE = 24000


class Microphone(io.AudioInput):
    """Silent until somebody speaks."""

    def __init__(self):
        super().__init__(label="microphone")
        self.frames = asyncio.Queue()

    async def __anext__(self):
        return await self.frames.get()

    async def speak(self, pcm):
        async for chunk in talk.microphone(pcm):
            frame = rtc.AudioFrame(chunk, RATE, 1, len(chunk) // 2)
            self.frames.put_nowait(frame)


class Loudspeaker(io.AudioOutput):
    """Plays at once whatever comes, and keeps it."""

    def __init__(self):
        super().__init__(
            label="loudspeaker", capabilities=io.AudioOutputCapabilities(pause=True), sample_rate=RATE
        )
        self.heard = bytearray()
        self.segment = 0.0

    async def capture_frame(self, frame):
        await super().capture_frame(frame)
        self.heard += bytes(frame.data)
        self.segment += frame.duration

    def flush(self):
        super().flush()
        self.finish(interrupted=False)

    def clear_buffer(self):
        self.finish(interrupted=True)

    def pause(self):
        """What comes is played at once, so there is nothing left to pause."""

    def resume(self):
        """See `pause`."""

    def finish(self, interrupted):
        if self.segment > 0:
            self.on_playback_finished(playback_position=self.segment, interrupted=interrupted)
            self.segment = 0.0


class Assistant(Agent):
    def __init__(self):
        super().__init__(instructions="Be brief.")
        self.asked = []

    @function_tool
    async def get_weather(self, city: str) -> str:
        """The weather in a city."""
        self.asked.append({"city": city})
        return json.dumps(talk.WEATHER_ANSWER)


async def converse(address, name, model):
    realtime = RealtimeModel(endpoint=f"https://{address}", api_key=talk.KEY, model=model)
    session = AgentSession(llm=realtime)
    microphone, loudspeaker, assistant = Microphone(), Loudspeaker(), Assistant()
    session.input.audio, session.output.audio = microphone, loudspeaker
    await talk.within(session.start(agent=assistant), "the session")
    try:

        def said_by(role):
            items = session.history.items
            return [item.text_content for item in items if item.type == "message" and item.role == role]

        async def reply(count):
            """Waits for so many messages of the assistant, and returns the last."""
            for _ in range(int(talk.PATIENCE * 10)):
                if len(said_by("assistant")) >= count:
                    return said_by("assistant")[-1]
                await asyncio.sleep(0.1)
            raise talk.Failure(f"no reply; the history is {session.history.items}")

        async def spoken_turn():
            said = talk.spoken()
            await microphone.speak(said)
            assistant_words = await reply(1)
            talk.require_echo(said, bytes(loudspeaker.heard))
            talk.require_spoken_words(said_by("user")[0], assistant_words)

        async def tool():
            before = len(said_by("assistant"))
            session.generate_reply(user_input=talk.WEATHER_QUESTION)
            told = await reply(before + 1)
            talk.require(len(assistant.asked) == 1, f"called {len(assistant.asked)} times")
            talk.require_city(assistant.asked[0])
            talk.require(told == talk.WEATHER_TOLD, told)

        async def typed():
            before = len(said_by("assistant"))
            session.generate_reply(user_input="Good morning")
            told = await reply(before + 1)
            talk.require(told == "[simulator] You wrote: Good morning", told)

        return await talk.steps(
            [
                (f"{name}: a spoken turn is played back byte for byte", spoken_turn),
                (f"{name}: the agent's tool is called, and its result is spoken", tool),
                (f"{name}: a typed turn", typed),
            ]
        )
    finally:
        await session.aclose()


async def conversation(address):
    return await converse(address, "native", talk.MODEL) and await converse(
        address, "cascade", "gpt-4.1-mini"
    )


talk.run(conversation)
