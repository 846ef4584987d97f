// The worklets' arithmetic, sample by sample, without a browser: resampler, capture and playback run in a
// scope with the few globals a worklet has.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

import { test } from '../test.mjs';

const QUANTUM = 128;
const WIRE_HZ = 24000;

/** @returns {{make: (name: string) => object, scope: object}} the processors as a device of that rate runs them */
function worklets(rate) {
  const kinds = {};
  class AudioWorkletProcessor {
    port = { posted: [], postMessage: (data) => this.port.posted.push(data) };
  }
  const scope = vm.createContext({ AudioWorkletProcessor, sampleRate: rate, registerProcessor: (name, kind) => (kinds[name] = kind) });
  for (const name of ['resampler', 'jitter', 'capture-worklet', 'playback-worklet']) {
    const file = fileURLToPath(new URL(`../../../frontend/${name}.js`, import.meta.url));
    vm.runInContext(`{${fs.readFileSync(file, 'utf8')}}`, scope, { filename: file }); // a block: each module has its own names
  }
  return { scope, make: (name) => new kinds[name]() };
}

function sine(hz, rate, seconds) {
  return Float32Array.from({ length: rate * seconds }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * i) / rate));
}

/** Power of the tone over the power of all else, in dB, by fitting sine and cosine. */
function signalToNoise(samples, hz, rate) {
  let s = 0, c = 0, all = 0;
  for (const [i, x] of samples.entries()) {
    s += x * Math.sin((2 * Math.PI * hz * i) / rate);
    c += x * Math.cos((2 * Math.PI * hz * i) / rate);
    all += x * x;
  }
  const tone = (2 * (s * s + c * c)) / samples.length;
  return 10 * Math.log10(tone / Math.max(all - tone, 1e-12));
}

function convert(scope, from, to, samples) {
  const resampler = new scope.Resampler(from, to);
  const out = [];
  const block = new Float32Array(QUANTUM);
  for (let at = 0; at < samples.length; at += QUANTUM) {
    resampler.push(samples.subarray(at, at + QUANTUM));
    for (let n; (n = resampler.read(block)) > 0; ) out.push(...block.subarray(0, n));
  }
  return Float32Array.from(out);
}

const loudest = (samples) => samples.reduce((most, s) => Math.max(most, Math.abs(s)), 0);

for (const [from, to] of [[48000, 24000], [44100, 24000], [24000, 48000], [24000, 44100], [16000, 24000], [96000, 24000]]) {
  test(`resampling ${from} to ${to} Hz keeps speech and its length`, () => {
    const { scope } = worklets(from);
    for (const hz of [200, 1000, 5000]) {
      const out = convert(scope, from, to, sine(hz, from, 1));
      assert.ok(Math.abs(out.length - to) < 100, `${out.length} samples`);
      const settled = out.subarray(200, 200 + to / 2); // a whole number of waves
      assert.ok(signalToNoise(settled, hz, to) > 70, `${hz} Hz: ${signalToNoise(settled, hz, to)} dB`);
    }
  });
}

test('what 24 kHz cannot carry does not come back as a lower tone', () => {
  const { scope } = worklets(48000);
  const out = convert(scope, 48000, WIRE_HZ, sine(14000, 48000, 1));
  assert.ok(20 * Math.log10(loudest(out.subarray(200)) / 0.5) < -70);
});

test('capture posts frames of 20 ms, at full scale without overflow', () => {
  const { make } = worklets(44100);
  const capture = make('capture');
  const loud = sine(440, 44100, 1).map((s) => 3 * s);
  const silence = [[new Float32Array(QUANTUM)]];
  assert.ok(capture.process([[]], silence), 'not connected yet');
  for (let at = 0; at + QUANTUM <= loud.length; at += QUANTUM) capture.process([[loud.subarray(at, at + QUANTUM)]], silence);
  assert.ok([49, 50].includes(capture.port.posted.length));
  const frames = capture.port.posted.map((buffer) => new Int16Array(buffer));
  for (const frame of frames) assert.equal(frame.length, 480);
  assert.ok(Math.max(...frames[9]) > 32000 && Math.min(...frames[9]) < -32000);
});

/** The bytes of the frames of `bursts` bursts of so many quanta at 48 kHz, and where each frame ends: after a quantum of a
 *  burst, or after the burst (`over`). */
function framesOf(bursts, quanta, rings = true) {
  const capture = worklets(48000).make('capture');
  const ear = {};
  let rang = false;
  capture.port.onmessage({ data: [{ postMessage: () => (rang = true) }, ear] });
  const found = [];
  const note = (at) => found.push(...capture.port.posted.splice(0).map((data) => [data.byteLength ?? data, at]));
  for (let k = 0; k < bursts; k++) {
    for (let i = 0; i < quanta; i++) {
      capture.process([[new Float32Array(QUANTUM).fill(0.5)]], [[new Float32Array(QUANTUM)]]);
      note('in');
    }
    if (rang && rings) ear.onmessage();
    rang = false;
    note('over');
  }
  return found.slice(2); // the first ones lack what is in the resampler
}

