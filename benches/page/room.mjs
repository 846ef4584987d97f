// A room for a browser: one sound card of a PulseAudio of our own, with the mouth on its left channel and the
// loudspeaker on its right one. Both are recorded together, so the distance between a click and its return is exact.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const RATE_HZ = 48000;
const LOUD = 0.05 * 32768;
const QUIET_MS = 200; // a click begins after so much silence
const CLICK_MS = 20;
const LEAST_GAP_MS = 900; // longer than the slowest way here
const WORD_MS = 400;
const LEAST_SILENCE_MS = 2000; // the reply goes on, and is as loud as before
const SPREAD_MS = 300; // clicks must not keep step with frames, nor teach the echo canceller a rhythm
const LATENCY_MS = 10; // asked of the sound server

export async function openRoom() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'vlr-')); // short: a socket's path has 107 characters
  const env = { ...process.env, HOME: dir, XDG_RUNTIME_DIR: dir, PULSE_SERVER: `unix:${dir}/sock` };
  const half = (name, side) => `module-remap-sink sink_name=${name} master=room channels=1 channel_map=mono master_channel_map=front-${side} remix=no`;
  const modules = [
    `module-native-protocol-unix socket=${dir}/sock auth-anonymous=1`,
    `module-null-sink sink_name=room norewinds=1 rate=${RATE_HZ} channels=2 channel_map=front-left,front-right`,
    half('mouth', 'left'),
    half('speaker', 'right'),
    'module-remap-source source_name=mic master=room.monitor channels=1 channel_map=mono master_channel_map=front-left remix=no',
  ];
  const flags = ['-n', '--daemonize=no', '--exit-idle-time=-1', '--use-pid-file=no', '--realtime=no', '--high-priority=no'];
  const server = spawn('pulseaudio', [...flags, ...modules.map((m) => `--load=${m}`)], { env, stdio: 'ignore' });
  while (!fs.existsSync(`${dir}/sock`)) {
    if (server.exitCode !== null) throw new Error('PulseAudio does not start');
    await sleep(50);
  }
  // The socket is there a moment before anything listens at it, and that before all modules.
  for (const command of [['set-default-sink', 'speaker'], ['set-default-source', 'mic']]) {
    while (spawnSync('pactl', command, { env, stdio: 'ignore' }).status !== 0) {
      if (server.exitCode !== null) throw new Error('PulseAudio does not start');
      await sleep(50);
    }
  }
  return {
    env,
    /** Says a train of clicks or words, and records the room meanwhile.
     *  @param {Buffer} sounds @returns {Promise<{said: number[], heard: number[], tape: Int16Array}>} when each sound began, in
     *    seconds; `tape` has the mouth and the loudspeaker in turn */
    async record(sounds) {
      const train = path.join(dir, 'train.raw');
      fs.writeFileSync(train, sounds);
      const raw = ['--raw', '--format=s16le', `--rate=${RATE_HZ}`, `--latency-msec=${LATENCY_MS}`];
      const tape = spawn('parecord', ['--device=room.monitor', ...raw, '--channels=2', path.join(dir, 'tape.raw')], { env, stdio: 'ignore' });
      await sleep(500);
      await once(spawn('paplay', ['--device=mouth', ...raw, '--channels=1', train], { env, stdio: 'ignore' }), 'exit');
      await sleep(1500);
      tape.kill('SIGINT');
      await once(tape, 'exit');
      const bytes = fs.readFileSync(path.join(dir, 'tape.raw'));
      const both = new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
      return { said: onsets(both, 0), heard: onsets(both, 1), tape: both };
    },
    async close() {
      server.kill();
      await once(server, 'exit');
      fs.rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Short bursts of a tone, at uneven distances. */
export function clicks(count) {
  return train(count, CLICK_MS, LEAST_GAP_MS, (k) => 16000 * Math.cos((2 * Math.PI * 1000 * k) / RATE_HZ));
}

/** A voice that says a word, loud from its first sample on, at uneven distances. */
export function words(count) {
  let phase = 0;
  return train(count, WORD_MS, LEAST_SILENCE_MS, (k) => {
    phase += (2 * Math.PI * (140 + 20 * Math.sin(k / 9000))) / RATE_HZ;
    return 7000 * (Math.cos(phase) + 0.6 * Math.cos(2 * phase) + 0.4 * Math.cos(3 * phase + 1));
  });
}

function train(count, soundMs, gapMs, wave) {
  const parts = [];
  for (let i = 0; i < count; i++) {
    const sound = (soundMs * RATE_HZ) / 1000;
    const gap = Math.round(((gapMs + Math.random() * SPREAD_MS) * RATE_HZ) / 1000);
    const part = new Int16Array(sound + gap);
    for (let k = 0; k < sound; k++) part[k] = wave(k);
    parts.push(Buffer.from(part.buffer));
  }
  return Buffer.concat(parts);
}

function onsets(samples, channel) {
  const found = [];
  let loud = -Infinity;
  for (let i = channel; i < samples.length; i += 2) {
    if (Math.abs(samples[i]) <= LOUD) continue;
    const at = i / 2 / RATE_HZ;
    if (at - loud > QUIET_MS / 1000) found.push(at);
    loud = at;
  }
  return found;
}
