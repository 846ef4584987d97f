#!/usr/bin/env node
// Does Chromium go on cancelling the echo when the page has chosen a loudspeaker?
//
//     npm ci --prefix tests/browser && benches/echo.mjs [RUNS]      12 runs of each case: 11 minutes
//
// A sound server of its own has two loudspeakers. What either plays comes back to the microphone after 30 ms, as in a
// room. A page plays speech, and the loudness of its microphone is what is left of the echo. All else that browsers do
// to a microphone is off. The cases take turns, each run in a browser of its own. The first seconds do not count, since
// the canceller learns in them.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const repository = fileURLToPath(new URL('../', import.meta.url));
const { chromium } = createRequire(path.join(repository, 'tests/browser/'))('playwright-core');

const RUNS = Number(process.argv[2] ?? 12);
const LEARN_S = 3;
const LISTEN_S = 6;
const LOOP_MS = 30;
/** `when` the second loudspeaker is chosen: `after` the microphone is open, as our page does it, or `before`. */
const CASES = [
  { name: 'off, default loudspeaker', cancel: false },
  { name: 'off, chosen loudspeaker', cancel: false, when: 'after' },
  { name: 'on, default loudspeaker', cancel: true },
  { name: 'on, chosen with the microphone open', cancel: true, when: 'after' },
  { name: 'on, chosen before the microphone', cancel: true, when: 'before' },
];

/** Runs in the page.
 *  @returns {Promise<{rms: number, seconds: number, lagMs: number}>} loudness of the microphone in 16-bit steps, how much
 *    of it was counted, and how long after the player it came */
