#!/usr/bin/env python3
"""pydantic-ai's realtime agent talks with the simulator: on Voice Live, natively and as a cascade, and
on Azure OpenAI's GA side.

    pydantic_conversation.py HOST:PORT

The agent runs the tool and sends its answer by itself. What counts is what the agent's user gets: the
messages of the history, and the sound.
"""

import asyncio

import talk
from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest, ModelResponse, SpeechPart, ToolReturnPart
from pydantic_ai.providers.azure import AzureProvider
from pydantic_ai.realtime.azure import AzureRealtimeModel, AzureRealtimeModelSettings


def speech(messages, kind):
    """The transcripts of one side."""
    parts = [part for message in messages if isinstance(message, kind) for part in message.parts]
    return [part.transcript for part in parts if isinstance(part, SpeechPart)]


async def converse(address, name, model, **settings):
    asked = []
    agent = Agent(instructions="Be brief.")

    @agent.tool_plain
    def get_weather(city: str) -> dict:
        asked.append({"city": city})
        return talk.WEATHER_ANSWER

    endpoint = f"https://{address}"
    provider = AzureProvider(
        azure_endpoint=f"{endpoint}/openai/v1",
        api_key=talk.KEY,
        voice_live_endpoint=endpoint,
        voice_live_api_key=talk.KEY,
    )
    realtime = AzureRealtimeModel(
        model, provider=provider, settings=AzureRealtimeModelSettings(**settings)
    )
    async with agent.realtime(realtime).session() as session:

        async def spoken_turn():
            said, heard = talk.spoken(), bytearray()

            async def listen():
                async for chunk in session.stream_audio():
                    heard.extend(chunk)

            listening = asyncio.create_task(listen())
            await talk.within(session.send_audio(talk.microphone(said)), "speaking")
            await talk.within(session.wait_for_reply(), "the reply")
            for _ in range(100):
                # On a busy machine the sound is still on its way when the reply is done.
                if speech(session.all_messages(), ModelResponse) and len(heard) > talk.SPOKEN_MS * talk.BYTES_PER_MS:
                    break
                await asyncio.sleep(0.1)
            listening.cancel()
            talk.require_echo(said, bytes(heard))
            user = speech(session.all_messages(), ModelRequest)
            assistant = speech(session.all_messages(), ModelResponse)
            talk.require(len(user) == len(assistant) == 1, f"{user} {assistant}")
            talk.require_spoken_words(user[0], assistant[0])

        async def write(text):
            before = len(speech(session.all_messages(), ModelResponse))
            await session.send(text)
            await talk.within(session.wait_for_reply(), "the reply")
            return speech(session.all_messages(), ModelResponse)[before:]

        async def tool():
            told = await write(talk.WEATHER_QUESTION)
            talk.require(len(asked) == 1, f"called {len(asked)} times")
            talk.require_city(asked[0])
            parts = [part for message in session.all_messages() for part in message.parts]
            returned = [part for part in parts if isinstance(part, ToolReturnPart)]
            talk.require(len(returned) == 1, f"{returned}")
            talk.require(told == [talk.WEATHER_TOLD], f"{told}")

        async def typed():
            told = await write("Good morning")
            talk.require(told == ["[simulator] You wrote: Good morning"], f"{told}")

        return await talk.steps(
            [
                (f"{name}: a spoken turn is played back byte for byte", spoken_turn),
                (f"{name}: the agent's tool is called, and its result is spoken", tool),
                (f"{name}: a typed turn", typed),
            ]
        )


async def conversation(address):
    semantic = {
        "type": "azure_semantic_vad",
        "end_of_utterance_detection": {"model": "semantic_detection_v1"},
    }
    return (
        await converse(address, "Voice Live", talk.MODEL, azure_voice_live=True)
        and await converse(
            address,
            "cascade",
            "gpt-4.1-mini",
            azure_voice_live_turn_detection=semantic,
            azure_voice_live_noise_reduction="azure_deep_noise_suppression",
            azure_voice_live_echo_cancellation=True,
        )
        and await converse(address, "GA", talk.MODEL, input_transcription_model="gpt-4o-transcribe")
    )


talk.run(conversation)
