#!/usr/bin/env python3
"""Holds whole conversations with a Voice Live service through Microsoft's official SDK.

    sdk_conversation.py ws://127.0.0.1:PORT [API_KEY]

The judge of the simulator that knows nothing of the simulator's own code: every event must be one
the SDK has a model for, with all the fields that model requires. Prints PASS or FAIL per step and
exits 1 after the first failure. Works at reply speeds from 2 to 20, with and without the simulator's
welcome; start it without scripted faults that break replies.
"""

import asyncio
import base64
import json
import pathlib
import sys
import time
import typing

from azure.ai.voicelive import models
from azure.ai.voicelive.aio import ConnectionError as VoiceLiveError
from azure.ai.voicelive.aio import connect
from azure.core.credentials import AzureKeyCredential

AUDIO = pathlib.Path(__file__).resolve().parent.parent / "audio"
WAV_HEADER_BYTES = 44
BYTES_PER_MS = 48
CHUNK = 20 * BYTES_PER_MS
PACE = 3  # times real time: as fast as a test may be, as slow as a microphone must be
PATIENCE = 60.0  # seconds for any one event
WHOLE_RUN = 600.0

# Sent by the service (recorded with api-version 2026-04-10), unknown to the SDK.
WITHOUT_MODEL = {"conversation.item.done"}

# Required by the SDK's model, which it shares with requests; the service was recorded without it.
NEVER_SENT = {(models.RequestAudioContentPart, "audio")}

