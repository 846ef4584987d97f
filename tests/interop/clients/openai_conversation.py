#!/usr/bin/env python3
"""OpenAI's own Python client (GA realtime) talks with the simulator's GA side.

    openai_conversation.py HOST:PORT

Every event must be one that the client has a class for, in the class's own shape: pydantic validates
each again, and strictly as to what the class requires.
"""

import asyncio
import base64
import json

import talk
from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

EVENTS = TypeAdapter(RealtimeServerEvent)
TOOL = {"type": "function", "name": "get_weather", "description": "", "parameters": talk.WEATHER}


class Talk:
    def __init__(self, connection):
        self.connection = connection
        self.events = []

    async def until(self, kind, allowed=()):
        """Everything up to and including the next event of this type."""
        seen = []
        while not seen or seen[-1].type != kind:
            event = await talk.within(self.connection.recv(), kind)
            EVENTS.validate_python(event.to_dict(), strict=False)
            talk.require(event.type != "error" or "error" in allowed, f"{event}")
            seen.append(event)
        return seen

    async def write(self, text):
        part = {"type": "input_text", "text": text}
        item = {"type": "message", "role": "user", "content": [part]}
        await self.connection.conversation.item.create(item=item)
        await self.connection.response.create()
        return await self.until("response.done")


def only(events, kind):
    return [event for event in events if event.type == kind]


def transcript(events):
    return only(events, "response.output_audio_transcript.done")[0].transcript


def sound(events):
    return b"".join(base64.b64decode(e.delta) for e in only(events, "response.output_audio.delta"))


async def conversation(address):
    client = AsyncOpenAI(api_key=talk.KEY, base_url=f"https://{address}/openai/v1")
    async with client.realtime.connect(model=talk.MODEL) as connection:
        call = Talk(connection)

        async def session():
            await call.until("session.created")
            audio = {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "gpt-4o-mini-transcribe", "language": "en"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
            }
            wanted = {"type": "realtime", "model": talk.MODEL, "output_modalities": ["audio"]}
            await connection.session.update(session={**wanted, "audio": audio, "tools": [TOOL]})
            updated = (await call.until("session.updated"))[-1].session
            talk.require(updated.audio.output.voice == "marin", f"{updated}")

        async def spoken_turn():
            said = talk.spoken()

            async def speak():
                async for chunk in talk.microphone(said):
                    await connection.input_audio_buffer.append(audio=base64.b64encode(chunk).decode())

            speaking = asyncio.create_task(speak())
            events = await call.until("response.done")
            await speaking
            talk.require_echo(said, sound(events))
            completed = "conversation.item.input_audio_transcription.completed"
            words = (only(events, completed) or await call.until(completed))[-1]
            talk.require_spoken_words(words.transcript, transcript(events))
            talk.require(words.usage.type == "tokens", f"{words.usage}")
            parts = [e.part.type for e in events if e.type.startswith("response.content_part.")]
            talk.require(parts == ["audio", "audio"], f"{parts}")
            added = [e.item for e in only(events, "conversation.item.added")]
            talk.require(all("object" not in item.model_fields_set for item in added), f"{added}")

        async def tool():
            events = await call.write(talk.WEATHER_QUESTION)
            done = only(events, "response.function_call_arguments.done")[0]
            talk.require_city(json.loads(done.arguments))
            output = {"type": "function_call_output", "call_id": done.call_id}
            output["output"] = json.dumps(talk.WEATHER_ANSWER)
            await connection.conversation.item.create(item=output)
            await connection.response.create()
            told = transcript(await call.until("response.done"))
            talk.require(told == talk.WEATHER_TOLD, told)

        async def typed():
            told = transcript(await call.write("Good morning"))
            talk.require(told == "[simulator] You wrote: Good morning", told)

        async def aside():
            """A response outside of the conversation, with its own input and in text."""
            part = {"type": "input_text", "text": "Classify this"}
            item = {"type": "message", "role": "user", "content": [part]}
            aside = {"conversation": "none", "input": [item], "output_modalities": ["text"]}
            await connection.response.create(response={**aside, "metadata": {"topic": "x"}})
            events = await call.until("response.done")
            done = events[-1].response
            talk.require(done.conversation_id is None, f"in conversation {done.conversation_id}")
            talk.require(done.metadata == {"topic": "x"}, f"{done.metadata}")
            text = only(events, "response.output_text.done")[0].text
            talk.require(text == "[simulator] You wrote: Classify this", text)
            announced = [e for e in events if e.type.startswith("conversation.item.")]
            talk.require(not announced, f"{announced}")

        async def cancel():
            part = {"type": "input_text", "text": "Once upon a time. " * 40}
            item = {"type": "message", "role": "user", "content": [part]}
            await connection.conversation.item.create(item=item)
            await connection.response.create()
            created = (await call.until("response.created"))[-1].response.id
            await connection.response.cancel()
            done = (await call.until("response.done"))[-1].response
            talk.require((done.id, done.status) == (created, "cancelled"), f"{done}")
            await connection.output_audio_buffer.clear()
            cleared = (await call.until("output_audio_buffer.cleared"))[-1]
            talk.require(cleared.response_id == created, f"{cleared}")

        return await talk.steps(
            [
                ("session.created and session.updated", session),
                ("a spoken turn is played back byte for byte", spoken_turn),
                ("a typed turn calls a tool, and the result is spoken", tool),
                ("a typed turn", typed),
                ("a response outside of the conversation", aside),
                ("response.cancel and output_audio_buffer.clear", cancel),
            ]
        )


talk.run(conversation)