test('where worklets run in bursts, frames end with them', () => {
  // 2.7, 5.3, 10.7 and 21.3 ms: as many bursts as make 18 ms.
  for (const [quanta, bytes] of [[1, 896], [2, 1024], [4, 1024], [8, 1024]]) {
    const found = framesOf(100, quanta);
    assert.ok(found.length > 10);
    assert.deepEqual(found, found.map(() => [bytes, 'over']), `bursts of ${quanta} quanta`);
  }
  // Longer ones have frames of 24 ms, and one of the rest.
  assert.deepEqual(framesOf(20, 16).slice(-4), [[1152, 'in'], [896, 'over'], [1152, 'in'], [896, 'over']]);
  const unheard = framesOf(20, 4, false);
  assert.deepEqual(unheard, unheard.map(() => [1152, 'in']), 'nor is anything lost where no message comes');
});

test('capture counts the time of a microphone that brings nothing, and none before there is one', () => {
  const capture = worklets(48000).make('capture');
  const silence = [[new Float32Array(QUANTUM)]];
  const run = (input, quanta) => {
    for (let i = 0; i < quanta; i++) capture.process([input], silence);
    return capture.port.posted.splice(0);
  };
  assert.deepEqual(run([], 75), []);
  const frames = run([new Float32Array(QUANTUM).fill(0.5)], 75); // 200 ms
  assert.ok([9, 10].includes(frames.length) && frames.every((frame) => frame.byteLength === 960));
  const absent = run([], 75);
  assert.equal(absent.filter((frame) => frame === 960).length, 9);
  assert.ok(absent[0].byteLength === 960, 'the last of the sound');
});

/** @returns {number} the least loudness of any 10 ms at 48 kHz, as root mean square */
function quietest(samples) {
  let least = Infinity;
  for (let at = 0; at + 480 <= samples.length; at += 480) {
    const power = samples.slice(at, at + 480).reduce((sum, s) => sum + s * s, 0) / 480;
    least = Math.min(least, Math.sqrt(power));
  }
  return least;
}

/** A playback node with a recorder. */
function player(rate = 48000) {
  const playback = worklets(rate).make('playback');
  const heard = [];
  return {
    heard,
    posted: playback.port.posted,
    queued: () => playback.buffer.waiting,
    tell: (data) => playback.port.onmessage({ data }),
    push(samples) {
      const pcm = new Int16Array(samples.length);
      for (let i = 0; i < pcm.length; i++) pcm[i] = samples[i] * 32767; // in half the time of `from`
      playback.port.onmessage({ data: pcm.buffer });
    },
    run(ms) {
      for (let n = Math.round((ms * rate) / 1000 / QUANTUM); n > 0; n--) {
        const out = new Float32Array(QUANTUM);
        playback.process([], [[out]]);
        heard.push(...out);
      }
    },
  };
}

test('a long reply that comes at once is played whole, without a gap', () => {
  const p = player();
  const reply = sine(500, WIRE_HZ, 60);
  for (let at = 0; at < reply.length; at += 7777) p.push(reply.subarray(at, at + 7777));
  p.run(60500);
  const from = p.heard.findIndex((s) => Math.abs(s) > 1e-3) + 200;
  const settled = Float32Array.from(p.heard.slice(from, from + 48000 * 59));
  assert.ok(signalToNoise(settled, 500, 48000) > 60);
  assert.deepEqual({ ...p.posted.at(-1) }, { playing: false, ms: 60000, level: 0 });
});

test('half an hour may wait to be played; what comes beyond is refused, and said so', () => {
  const p = player();
  const minute = new Float32Array(60 * WIRE_HZ);
  for (let i = 0; i < 31; i++) p.push(minute); // the last one finds just half an hour there
  assert.deepEqual(p.posted, []);
  for (let i = 0; i < 5; i++) p.push(minute);
  assert.deepEqual(p.posted.map((message) => ({ ...message })), Array(5).fill({ full: true }));
  assert.equal(p.queued(), 31 * minute.length);
  p.tell('flush');
  p.push(sine(500, WIRE_HZ, 1));
  p.run(200);
  assert.ok(loudest(p.heard) > 0.4, 'the next reply has room');
});

