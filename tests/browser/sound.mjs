// Speech files and the comparison of sound.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { stop } from './daemon.mjs';

export const RATE_HZ = 24000;
const HEADER_BYTES = 44;
const ROOM_VOLUME = 2000; // of 65536, cubed: 90 dB below full scale, one step of 16 bits
const STEP_SAMPLES = RATE_HZ / 100; // loudness in steps of 10 ms
const folder = process.env.TEST_AUDIO ?? fileURLToPath(new URL('../audio/', import.meta.url));

/** @param {string} name of a file of tests/audio, without .wav
 *  @returns {Int16Array} */
export function speech(name) {
  const bytes = fs.readFileSync(path.join(folder, `${name}.wav`));
  return new Int16Array(bytes.buffer.slice(bytes.byteOffset + HEADER_BYTES, bytes.byteOffset + bytes.length));
}

/** A quiet room, 84 dB below full scale. Digital silence would be the sound of a microphone that is muted
 *  in the system, and the page says so.
 *  @param {number} seconds
 *  @returns {Int16Array} */
export function room(seconds) {
  return Int16Array.from({ length: seconds * RATE_HZ }, (_, at) => (at * 7919) % 5 - 2);
}

/** Speech with silence around it: pieces are names, seconds of silence, or samples.
 *  @param {import('node:test').TestContext} t
 *  @param {(string|number|Int16Array)[]} pieces
 *  @returns {string} the path of a WAV file that is removed with the test */
export function script(t, pieces) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'vl-'));
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  const file = path.join(dir, 'microphone.wav');
  record(file, pieces);
  return file;
}

/** The same in a file that is there, or is made. @param {string} file @param {(string|number|Int16Array)[]} pieces */
export function record(file, pieces) {
  const parts = pieces.map((piece) => {
    if (piece instanceof Int16Array) return piece;
    return typeof piece === 'number' ? new Int16Array(piece * RATE_HZ) : speech(piece);
  });
  const pcm = Buffer.concat(parts.map((part) => Buffer.from(part.buffer)));
  fs.writeFileSync(file, Buffer.concat([header(pcm.length), pcm]));
}

function header(bytes) {
  const h = Buffer.alloc(HEADER_BYTES);
  h.write('RIFF', 0);
  h.writeUInt32LE(36 + bytes, 4);
  h.write('WAVEfmt ', 8);
  h.writeUInt32LE(16, 16);
  h.writeUInt16LE(1, 20); // PCM
  h.writeUInt16LE(1, 22); // mono
  h.writeUInt32LE(RATE_HZ, 24);
  h.writeUInt32LE(2 * RATE_HZ, 28);
  h.writeUInt16LE(2, 32);
  h.writeUInt16LE(16, 34);
  h.write('data', 36);
  h.writeUInt32LE(bytes, 40);
  return h;
}

/** How well a recording contains a reference, by loudness: gain control may change the wave but not the words.
 *  @param {ArrayLike<number>} reference 24 kHz
 *  @param {ArrayLike<number>} recording 24 kHz, any scale
 *  @returns {{r: number, lagMs: number}} the best correlation and where in the recording it lies */
export function match(reference, recording) {
  const a = loudness(reference);
  const b = loudness(recording);
  let best = { r: -1, lagMs: 0 };
  for (let lag = 0; lag + a.length * 0.9 < b.length; lag++) {
    const r = correlation(a, b.subarray(lag, lag + a.length));
    if (r > best.r) best = { r, lagMs: lag * 10 };
  }
  return best;
}

/** @param {ArrayLike<number>} samples 24 kHz
 *  @returns {Float64Array} root mean square of each 10 ms */
export function loudness(samples) {
  const steps = new Float64Array(Math.floor(samples.length / STEP_SAMPLES));
  for (let i = 0; i < steps.length; i++) {
    let sum = 0;
    for (let k = 0; k < STEP_SAMPLES; k++) sum += samples[i * STEP_SAMPLES + k] ** 2;
    steps[i] = Math.sqrt(sum / STEP_SAMPLES);
  }
  return steps;
}

/** The words alone: turn detection decides how much silence comes with them. @param {string} name of a speech file */
export function words(name) {
  const samples = speech(name);
  const loud = loudness(samples);
  const peak = Math.max(...loud);
  const first = loud.findIndex((step) => step > peak / 20);
  const last = loud.findLastIndex((step) => step > peak / 20);
  return samples.subarray((first * RATE_HZ) / 100, ((last + 1) * RATE_HZ) / 100);
}

