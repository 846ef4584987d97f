#!/usr/bin/env python3
"""pipecat's Voice Live service talks with the simulator, natively and as a cascade.

    pipecat_conversation.py HOST:PORT

A pipeline as pipecat's users build it, with this script instead of a transport. The pipeline runs the
tool and asks for the answer by itself. What counts is what its user gets: the context, and the sound.
"""

import asyncio
import sys

import talk
from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    EndFrame,
    InputAudioRawFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.azure.voice_live.llm import AzureVoiceLiveLLMService
from pipecat.workers.runner import WorkerRunner

RATE = 24000


class Loudspeaker(FrameProcessor):
    """Keeps what is to be played."""

    def __init__(self):
        super().__init__()
        self.heard = bytearray()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.heard += frame.audio
        await self.push_frame(frame, direction)


async def converse(address, name, model):
    asked = []
    settings = AzureVoiceLiveLLMService.Settings(model=model)
    service = AzureVoiceLiveLLMService(
        endpoint=f"https://{address}", api_key=talk.KEY, settings=settings
    )

    async def get_weather(params):
        asked.append(dict(params.arguments))
        await params.result_callback(talk.WEATHER_ANSWER)

    service.register_function("get_weather", get_weather)
    tool = FunctionSchema("get_weather", "The weather in a city.", talk.WEATHER["properties"], ["city"])
    context = LLMContext(
        [{"role": "user", "content": "Good morning"}], ToolsSchema(standard_tools=[tool])
    )
    aggregators = LLMContextAggregatorPair(context)
    loudspeaker = Loudspeaker()
    pipeline = Pipeline([aggregators.user(), service, loudspeaker, aggregators.assistant()])
    params = PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
    worker = PipelineWorker(pipeline, params=params, cancel_on_idle_timeout=False)
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(worker, frame):
        started.set()

    def said_by(role):
        messages = [message for message in context.get_messages() if message.get("role") == role]
        return [message["content"] for message in messages if isinstance(message.get("content"), str)]

    async def told(words):
        """Waits until the assistant has said words that begin so."""
        for _ in range(int(talk.PATIENCE * 10)):
            found = [text for text in said_by("assistant") if text.startswith(words)]
            if found:
                return found[-1]
            await asyncio.sleep(0.1)
        raise talk.Failure(f"{words!r} was never said; the context is {context.get_messages()}")

    async def typed():
        await talk.within(started.wait(), "the pipeline")
        await worker.queue_frame(LLMRunFrame())
        words = await told("[simulator] You wrote: ")
        talk.require(words == "[simulator] You wrote: Good morning", words)

    async def spoken_turn():
        said = talk.spoken()
        loudspeaker.heard.clear()
        async for chunk in talk.microphone(said):
            await worker.queue_frame(InputAudioRawFrame(chunk, RATE, 1))
        words = await told("[simulator] You said that for ")
        talk.require_echo(said, bytes(loudspeaker.heard))
        talk.require_spoken_words(said_by("user")[-1], words)

    async def tool_turn():
        message = {"role": "user", "content": talk.WEATHER_QUESTION}
        await worker.queue_frame(LLMMessagesAppendFrame([message], run_llm=True))
        words = await told("[simulator] The tool ")
        talk.require(len(asked) == 1, f"called {len(asked)} times")
        talk.require_city(asked[0])
        talk.require(words == talk.WEATHER_TOLD, words)

    runner = WorkerRunner()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        return await talk.steps(
            [
                (f"{name}: a typed turn", typed),
                (f"{name}: a spoken turn is played back byte for byte", spoken_turn),
                (f"{name}: the pipeline's tool is called, and its result is spoken", tool_turn),
            ]
        )
    finally:
        await worker.queue_frame(EndFrame())
        await asyncio.wait([running], timeout=talk.PATIENCE)


async def conversation(address):
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    return await converse(address, "cascade", "gpt-4.1-mini") and await converse(
        address, "native", "gpt-realtime-2.1"
    )


talk.run(conversation)