TURN_START = ["input_audio_buffer.speech_started"]
TURN_END = [
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.created",
    "conversation.item.done",
    "response.created",
]
REPLY = [
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
STOCK = {
    "type": "object",
    "properties": {"symbol": {"type": "string"}},
    "required": ["symbol"],
    "additionalProperties": False,
}


class Failure(Exception):
    """What was expected and what came instead."""


def require(condition, message):
    if not condition:
        raise Failure(message)


def pcm(name):
    return (AUDIO / f"{name}.wav").read_bytes()[WAV_HEADER_BYTES:]


def unmet(value, path):
    """Names of required fields of SDK models, at any depth, that hold nothing."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unmet(item, f"{path}[{index}]")
        return
    if not hasattr(value, "_attr_to_rest_field"):
        return
    for name, field in type(value)._attr_to_rest_field.items():
        hint = None
        for base in type(value).__mro__:
            hint = hint or base.__dict__.get("__annotations__", {}).get(name)
        inner = getattr(value, name)
        rest = getattr(field, "_rest_name", name)
        optional = "Optional[" in str(hint) or "NoneType" in str(typing.get_args(hint))
        if (type(value), name) in NEVER_SENT:
            continue
        if inner is None and hint is not None and not optional:
            yield f"{path}.{rest}"
        yield from unmet(inner, f"{path}.{rest}")


class Talk:
    """One connection: a reader that checks every event, and a microphone."""

    def __init__(self, connection):
        self.connection = connection
        self.events = asyncio.Queue()
        self.seen = []
        self.sent = bytearray()
        self.speaking = False
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        try:
            while True:
                event = await self.connection.recv()
                self.events.put_nowait((time.monotonic(), event))
        except (Exception, asyncio.CancelledError) as error:  # the queue tells the waiting step
            self.events.put_nowait((time.monotonic(), error))

    def check(self, event):
        kind = event.get("type")
        if type(event) is models.ServerEvent:
            require(kind in WITHOUT_MODEL, f"the SDK has no model for {kind}")
        missing = list(unmet(event, kind))
        require(not missing, f"required by the SDK, but absent: {missing}")

    async def next(self, patience=PATIENCE):
        try:
            when, event = await asyncio.wait_for(self.events.get(), patience)
        except asyncio.TimeoutError:
            last = [event.get("type") for event in self.seen[-5:]]
            raise Failure(f"nothing for {patience} s; last events {last}") from None
        if isinstance(event, BaseException):
            raise Failure(f"the connection ended: {event!r}")
        self.check(event)
        event.arrived = when
        self.seen.append(event)
        return event

    async def until(self, kind, allow_error=False):
        """Everything up to and including the next event of this type."""
        events = []
        while True:
            event = await self.next()
            if event["type"] == "error" and not allow_error:
                raise Failure(f"error while waiting for {kind}: {event['error']}")
            events.append(event)
            if event["type"] == kind:
                return events

    async def quiet(self, seconds):
        """Everything that arrives within this time."""
        events, end = [], time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                events.append(await self.next(left))
            except Failure:
                if self.events.empty() and not self.reader.done():
                    break
                raise
        return events

    async def speak(self, data):
        start = time.monotonic()
        self.speaking = True
        for offset in range(0, len(data), CHUNK):
            if not self.speaking:
                break
            chunk = data[offset : offset + CHUNK]
            self.sent += chunk
            audio = base64.b64encode(chunk).decode()
            await self.connection.input_audio_buffer.append(audio=audio)
            due = start + (offset + CHUNK) / BYTES_PER_MS / 1000 / PACE
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def type(self, text):
        item = models.UserMessageItem(content=[models.InputTextContentPart(text=text)])
        await self.connection.conversation.item.create(item=item)
        await self.until("conversation.item.created")
        await self.connection.response.create()

    async def reply(self):
        return await self.until("response.done")


def kinds(events):
    names = [event["type"] for event in events]
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


def only(events, kind):
    return [event for event in events if event["type"] == kind]


def in_order(events, expected):
    """The expected types occur in this order, others between them."""
    names = iter(event["type"] for event in events)
    for kind in expected:
        require(any(name == kind for name in names), f"no {kind} in its place: {kinds(events)}")


def reply_audio(events):
    deltas = only(events, "response.audio.delta")
    for delta in deltas:
        require(isinstance(delta.delta, bytes), f"delta is {type(delta.delta)}, not bytes")
    return b"".join(delta.delta for delta in deltas)


def transcript(events):
    text = only(events, "response.audio_transcript.done")[-1].transcript
    pieces = "".join(e.delta for e in only(events, "response.audio_transcript.delta"))
    require(text == pieces, f"transcript {text!r} is not the sum of its deltas {pieces!r}")
    require(text.startswith("[simulator] "), f"not labelled: {text!r}")
    return text


def session(silence_ms=500, **more):
    fields = dict(
        modalities=[models.Modality.TEXT, models.Modality.AUDIO],
        instructions="You are a friendly assistant. Answer briefly.",
        voice=models.AzureStandardVoice(name="en-US-AvaNeural", temperature=0.8),
        input_audio_format=models.InputAudioFormat.PCM16,
        output_audio_format=models.OutputAudioFormat.PCM16,
        input_audio_sampling_rate=24000,
        turn_detection=models.AzureSemanticVad(
            threshold=0.5,
            silence_duration_ms=silence_ms,
            create_response=True,
            interrupt_response=True,
            auto_truncate=True,
        ),
        input_audio_noise_reduction=models.AudioNoiseReduction(type="azure_deep_noise_suppression"),
        input_audio_echo_cancellation=models.AudioEchoCancellation(),
        input_audio_transcription=models.AudioInputTranscriptionOptions(
            model="whisper-1", language="en"
        ),
        tools=[
            models.FunctionTool(name="get_weather", description="Weather", parameters=WEATHER),
            models.FunctionTool(name="get_stock_price", description="Stock", parameters=STOCK),
        ],
        tool_choice=models.ToolChoiceLiteral.AUTO,
        temperature=0.8,
        max_response_output_tokens=1024,
    )
    fields.update(more)
    return models.RequestSession(**fields)


async def step_session(talk):
    created = await talk.next()
    require(isinstance(created, models.ServerEventSessionCreated), f"first came {created}")
    require(created.session.model == "voicelived-simulator", f"model {created.session.model}")
    require(created.session.id.startswith("sim_"), f"id {created.session.id}")
    require(created.session.expires_at is not None, "no expires_at")
    require(isinstance(created.session.turn_detection, models.ServerVad), "no default detection")
    # The SDK leaves the union of voices a mapping.
    require(created.session.voice["type"] == "openai", f"{created.session.voice!r}")
    await talk.connection.session.update(session=session())
    updated = (await talk.until("session.updated"))[-1]
    require(isinstance(updated, models.ServerEventSessionUpdated), f"{type(updated)}")
    detection = updated.session.turn_detection
    require(isinstance(detection, models.AzureSemanticVad), f"{detection!r}")
    require(detection.auto_truncate and detection.prefix_padding_ms == 420, f"{detection}")
    names = [tool.name for tool in updated.session.tools]
    require(names == ["get_weather", "get_stock_price"], f"tools {names}")
    require(isinstance(updated.session.tools[0], models.FunctionTool), "untyped tool")
    require(updated.session.voice["name"] == "en-US-AvaNeural", f"{updated.session.voice!r}")
    if any(event["type"] == "response.created" for event in await talk.quiet(0.8)):
        done = talk.seen[-1]["type"] == "response.done"
        welcome = talk.seen if done else talk.seen + await talk.reply()
        transcript(welcome)


async def spoken_turn(talk, data, spoken_ms, silence_ms=500):
    """Speaks and returns the events from speech_started to response.done."""
    base_ms = len(talk.sent) // BYTES_PER_MS
    speaking = asyncio.create_task(talk.speak(data))
    events = await talk.until("response.done")
    await speaking
    started = only(events, "input_audio_buffer.speech_started")[0]
    stopped = only(events, "input_audio_buffer.speech_stopped")[0]
    onset, end = base_ms + spoken_ms[0] - 420, base_ms + spoken_ms[1] + silence_ms
    require(abs(started.audio_start_ms - onset) <= 80, f"start {started.audio_start_ms}, {onset}")
    require(abs(stopped.audio_end_ms - end) <= 200, f"end {stopped.audio_end_ms}, {end}")
    require(started.item_id == stopped.item_id, "two ids for one turn")
    return events


async def step_turn(talk):
    data = pcm("weather") + pcm("silence-1s")
    events = await spoken_turn(talk, data, (500, 2760))
    in_order(events, TURN_START + TURN_END + REPLY)
    started = only(events, "input_audio_buffer.speech_started")[0].audio_start_ms
    stopped = only(events, "input_audio_buffer.speech_stopped")[0].audio_end_ms
    heard = reply_audio(events)
    said = bytes(talk.sent[started * BYTES_PER_MS : stopped * BYTES_PER_MS])
    require(heard == said, f"the reply ({len(heard)} bytes) is not the turn ({len(said)} bytes)")
    require("You said that for" in transcript(events), transcript(events))
    kind = "conversation.item.input_audio_transcription.completed"
    # It may come at any time after the commit, also behind the reply.
    words = (only(events, kind) or await talk.until(kind))[-1]
    item = only(events, "input_audio_buffer.committed")[0].item_id
    require(words.item_id == item and "of speech" in words.transcript, f"{words}")
    done = events[-1].response
    require(done.status == models.ResponseStatus.COMPLETED, f"status {done.status}")
    require(isinstance(done.output[0], models.ResponseMessageItem), f"{done.output!r}")
    require(done.usage.total_tokens > 0, "no usage")


async def step_pace(talk):
    """Replies are faster than real time."""
    events = await spoken_turn(talk, pcm("stock") + pcm("silence-1s"), (500, 3120))
    deltas = only(events, "response.audio.delta")
    length = len(reply_audio(events)) / BYTES_PER_MS / 1000
    took = deltas[-1].arrived - deltas[0].arrived
    require(took < length / 1.5, f"{length:.1f} s of audio in {took:.1f} s")
    sizes = [len(delta.delta) / BYTES_PER_MS for delta in deltas[:-1]]
    require(all(150 <= size <= 350 for size in sizes), f"deltas of {sizes} ms")


async def step_barge_in(talk):
    """A turn of eight seconds, interrupted while the service is still sending its echo."""
    await talk.connection.session.update(session=session(silence_ms=1200, tools=[]))
    await talk.until("session.updated")
    speaking = asyncio.create_task(talk.speak(pcm("long-pauses") + pcm("silence-1s")))
    events = await talk.until("response.audio.delta")
    talk.speaking = False
    await speaking
    await talk.connection.session.update(session=session(tools=[]))
    response = only(events, "response.created")[0].response.id
    # Without its leading silence: a fast service is done in less time than that.
    words = pcm("greeting")[450 * BYTES_PER_MS :] + pcm("silence-1s")
    interrupting = asyncio.create_task(talk.speak(words))
    events = await talk.until("input_audio_buffer.speech_started")
    if only(events, "response.done"):
        raise Failure("the reply was over before it could be interrupted: use a lower speed")
    events = await talk.until("response.done")
    done = events[-1].response
    require(done.id == response, f"another response ended: {done.id}")
    require(done.status == models.ResponseStatus.CANCELLED, f"status {done.status}")
    require(isinstance(done.status_details, models.ResponseCancelledDetails), f"{done}")
    require(done.status_details.reason == "turn_detected", f"{done.status_details}")
    require(done.output[0].status == models.ResponseItemStatus.INCOMPLETE, f"{done.output}")
    in_order(events, ["response.audio.done", "response.output_item.done", "response.done"])
    truncated = (await talk.until("conversation.item.truncated"))[-1]
    require(truncated.item_id == done.output[0].id, f"{truncated}")
    events = await talk.reply()
    await interrupting
    require(events[-1].response.status == "completed", "no answer to the interruption")
    after = [e for e in events if e.get("response_id") == response]
    require(not after, f"late events of the cancelled response: {kinds(after)}")
    await talk.connection.session.update(session=session())
    await talk.until("session.updated")


def function_calls(events):
    items = [e.item for e in only(events, "response.output_item.done")]
    calls = [item for item in items if isinstance(item, models.ResponseFunctionCallItem)]
    for call, done in zip(calls, only(events, "response.function_call_arguments.done")):
        require(done.arguments == call.arguments and done.name == call.name, f"{done} {call}")
        require(done.call_id == call.call_id, "two call ids")
    return calls


async def answer(talk, calls):
    for call in calls:
        arguments = json.loads(call.arguments)
        output = json.dumps({"of": call.name, "asked": arguments})
        item = models.FunctionCallOutputItem(call_id=call.call_id, output=output)
        await talk.connection.conversation.item.create(item=item)
        await talk.until("conversation.item.created")
    await talk.connection.response.create()
    events = await talk.reply()
    text = transcript(events)
    for call in calls:
        require(f"of is {call.name}" in text, f"{call.name} is not in {text!r}")
    require(len(reply_audio(events)) > 300 * BYTES_PER_MS, "the answer is not audible")


async def step_spoken_tool(talk):
    """The spoken turns so far were the welcome's and four more; one in three calls a tool."""
    for _ in range(3):
        events = await spoken_turn(talk, pcm("weather") + pcm("silence-1s"), (500, 2760))
        calls = function_calls(events)
        if calls:
            require(not only(events, "response.audio.delta"), "audio beside a function call")
            return await answer(talk, calls)
    raise Failure("three spoken turns, and no function call")


async def step_typed_tool(talk):
    await talk.type("What is the weather in Paris?")
    calls = function_calls(await talk.reply())
    require([call.name for call in calls] == ["get_weather"], f"{calls}")
    require(json.loads(calls[0].arguments) == {"city": "Paris"}, calls[0].arguments)
    await answer(talk, calls)


async def step_two_tools(talk):
    await talk.type("The weather and the stock price, please.")
    events = await talk.reply()
    calls = function_calls(events)
    require([call.name for call in calls] == ["get_weather", "get_stock_price"], f"{calls}")
    require(len(events[-1].response.output) == 2, "not both in one response")
    await answer(talk, calls)


async def long_reply(talk):
    """Five seconds: long enough to be cancelled at any speed."""
    part = models.OutputTextContentPart(text="Once upon a time there was a parrot.")
    message = models.AssistantMessageItem(content=[part])
    params = models.ResponseCreateParams(pre_generated_assistant_message=message)
    await talk.connection.response.create(response=params)


async def step_cancel(talk):
    await long_reply(talk)
    created = (await talk.until("response.created"))[-1].response.id
    await talk.connection.response.cancel(response_id=created)
    done = (await talk.reply())[-1].response
    require((done.id, done.status) == (created, "cancelled"), f"{done.id} {done.status}")
    require(done.status_details.reason == "client_cancelled", f"{done.status_details}")


async def step_greeting(talk):
    text = "Hello! How can I help?"
    message = models.AssistantMessageItem(content=[models.OutputTextContentPart(text=text)])
    params = models.ResponseCreateParams(pre_generated_assistant_message=message)
    await talk.connection.response.create(response=params)
    events = await talk.reply()
    require(transcript(events) == f"[simulator] {text}", transcript(events))
    item = events[-1].response.output[0].id
    await talk.connection.conversation.item.retrieve(item_id=item)
    retrieved = (await talk.until("conversation.item.retrieved"))[-1]
    require(retrieved.item.id == item, f"{retrieved}")
    await talk.connection.conversation.item.truncate(
        item_id=item, content_index=0, audio_end_ms=100
    )
    require((await talk.until("conversation.item.truncated"))[-1].audio_end_ms == 100, "truncate")
    await talk.connection.conversation.item.delete(item_id=item)
    require((await talk.until("conversation.item.deleted"))[-1].item_id == item, "delete")


async def step_text_only(talk):
    await talk.connection.session.update(session={"modalities": ["text"]})
    refused = (await talk.until("error", allow_error=True))[-1].error
    require(refused.code == "ec_not_supported", f"echo cancellation without audio: {refused}")
    silent = {"modalities": ["text"], "input_audio_echo_cancellation": None}
    await talk.connection.session.update(session=silent)
    await talk.until("session.updated")
    await talk.type("Good evening")
    events = await talk.reply()
    text = only(events, "response.text.done")[0].text
    require(text == "[simulator] You wrote: Good evening", text)
    await talk.connection.session.update(session={"modalities": ["text", "audio"]})
    await talk.until("session.updated")


async def step_push_to_talk(talk):
    await talk.connection.session.update(session=models.RequestSession(turn_detection=None))
    updated = (await talk.until("session.updated"))[-1]
    require(updated.session.turn_detection is None, f"{updated.session.turn_detection}")
    await talk.connection.input_audio_buffer.clear()
    await talk.until("input_audio_buffer.cleared")
    data = pcm("greeting")
    await talk.speak(data)
    await talk.connection.input_audio_buffer.commit()
    await talk.until("conversation.item.created")
    require(not only(await talk.quiet(0.3), "response.created"), "a response nobody asked for")
    none = models.ResponseCreateParams(tool_choice="none")
    await talk.connection.session.update(session=models.RequestSession(tools=[]))
    await talk.until("session.updated")
    await talk.connection.response.create(response=none)
    require(reply_audio(await talk.reply()) == data, "the reply is not what was said")


async def step_errors(talk):
    async def expect(code, **event):
        event["event_id"] = f"bad-{code}"
        await talk.connection.send(event)
        error = (await talk.until("error", allow_error=True))[-1]
        require(isinstance(error, models.ServerEventError), f"{type(error)}")
        require(error.error.code == code, f"{error.error.code} instead of {code}")
        require(error.error.event_id == event["event_id"], f"{error.error}")

    await expect("response_cancel_not_active", type="response.cancel")
    await expect("input_audio_buffer_commit_empty", type="input_audio_buffer.commit")
    await expect("unknown_parameter", type="session.update", session={"foo": 1})
    await expect("invalid_value", type="no.such.event")
    await expect("invalid_value", type="input_audio_buffer.append", audio="!")
    await expect("invalid_value", type="input_audio_buffer.append", audio="AAAA")
    await expect("missing_required_parameter", type="conversation.item.retrieve")
    output = {"type": "function_call_output", "call_id": "nobody", "output": "{}"}
    await expect("invalid_value", type="conversation.item.create", item=output)
    await long_reply(talk)
    await talk.until("response.created")
    await expect("conversation_already_has_active_response", type="response.create")
    await talk.connection.response.cancel()
    await talk.reply()


STEPS = [
    ("session.created and session.updated are typed", step_session),
    ("a spoken turn: events in order, the reply is the turn byte for byte", step_turn),
    ("replies come faster than real time", step_pace),
    ("barge-in cancels and truncates", step_barge_in),
    ("a spoken turn calls a tool, and the result is spoken", step_spoken_tool),
    ("a typed turn calls one tool", step_typed_tool),
    ("a typed turn calls two tools in one response", step_two_tools),
    ("response.cancel", step_cancel),
    ("a pre-generated greeting; retrieve, truncate, delete", step_greeting),
    ("text only", step_text_only),
    ("push-to-talk", step_push_to_talk),
    ("errors", step_errors),
]


async def converse(endpoint, key):
    credential = AzureKeyCredential(key)
    async with connect(endpoint=endpoint, credential=credential, model="gpt-realtime") as connection:
        talk = Talk(connection)
        for name, step in STEPS:
            start = time.monotonic()
            try:
                await step(talk)
            except Exception as failure:  # whatever it is, this step has failed
                print(f"FAIL  {name}: {type(failure).__name__}: {failure}", flush=True)
                return False
            print(f"PASS  {name} ({time.monotonic() - start:.1f} s)", flush=True)
        talk.reader.cancel()
    return True


async def main():
    endpoint, key = sys.argv[1], (sys.argv[2:] or ["interop-test-key"])[0]
    try:
        fine = await asyncio.wait_for(converse(endpoint, key), WHOLE_RUN)
    except asyncio.TimeoutError:
        print(f"FAIL  not done after {WHOLE_RUN:.0f} s", flush=True)
        fine = False
    except (VoiceLiveError, OSError) as error:
        print(f"FAIL  connection to {endpoint}: {error}", flush=True)
        fine = False
    return 0 if fine else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} ws://HOST:PORT [API_KEY]")
    sys.exit(asyncio.run(main()))
