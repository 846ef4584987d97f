"""The Python sample's stack re-created: Quart serves the page's WebSocket, the official SDK talks
with the service. One task for each direction of a call; uvloop, because a good engineer adds it.

    PORT=8000 AZURE_VOICE_LIVE_ENDPOINT=… AZURE_VOICE_LIVE_API_KEY=… VOICE_LIVE_MODEL=… python relay.py
"""

import asyncio
import base64
import json
import logging
import os

import uvloop
from azure.ai.voicelive.aio import connect
from azure.ai.voicelive.models import (
    AudioEchoCancellation,
    AudioInputTranscriptionOptions,
    AudioNoiseReduction,
    AzureSemanticVad,
    AzureStandardVoice,
    InputAudioFormat,
    Modality,
    OutputAudioFormat,
    RequestSession,
    ServerEventType,
)
from azure.core.credentials import AzureKeyCredential
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, websocket

app = Quart(__name__)
log = logging.getLogger("relay")

SESSION = RequestSession(
    modalities=[Modality.TEXT, Modality.AUDIO],
    instructions="You are a friendly assistant. Answer briefly.",
    voice=AzureStandardVoice(name="en-US-Ava:DragonHDLatestNeural"),
    input_audio_format=InputAudioFormat.PCM16,
    output_audio_format=OutputAudioFormat.PCM16,
    input_audio_sampling_rate=24000,
    turn_detection=AzureSemanticVad(threshold=0.5, prefix_padding_ms=300, silence_duration_ms=500),
    input_audio_noise_reduction=AudioNoiseReduction(type="azure_deep_noise_suppression"),
    input_audio_echo_cancellation=AudioEchoCancellation(),
    input_audio_transcription=AudioInputTranscriptionOptions(model="azure-speech"),
)


async def microphone(connection):
    while True:
        message = await websocket.receive()
        if isinstance(message, bytes):
            await connection.input_audio_buffer.append(audio=base64.b64encode(message).decode("ascii"))


async def reply(connection):
    async for event in connection:
        kind = event.type
        if kind == ServerEventType.RESPONSE_AUDIO_DELTA:
            await websocket.send(event.delta)
        elif kind == ServerEventType.INPUT_AUDIO_BUFFER_SPEECH_STARTED:
            await websocket.send(json.dumps({"type": "speech_started"}))
        elif kind == ServerEventType.RESPONSE_AUDIO_TRANSCRIPT_DONE:
            await transcript("assistant", event.transcript)
        elif kind == ServerEventType.CONVERSATION_ITEM_INPUT_AUDIO_TRANSCRIPTION_COMPLETED:
            await transcript("user", event.transcript)
        elif kind == ServerEventType.ERROR:
            log.error("the service reports %s", event.error.message)


async def transcript(role, text):
    await websocket.send(json.dumps({"type": "transcript", "role": role, "text": text}))


@app.websocket("/ws")
async def call():
    async with connect(
        endpoint=os.environ["AZURE_VOICE_LIVE_ENDPOINT"],
        credential=AzureKeyCredential(os.environ["AZURE_VOICE_LIVE_API_KEY"]),
        model=os.environ["VOICE_LIVE_MODEL"],
    ) as connection:
        await connection.session.update(session=SESSION)
        tasks = [asyncio.ensure_future(microphone(connection)), asyncio.ensure_future(reply(connection))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    await websocket.send(json.dumps({"type": "call_state", "state": "ended"}))


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['PORT']}"]
    uvloop.run(serve(app, config))