function correlation(a, b) {
  const n = Math.min(a.length, b.length);
  let sa = 0, sb = 0, aa = 0, bb = 0, ab = 0;
  for (let i = 0; i < n; i++) {
    sa += a[i]; sb += b[i];
    aa += a[i] * a[i]; bb += b[i] * b[i]; ab += a[i] * b[i];
  }
  return (n * ab - sa * sb) / (Math.sqrt((n * aa - sa * sa) * (n * bb - sb * sb)) || 1);
}

/** A PulseAudio of the test's own: Firefox and WebKit play and record nothing without a sound server.
 *  @returns {Promise<{server: string, speak: (test: object, file: string) => void, listen: (test: object) => () => Int16Array,
 *    unplug: () => void, inUse: () => string[]}>} `speak` plays a file into the microphone until the test ends, `listen`
 *    records the loudspeaker and gives what it has so far, at 24 kHz, `unplug` takes all microphones away, `inUse` names the
 *    loudspeakers that something plays on: speaker, headphones */
export async function startPulse(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'vlp-')); // short: a socket's path has 107 characters
  const env = { ...process.env, HOME: dir, XDG_RUNTIME_DIR: dir, PULSE_SERVER: `unix:${dir}/sock` };
  const modules = [
    `module-native-protocol-unix socket=${dir}/sock auth-anonymous=1`,
    'module-null-sink sink_name=speaker norewinds=1 rate=48000 channels=2', // with rewinds, sound comes in blocks of 2 s
    'module-null-sink sink_name=headphones norewinds=1 rate=48000 channels=2 sink_properties=device.description=Headphones',
    'module-null-sink sink_name=voice norewinds=1 rate=48000 channels=1',
    'module-remap-source source_name=mic master=voice.monitor', // browsers hide a bare monitor
    'module-remap-source source_name=headset master=voice.monitor source_properties=device.description=Headset',
  ];
  const flags = ['-n', '--daemonize=no', '--exit-idle-time=-1', '--use-pid-file=no', '--realtime=no', '--high-priority=no'];
  const child = spawn('pulseaudio', [...flags, ...modules.map((m) => `--load=${m}`)], { env, stdio: 'ignore' });
  t.after(async () => {
    await stop(child);
    fs.rmSync(dir, { recursive: true, force: true });
  });
  // The socket is there a moment before anything listens at it, and that before all modules.
  const defaults = [['set-default-sink', 'speaker'], ['set-default-source', 'mic']];
  const listens = (command) => spawnSync('pactl', command, { env, stdio: 'ignore' }).status === 0;
  await until(() => fs.existsSync(`${dir}/sock`) && defaults.every(listens), 'PulseAudio');
  // The microphones hear the faint noise of a room: pages say of one that gives nothing but zeros that it is silent.
  const noise = ['--raw', '--format=s16le', '--rate=48000', '--channels=1', `--volume=${ROOM_VOLUME}`, '/dev/urandom'];
  const murmur = spawn('pacat', ['--device=voice', ...noise], { env, stdio: 'ignore' });
  t.after(() => stop(murmur));
  const speak = (test, file) => {
    const player = spawn('paplay', ['--device=voice', file], { env, stdio: 'ignore' });
    test.after(() => stop(player));
  };
  const inUse = () => {
    const list = (what) => execFileSync('pactl', ['list', 'short', what], { env, encoding: 'utf8' }).trim().split('\n').filter(Boolean);
    const names = new Map(list('sinks').map((line) => line.split('\t')));
    return [...new Set(list('sink-inputs').map((line) => names.get(line.split('\t')[1])))];
  };
  const listen = (test) => {
    const recorder = spawn('parecord', ['--device=speaker.monitor', '--raw', '--format=s16le', `--rate=${RATE_HZ}`, '--channels=1', '--latency-msec=20'], { env, stdio: ['ignore', 'pipe', 'ignore'] });
    const pieces = [];
    recorder.stdout.on('data', (piece) => pieces.push(piece));
    test.after(() => stop(recorder));
    return () => {
      const bytes = Buffer.concat(pieces);
      return Int16Array.from({ length: bytes.length >> 1 }, (_, i) => bytes.readInt16LE(2 * i));
    };
  };
  const unplug = () => {
    execFileSync('pactl', ['unload-module', 'module-remap-source'], { env, stdio: 'ignore' });
  };
  return { server: env.PULSE_SERVER, speak, listen, unplug, inUse };
}

/** @param {() => boolean|Promise<boolean>} condition @param {string} what for the message when it never holds */
export async function until(condition, what, ms = 15000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(50)) if (await condition()) return;
  throw new Error(`waited ${ms} ms in vain for ${what}`);
}
