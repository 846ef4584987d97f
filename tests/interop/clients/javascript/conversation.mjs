// Microsoft's official SDK for JavaScript talks with the simulator.
//
//     node conversation.mjs HOST:PORT
//
// Prints PASS or FAIL for each step and exits 1 after the first failure. The SDK drops what it does
// not know, so a step that waits for an event has failed when the SDK cannot read it.
import { readFileSync } from "node:fs";

import { AzureKeyCredential } from "@azure/core-auth";
import { VoiceLiveClient } from "@azure/ai-voicelive";

const WAV_HEADER_BYTES = 44;
const BYTES_PER_MS = 48; // PCM16, 24 kHz, mono
const CHUNK = 20 * BYTES_PER_MS;
const PACE = 3; // times real time
const PATIENCE_MS = 60_000;
const SPOKEN_MS = 2000;

const pcm = (name) =>
  readFileSync(new URL(`../../../audio/${name}.wav`, import.meta.url)).subarray(WAV_HEADER_BYTES);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function require(condition, message) {
  if (!condition) throw new Error(message);
}

/** The events of a session, in order, for one reader. */
class Events {
  #waiting = [];
  #wake = () => {};

  push(event) {
    this.#waiting.push(event);
    this.#wake();
  }

  /** Everything up to and including the next event of this type. */
  async until(type) {
    const seen = [];
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      while (this.#waiting.length > 0) {
        const event = this.#waiting.shift();
        require(event.type !== "error", JSON.stringify(event.error));
        seen.push(event);
        if (event.type === type) return seen;
      }
      const left = deadline - Date.now();
      require(left > 0, `${type} never came; last: ${seen.slice(-5).map((event) => event.type)}`);
      const woken = new Promise((resolve) => (this.#wake = resolve));
      await Promise.race([woken, sleep(Math.min(left, 500))]);
    }
  }
}

const only = (events, type) => events.filter((event) => event.type === type);
const transcript = (events) => only(events, "response.audio_transcript.done")[0].transcript;
const sound = (events) => Buffer.concat(only(events, "response.audio.delta").map((event) => Buffer.from(event.delta)));

const address = process.argv[2];
require(address !== undefined, "usage: node conversation.mjs HOST:PORT");
const client = new VoiceLiveClient(`https://${address}`, new AzureKeyCredential("a-key-of-this-test"));
const session = client.createSession("gpt-realtime");
const events = new Events();
session.subscribe({
  onServerEvent: async (event) => events.push(event),
  onError: async ({ error }) => events.push({ type: "error", error: { message: String(error) } }),
});

async function configure() {
  await session.connect();
  const created = (await events.until("session.created")).at(-1);
  require(created.session.id.startsWith("sim_"), created.session.id);
  await session.updateSession({
    modalities: ["text", "audio"],
    voice: { type: "azure-standard", name: "en-US-AvaNeural" },
    turnDetection: { type: "azure_semantic_vad", silenceDurationInMs: 500, autoTruncate: true },
    inputAudioTranscription: { model: "whisper-1", language: "en" },
    inputAudioEchoCancellation: { type: "server_echo_cancellation" },
    tools: [
      {
        type: "function",
        name: "get_weather",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      },
    ],
  });
  const updated = (await events.until("session.updated")).at(-1).session;
  require(updated.voice.name === "en-US-AvaNeural", JSON.stringify(updated.voice));
  require(updated.turnDetection.silenceDurationInMs === 500, JSON.stringify(updated.turnDetection));
}

async function speak(said) {
  const start = Date.now();
  for (let offset = 0; offset < said.length; offset += CHUNK) {
    await session.sendAudio(new Uint8Array(said.subarray(offset, offset + CHUNK)));
    await sleep(Math.max(0, start + (offset + CHUNK) / BYTES_PER_MS / PACE - Date.now()));
  }
}

async function spokenTurn() {
  const said = Buffer.concat([pcm("weather"), pcm("silence-1s")]);
  const speaking = speak(said);
  const seen = await events.until("response.done");
  await speaking;
  const heard = sound(seen);
  require(heard.length > SPOKEN_MS * BYTES_PER_MS, `a reply of ${heard.length} bytes only`);
  require(said.includes(heard), `${heard.length} bytes of reply are not what was said`);
  const completed = "conversation.item.input_audio_transcription.completed";
  const words = [...only(seen, completed), ...(only(seen, completed).length ? [] : await events.until(completed))].at(-1);
  require(/^\[simulator\] \(.* of speech\)$/.test(words.transcript), words.transcript);
  require(transcript(seen).startsWith("[simulator] You said that for "), transcript(seen));
  require(only(seen, "response.content_part.added")[0].part.type === "audio", "a part without its type");
  const done = seen.at(-1).response;
  require(done.status === "completed" && done.output[0].role === "assistant", JSON.stringify(done));
}

async function write(text) {
  await session.addConversationItem({ type: "message", role: "user", content: [{ type: "input_text", text }] });
  await session.sendEvent({ type: "response.create" });
  return events.until("response.done");
}

async function tool() {
  const called = only(await write("What is the weather in Paris?"), "response.function_call_arguments.done")[0];
  require(called.name === "get_weather", called.name);
  require(JSON.parse(called.arguments).city === "Paris", called.arguments);
  const output = JSON.stringify({ condition: "fog" });
  await session.addConversationItem({ type: "function_call_output", callId: called.callId, output });
  await session.sendEvent({ type: "response.create" });
  const told = transcript(await events.until("response.done"));
  require(told === "[simulator] The tool says that condition is fog.", told);
}

async function typed() {
  const told = transcript(await write("Good morning"));
  require(told === "[simulator] You wrote: Good morning", told);
}

// Longer than a busy machine takes to cancel it.
const LONG = "Once upon a time. ".repeat(40);

async function cancel() {
  await session.sendEvent({
    type: "response.create",
    response: { preGeneratedAssistantMessage: { type: "message", role: "assistant", content: [{ type: "text", text: LONG }] } },
  });
  const created = (await events.until("response.created")).at(-1).response.id;
  await session.sendEvent({ type: "response.cancel" });
  const done = (await events.until("response.done")).at(-1).response;
  require(done.id === created && done.status === "cancelled", JSON.stringify(done));
}

const steps = [
  ["session.created and session.updated are typed", configure],
  ["a spoken turn is played back byte for byte", spokenTurn],
  ["a typed turn calls a tool, and the result is spoken", tool],
  ["a typed turn", typed],
  ["a pre-generated message, and response.cancel", cancel],
];
let fine = true;
for (const [name, step] of steps) {
  const start = Date.now();
  try {
    await step();
    console.log(`PASS  ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  } catch (failure) {
    console.log(`FAIL  ${name}: ${failure.stack}`);
    fine = false;
    break;
  }
}
await session.dispose();
process.exit(fine ? 0 : 1);