async function measure({ cancel, when, learn, listen }) {
  const processing = { channelCount: 1, echoCancellation: cancel, noiseSuppression: false, autoGainControl: false };
  const context = new AudioContext(); // at the device's rate, as the page's
  await context.resume();
  const microphone = () => navigator.mediaDevices.getUserMedia({ audio: processing });
  let stream;
  if (when !== 'before') stream = await microphone();
  if (when) {
    const named = stream ?? (await microphone()); // devices have names only while a microphone is open
    const all = await navigator.mediaDevices.enumerateDevices();
    const other = all.find(({ kind, label }) => kind === 'audiooutput' && label === 'Headphones');
    await context.setSinkId(other.deviceId);
    if (!stream) named.getTracks().forEach((track) => track.stop());
  }
  stream ??= await microphone();
  const module = `registerProcessor('ear', class extends AudioWorkletProcessor {
    process([[samples]]) { if (samples) this.port.postMessage([currentTime, samples.slice()]); return true; }
  })`;
  await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(module)}`);
  const ear = new AudioWorkletNode(context, 'ear', { numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit' });
  const heard = [];
  ear.port.onmessage = ({ data }) => heard.push(data);
  context.createMediaStreamSource(stream).connect(ear);

  const speech = await context.decodeAudioData(await (await fetch('speech.wav')).arrayBuffer());
  const player = new AudioBufferSourceNode(context, { buffer: speech, loop: true });
  player.connect(context.destination);
  const start = context.currentTime + 0.1;
  player.start(start);
  while (context.currentTime < start + learn + listen) await new Promise((done) => setTimeout(done, 100));
  const from = start + learn;
  const counted = heard.filter(([time]) => time >= from && time < from + listen).flatMap(([, samples]) => [...samples]);
  const power = (samples) => samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
  return { rms: 32768 * Math.sqrt(power(counted)), seconds: counted.length / context.sampleRate, lagMs: lag() };

  /** Where the speech's loudness lies in what was heard, in steps of 2 ms. Means something only without cancellation. */
  function lag() {
    const step = Math.round(context.sampleRate / 500);
    const envelope = (samples) => {
      const out = [];
      for (let i = 0; i + step <= samples.length; i += step) out.push(Math.sqrt(power([...samples.slice(i, i + step)])));
      return out;
    };
    const said = envelope(speech.getChannelData(0)).slice(0, 1000);
    const got = envelope(heard.filter(([time]) => time >= start && time < start + 3).flatMap(([, samples]) => [...samples]));
    let best = { at: 0, sum: -1 };
    for (let at = 0; at + said.length <= got.length; at++) {
      const sum = said.reduce((total, x, i) => total + x * got[at + i], 0);
      if (sum > best.sum) best = { at, sum };
    }
    return best.at * 2;
  }
}

async function startSound(dir) {
  const env = { ...process.env, HOME: dir, XDG_RUNTIME_DIR: dir, PULSE_SERVER: `unix:${dir}/sock` };
  const modules = [
    `module-native-protocol-unix socket=${dir}/sock auth-anonymous=1`,
    'module-null-sink sink_name=speaker norewinds=1 rate=48000 channels=2',
    'module-null-sink sink_name=headphones norewinds=1 rate=48000 channels=2 sink_properties=device.description=Headphones',
    'module-null-sink sink_name=room norewinds=1 rate=48000 channels=1',
    'module-remap-source source_name=mic master=room.monitor', // browsers hide a bare monitor
    ...['speaker', 'headphones'].map((sink) => `module-loopback source=${sink}.monitor sink=room latency_msec=${LOOP_MS}`),
  ];
  const flags = ['-n', '--daemonize=no', '--exit-idle-time=-1', '--use-pid-file=no', '--realtime=no', '--high-priority=no'];
  const server = spawn('pulseaudio', [...flags, ...modules.map((m) => `--load=${m}`)], { env, stdio: 'ignore' });
  while (!fs.existsSync(`${dir}/sock`)) await sleep(50);
  execFileSync('pactl', ['set-default-sink', 'speaker'], { env });
  execFileSync('pactl', ['set-default-source', 'mic'], { env });
  return { server, env };
}

async function servePage() {
  const speech = fs.readFileSync(path.join(repository, 'tests/audio/weather.wav'));
  const server = http.createServer(({ url }, reply) => {
    reply.setHeader('content-type', url === '/' ? 'text/html' : 'audio/wav');
    reply.end(url === '/' ? '<!doctype html><title>Echo</title>' : speech);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

async function run(wish, url, env) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
    headless: true,
    ignoreDefaultArgs: ['--mute-audio'],
    args: ['--no-sandbox', '--disable-gpu', '--use-fake-ui-for-media-stream', '--autoplay-policy=no-user-gesture-required'],
    env,
  });
  try {
    const page = await browser.newPage();
    await page.goto(url);
    return await page.evaluate(measure, { cancel: wish.cancel, when: wish.when, learn: LEARN_S, listen: LISTEN_S });
  } finally {
    await browser.close();
  }
}

const sorted = (numbers) => numbers.toSorted((a, b) => a - b);
const at = (numbers, part) => Math.round(sorted(numbers)[Math.round(part * (numbers.length - 1))]);

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'vle-'));
const { server: sound, env } = await startSound(dir);
const page = await servePage();
const found = new Map(CASES.map(({ name }) => [name, []]));
for (let i = 1; i <= RUNS; i++) {
  for (const wish of CASES) {
    const result = await run(wish, `http://localhost:${page.address().port}/`, env);
    found.get(wish.name).push(result);
    const { rms, seconds, lagMs } = result;
    const load = os.loadavg()[0].toFixed(1);
    console.error(`${i} ${wish.name}: ${rms.toFixed(1)}, ${seconds.toFixed(1)} s${wish.cancel ? '' : `, ${lagMs} ms late`}, load ${load}`);
  }
}
console.log('| Echo cancellation | median | lowest | quartiles | highest |\n|---|---|---|---|---|');
for (const [name, results] of found) {
  const rms = results.map((result) => result.rms);
  console.log(`| ${name} | ${at(rms, 0.5)} | ${at(rms, 0)} | ${at(rms, 0.25)} to ${at(rms, 0.75)} | ${at(rms, 1)} |`);
}
page.close();
sound.kill();
await once(sound, 'exit');
fs.rmSync(dir, { recursive: true, force: true });
