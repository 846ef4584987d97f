#!/usr/bin/env python3
"""Every type of every typed option of a session, through the session file.

    session_options.py VOICELIVED ws://127.0.0.1:PORT

The options come from the models of Microsoft's official SDK, so a type that a new SDK has is tried
without a change here. Each is written into a session file, and `voicelived check` is run with it twice:

- against a service of this script, which hands what it was sent to the SDK's models: the option must
  be of the class that was meant, with every value that was written and no key that the class lacks;
- against the simulator at the given address, which must take it.

Prints one line per option that failed, and exits 1 if there was one.
"""

import asyncio
import enum
import json
import os
import pathlib
import sys
import tempfile
import typing

from aiohttp import WSMsgType, web
from azure.ai.voicelive import _unions, models
from azure.ai.voicelive._utils.model_base import Model
from azure.ai.voicelive.models import _models as sources

# Values that a plain type does not tell.
NAMED = {
    "url": "https://example.com/",
    "urls": ["stun:example.com"],
    "image_url": "https://example.com/",
    "server_url": "https://example.com/",
    "custom_lexicon_url": "https://example.com/",
    "custom_text_normalization_url": "https://example.com/",
    "top_left": [0, 0],
    "bottom_right": [100, 100],
    "rate": "1.2",
    "pitch": "+10%",
    "volume": "+10",
    "temperature": 0.8,
    "threshold": 0.4,
    "channels": 2,
    "reference_source": "client",
    "prefer_locales": ["en-GB"],
    "locale": "en-US",
    "parameters": {"type": "object", "properties": {}},
    "custom_speech": {"en-US": "model"},
    "headers": {"x-a": "b"},
    "languages": ["en", "de"],
    "allowed_tools": ["lookup"],
    "require_approval": "never",
    "output_audit_audio": True,
    "codec": "h264",
    "color": "#00FF00FF",
}


def rest_name(cls, attribute):
    return cls._attr_to_rest_field[attribute]._rest_name


def hints(cls):
    unions = {"_models": models, "_unions": _unions}
    return typing.get_type_hints(cls, {**vars(sources), **vars(models), **unions})


def fields(cls):
    """Name on the wire and type of each field."""
    found = hints(cls)
    cls({})  # The SDK fills its table of fields with the first object.
    return {rest_name(cls, name): found[name] for name in cls._attr_to_rest_field}


def inner(kind):
    """Optional[X] and Union[str, Enum] without what tells nothing."""
    if typing.get_origin(kind) is typing.Union:
        members = [one for one in typing.get_args(kind) if one is not type(None)]
        enums = [one for one in members if is_enum(one)]
        objects = [one for one in members if is_model(one)]
        return (enums or objects or members)[0]
    return kind


def is_enum(kind):
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def is_model(kind):
    return isinstance(kind, type) and issubclass(kind, Model)


def values(kind):
    """All values of an enum or literal; none for other types."""
    kind = inner(kind)
    if is_enum(kind):
        return [one.value for one in kind]
    if typing.get_origin(kind) is typing.Literal:
        return [one.value if isinstance(one, enum.Enum) else one for one in typing.get_args(kind)]
    return []


def example(kind, name):
    if name in NAMED:
        return NAMED[name]
    kind = inner(kind)
    origin = typing.get_origin(kind)
    if found := values(kind):
        return found[0]
    if origin is list:
        return [example(typing.get_args(kind)[0], name)]
    if origin is dict:
        return {"a": "b"}
    if is_model(kind):
        return whole(concrete(kind)[0])
    return {str: "text", int: 200, float: 0.5, bool: True}.get(kind, "text")


def concrete(cls):
    """The classes that a union by discriminator stands for."""
    mapped = vars(cls).get("__mapping__")  # a subclass inherits its base's
    return [one for sub in mapped.values() for one in concrete(sub)] if mapped else [cls]


def whole(cls):
    return {name: example(kind, name) for name, kind in fields(cls).items()}


def variants(cls):
    """One object with everything, and one for each value of each enumeration in it."""
    yield whole(cls)
    for name, kind in fields(cls).items():
        for value in values(kind)[1:]:
            yield {**whole(cls), name: value}