test('playing starts with 20 ms in hand, and frames in real time leave no gap', () => {
  const p = player();
  p.tell('reply');
  const reply = sine(500, WIRE_HZ, 2);
  for (let i = 0; i < 50; i++) {
    p.push(reply.subarray(i * 480, (i + 1) * 480));
    p.run(i % 2 ? 10 : 30); // unevenly
  }
  const first = p.heard.findIndex((s) => Math.abs(s) > 1e-3);
  assert.ok(first / 48 < 30, `${first / 48} ms`);
  assert.ok(quietest(p.heard.slice(first + 480, first + 480 + 48 * 900)) > 0.2, 'no gap');
  assert.equal(p.posted.filter((m) => m.playing === false).length, 0);
});

test('an end shorter than what is waited for is heard, and fades in and out', () => {
  const p = player();
  p.push(new Float32Array(360).fill(0.5)); // 15 ms
  p.run(20);
  assert.equal(loudest(p.heard), 0);
  p.run(60);
  const sum = p.heard.reduce((a, b) => a + b, 0) / 2;
  assert.ok(Math.abs(sum - 180) < 5, `${sum} of 180`); // what fades in is missing, and as much fades out
  assert.ok(loudest(p.heard) > 0.49);
  assert.ok(p.heard.slice(1).every((s, i) => Math.abs(s - p.heard[i]) < 0.01), 'no click');
});

test('a flush fades out in 5 ms, forgets the rest and says how much was heard', () => {
  const p = player();
  p.push(sine(500, WIRE_HZ, 1));
  p.tell('reply');
  p.push(sine(500, WIRE_HZ, 3));
  p.run(1500);
  p.tell('flush');
  const { flushed, ms } = p.posted.at(-1);
  assert.ok(flushed && Math.abs(ms - 500) < 10, `${ms} ms of the second reply`);
  p.heard.length = 0;
  p.run(300);
  assert.ok(loudest(p.heard.slice(48 * 8)) < 1e-3);
  assert.ok(p.heard.slice(1).every((s, i) => Math.abs(s - p.heard[i]) < 0.06), 'no click');
  p.push(sine(500, WIRE_HZ, 1));
  p.run(200);
  assert.ok(loudest(p.heard) > 0.4, 'the next reply is heard');
});

test('capture tells a microphone of one and the same sample, and each sound after it', () => {
  const silence = [[new Float32Array(QUANTUM)]];
  const constant = (level) => () => new Float32Array(QUANTUM).fill(level);
  const faint = () => Float32Array.from({ length: QUANTUM }, (_, i) => (i % 64 === 0 ? 1 / 32768 : 0)); // a very quiet room
  const begin = () => {
    const capture = worklets(48000).make('capture');
    const run = (input, seconds) => {
      for (let i = 0; i < (48000 * seconds) / QUANTUM; i++) capture.process([[input()]], silence);
      return capture.port.posted.splice(0).filter((data) => typeof data === 'string');
    };
    return { run, listen: () => capture.port.onmessage({ data: 'listen' }) };
  };
  for (const level of [0, 1 / 32768, -0.25]) {
    const { run } = begin();
    assert.deepEqual(run(constant(level), 3.9), [], `${level}`);
    assert.deepEqual(run(constant(level), 10), ['silent'], `${level}`);
    assert.deepEqual(run(faint, 0.1), ['heard']);
    assert.deepEqual(run(faint, 10), [], 'one bit of noise is a room');
    assert.deepEqual(run(constant(level), 5), ['silent'], 'later in the call too');
  }
  // The page has asked anew while a 'silent' was on its way: it learns all the same that there is sound.
  const { run, listen } = begin();
  assert.deepEqual(run(constant(0), 5), ['silent']);
  listen();
  assert.deepEqual(run(faint, 1), ['heard']);
  listen();
  assert.deepEqual(run(constant(0), 5), ['silent']);
});

test('a reply is played more softly when it has to be, and as before after it, without a step', () => {
  const { make } = worklets(24000);
  const playback = make('playback');
  const tone = Int16Array.from(sine(200, WIRE_HZ, 3), (s) => s * 32767);
  playback.port.onmessage({ data: tone.buffer });
  const heard = [];
  const render = (seconds) => {
    const from = heard.length;
    for (let at = 0; at < seconds * WIRE_HZ; at += QUANTUM) {
      const out = new Float32Array(QUANTUM);
      playback.process([], [[out]]);
      heard.push(...out);
    }
    return loudest(heard.slice(from + WIRE_HZ * 0.1));
  };
  const usual = render(0.5);
  playback.port.onmessage({ data: 'soft' });
  assert.ok(Math.abs(render(0.5) / usual - 0.25) < 0.02, 'a quarter');
  playback.port.onmessage({ data: 'loud' });
  assert.ok(Math.abs(render(0.5) / usual - 1) < 0.02, 'all of it');
  const steps = heard.slice(WIRE_HZ * 0.1).map((s, i, all) => Math.abs(s - (all[i - 1] ?? s)));
  assert.ok(loudest(steps) < 0.5 * 0.06, `the steepest step is ${loudest(steps)}`);
});