def options():
    """(model, key, value, class of the value or None)"""
    for cls in concrete(models.TurnDetection):
        for value in variants(cls):
            bare = {key: one for key, one in value.items() if key != "end_of_utterance_detection"}
            yield "gpt-realtime", "turn_detection", bare, cls
    for end in concrete(models.EouDetection):
        for value in variants(end):
            turns = {"type": "server_vad", "end_of_utterance_detection": value}
            yield "gpt-4.1", "turn_detection", turns, models.ServerVad
    yield "gpt-realtime", "turn_detection", None, None
    for cls in concrete(models.AzureVoice):
        for value in variants(cls):
            yield "gpt-realtime", "voice", value, cls
    for value in variants(models.OpenAIVoice):
        yield "gpt-realtime", "voice", value, models.OpenAIVoice
        yield "gpt-realtime", "voice", value["name"], None
    for value in variants(models.AzureRealtimeNativeVoice):
        yield "azure-realtime", "voice", value, models.AzureRealtimeNativeVoice
    for key, cls in [
        ("input_audio_noise_reduction", models.AudioNoiseReduction),
        ("input_audio_echo_cancellation", models.AudioEchoCancellation),
    ]:
        yield "gpt-realtime", key, None, None
        for value in variants(cls):
            yield "gpt-realtime", key, value, cls
    for value in variants(models.AudioInputTranscriptionOptions):
        native = value["model"].startswith(("whisper", "gpt-"))
        if native:
            value = {"model": value["model"], "language": "en"}
        else:
            value["language"] = "en-US"
        model = "gpt-realtime" if native else "gpt-4.1"
        yield model, "input_audio_transcription", value, models.AudioInputTranscriptionOptions
    for cls in concrete(models.InterimResponseConfigBase):
        for value in variants(cls):
            yield "gpt-4.1", "interim_response", value, cls
    for cls in concrete(models.Tool):
        yield "gpt-realtime", "tools", [whole(cls)], None
    for value in values(models.ToolChoiceLiteral):
        yield "gpt-realtime", "tool_choice", value, None
    for cls in concrete(models.ToolChoiceSelection):
        yield "gpt-realtime", "tool_choice", whole(cls), cls
    for value in variants(models.AvatarConfig):
        yield "gpt-4.1", "avatar", value, models.AvatarConfig
    for value in values(models.AnimationOutputType):
        yield "gpt-4.1", "animation", {"outputs": [value]}, models.Animation
    for key, kind in [
        ("modalities", models.Modality),
        ("include", models.SessionIncludeOption),
        ("output_audio_timestamp_types", models.AudioTimestampType),
    ]:
        for value in values(kind):
            yield "gpt-4.1", key, ["audio", value] if key == "modalities" else [value], None
    for value in values(models.ReasoningEffort):
        yield "gpt-4.1", "reasoning_effort", value, None
    for key, value in [
        ("max_response_output_tokens", 300),
        ("max_response_output_tokens", "inf"),
        ("temperature", 0.7),
        ("parallel_tool_calls", False),
        ("metadata", {"a": "b"}),
    ]:
        yield "gpt-4.1", key, value, None


def faults_of(cls, sent, path):
    """What the SDK's model of this class does not have."""
    known = fields(cls)
    for key, value in sent.items():
        if key not in known:
            yield f"{path}.{key} is not in {cls.__name__}"
            continue
        allowed = values(known[key])
        if allowed and value not in allowed and not extensible(known[key]):
            yield f"{path}.{key} is {value!r}, not one of {allowed}"
        kind = inner(known[key])
        if is_model(kind) and isinstance(value, dict):
            nested = kind._deserialize(value, []) if hasattr(kind, "_deserialize") else kind(value)
            yield from faults_of(type(nested), value, f"{path}.{key}")


def extensible(kind):
    return typing.get_origin(kind) is typing.Union and str in typing.get_args(kind)


def judge(sent, key, value, cls):
    """Faults of the whole session as the SDK reads it, and of the one option."""
    session = models.RequestSession(sent)
    yield from faults_of(models.RequestSession, sent, "session")
    if value is None:
        if sent.get(key, "") is not None:
            yield f"{key} is not null, but {sent.get(key)!r}"
        return
    if sent.get(key) != value:
        yield f"{key} is {sent.get(key)!r}, not {value!r}"
    if cls is not None:
        read = getattr(session, key)
        if isinstance(read, dict) and not is_model(type(read)):
            read = cls(read)
        if type(read) is not cls:
            yield f"{key} is read as {type(read).__name__}, not {cls.__name__}"


class Service:
    """Takes whatever it is asked for, and remembers it."""

    def __init__(self):
        self.asked = None

    async def serve(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        session = {"id": "s", "model": "m", "modalities": ["audio"]}
        await socket.send_json({"type": "session.created", "session": session})
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.asked = json.loads(message.data)["session"]
                await socket.send_json({"type": "session.updated", "session": self.asked})
        return socket


async def check(program, endpoint, model, path):
    environment = {
        "AZURE_VOICE_LIVE_ENDPOINT": endpoint,
        "AZURE_VOICE_LIVE_API_KEY": "a-key-of-this-test",
        "AZURE_VOICE_LIVE_SESSION_FILE": path,
        "VOICE_LIVE_MODEL": model,
    }
    process = await asyncio.create_subprocess_exec(
        program, "check", env=environment, cwd=tempfile.gettempdir(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    return process.returncode, told.decode()


async def main(program, simulator):
    program = os.path.abspath(program)
    service, failed, tried = Service(), 0, 0
    application = web.Application()
    application.router.add_get("/{path:.*}", service.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "session.json")
        for model, key, value, cls in options():
            tried += 1
            pathlib.Path(path).write_text(json.dumps({key: value}))
            service.asked = None
            code, told = await check(program, f"ws://127.0.0.1:{port}", model, path)
            faults = [f"check: {told}"] if code else list(judge(service.asked, key, value, cls))
            # The simulator judges the same session; it must not know less than the SDK.
            code, told = await check(program, simulator, model, path)
            if code:
                faults.append(f"the simulator refuses it: {told}")
            for fault in faults:
                failed += 1
                print(f"FAIL {model} {key} {json.dumps(value)}: {fault}")
    await runner.cleanup()
    print(f"{tried} options, {failed} faults")
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
