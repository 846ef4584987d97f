// The jitter buffer by a virtual clock: pieces of 20 ms come early, late, in a flood or not at all, and what it plays is
// listened to for gaps and clicks. No browser is needed.

import assert from 'node:assert/strict';

import { drought, JitterBuffer } from '../player.mjs';
import { speech } from '../sound.mjs';
import { test } from '../test.mjs';

const MS = 24; // samples
const PIECE = 20 * MS;
const QUANTUM = 64; // a render quantum of 128 at 48 kHz
const FADE = 5 * MS;
const GAP = 0.5; // of the usual loudness
const CLICK = 1.6; // times the steepest step of the sound itself

/** The same numbers for the same seed, 0 to 1 (mulberry32). */
function numbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A voice without a pause: harmonics whose pitch wanders, so that no period is like another. From its first sample on
 *  it is loud: what begins or ends without a fade clicks. */
function voice(samples) {
  let phase = 0;
  return Int16Array.from({ length: samples }, (_, i) => {
    phase += (2 * Math.PI * (140 + 20 * Math.sin(i / 9000))) / 24000;
    return 7000 * (Math.cos(phase) + 0.6 * Math.cos(2 * phase) + 0.4 * Math.cos(3 * phase + 1));
  });
}

/** Plays a sound whose pieces come when they come.
 *  @param {Int16Array} sound
 *  @param {(k: number) => number} comes ms after the beginning at which piece k comes, in order
 *  @param {{end?: boolean, more?: number, meanwhile?: (buffer: object, now: number) => void}} [wish] `more` ms after the last piece */
function play(sound, comes, { end = true, more = 2000, meanwhile = () => {} } = {}) {
  const buffer = new JitterBuffer();
  buffer.begin();
  const pieces = Math.ceil(sound.length / PIECE);
  const heard = [];
  const behind = [];
  const out = new Float32Array(QUANTUM);
  const until = (comes(pieces - 1) + more) * MS;
  let last = 0;
  for (let now = 0, k = 0; now < until; now += QUANTUM) {
    for (; k < pieces && Math.max(last, comes(k) * MS) <= now; k++) {
      last = comes(k) * MS;
      buffer.push(sound.slice(k * PIECE, (k + 1) * PIECE), now);
      if (k === pieces - 1 && end) buffer.end();
    }
    meanwhile(buffer, now / MS);
    buffer.take(out, QUANTUM, now);
    for (const sample of out) heard.push(sample);
    behind.push(buffer.waiting / MS);
  }
  /** Of what waits, in ms, on the average between two times in ms. */
  const waits = (from, to) => {
    const some = behind.slice((from * MS) / QUANTUM, (to * MS) / QUANTUM);
    return some.reduce((a, b) => a + b, 0) / some.length;
  };
  return { buffer, heard, waits };
}

/** In real time, each piece late by some ms. */
const late = (by) => {
  let last = 0;
  const times = [];
  return (k) => {
    for (; times.length <= k; ) times.push((last = Math.max(last, (times.length + 1) * 20 + by(times.length))));
    return times[k];
  };
};

/** @returns {number[]} where 10 ms are much quieter than usual, in ms, between the first sound and the last */
function gaps(heard, usual) {
  const loud = [];
  for (let at = 0; at + 10 * MS <= heard.length; at += 10 * MS) {
    let power = 0;
    for (let i = 0; i < 10 * MS; i++) power += heard[at + i] ** 2;
    loud.push(Math.sqrt(power / (10 * MS)));
  }
  const [first, last] = [loud.findIndex((x) => x > 0.01) + 1, loud.findLastIndex((x) => x > 0.01)];
  return loud.flatMap((x, i) => (i > first && i < last && x < usual * GAP ? [i * 10] : []));
}

const loudness = (sound) => Math.sqrt(sound.reduce((sum, s) => sum + (s / 32768) ** 2, 0) / sound.length);
const steepest = (samples) => samples.reduce((most, s, i) => Math.max(most, i ? Math.abs(s - samples[i - 1]) : 0), 0);
/** @returns {number} the steepest step heard, in those of the sound itself */
const clicks = (heard, sound) => steepest(heard) / (steepest(Array.from(sound)) / 32768);

const minute = voice(60 * 1000 * MS);
const usual = loudness(minute);

test('playing begins with 20 ms in hand, and stays near that on a quiet link', () => {
  const { heard, waits } = play(minute.subarray(0, 10000 * MS), late(() => 0));
  const first = heard.findIndex((s) => s !== 0) / MS;
  assert.ok(first >= 20 && first < 30, `${first} ms`);
  assert.ok(waits(2000, 9000) < 30, `${waits(2000, 9000)} ms wait`);
});

for (const seed of [1, 2, 3]) {
  test(`100 ms of jitter: no gap in a minute, no click, and no longer wait than it asks for (seed ${seed})`, () => {
    const random = numbers(seed);
    const states = new Set();
    const meanwhile = (buffer, ms) => ms > 10000 && ms < 59000 && states.add(buffer.state);
    const { heard, waits } = play(minute, late(() => random() * 100), { meanwhile });
    assert.deepEqual([...states], ['playing'], 'once it knows the jitter, nothing need be bridged');
    assert.deepEqual(gaps(heard, usual), []);
    assert.ok(clicks(heard, minute) < CLICK, `${clicks(heard, minute)}`);
    assert.ok(waits(5000, 55000) < 120, `${waits(5000, 55000)} ms wait`);
  });
}

test('the wait grows with the jitter, and shrinks again after it', () => {
  const random = numbers(4);
  const { heard, waits } = play(minute, late((k) => (k > 500 && k < 1000 ? random() * 100 : 0)));
  assert.deepEqual(gaps(heard, usual), []);
  assert.ok(clicks(heard, minute) < CLICK);
  const [before, during, after] = [waits(5000, 9000), waits(15000, 19000), waits(40000, 55000)];
  assert.ok(before < 30 && during > before + 20 && after < 30, `${before}, ${during}, ${after} ms`);
});

test('once there is less jitter, the player comes nearer by as little as 4 ms', () => {
  const { waits } = play(minute.subarray(0, 30000 * MS), late((k) => (k % 2) * (k < 250 ? 14 : 10)));
  const least = 10 - 10 / 2 + PIECE / MS / 2; // late by 10 at most, by half of it on the average, and half a piece
  assert.ok(waits(25000, 29000) < least + 2.5, `${waits(25000, 29000)} ms wait, ${least} would do`);
});

test('a stall of one second is bridged without a click, and caught up', () => {
  const stalled = late((k) => Math.max(0, k >= 500 && k < 550 ? 1000 - (k - 500) * 20 : 0));
  const { heard, waits, buffer } = play(minute.subarray(0, 40000 * MS), stalled);
  const silent = gaps(heard, usual);
  assert.ok(silent.length > 0 && silent.length < 95, `${silent.length * 10} ms are quiet`);
  assert.ok(silent.at(-1) - silent[0] < 1000, 'in one piece');
  assert.ok(clicks(heard, minute) < CLICK, `${clicks(heard, minute)}`);
  assert.ok(waits(11500, 12000) > 700, 'all of it is kept');
  assert.ok(waits(22000, 38000) < 40, `${waits(22000, 38000)} ms wait`);
  assert.equal(buffer.played, 40000 * MS);
});

test('in speech a stall is caught up in its pauses first', () => {
  const words = speech('weather');
  const sound = Int16Array.from({ length: 4 * words.length }, (_, i) => words[i % words.length]);
  const whole = (sound.length / PIECE) * 20;
  const { waits } = play(sound, late((k) => Math.max(0, k >= 100 && k < 150 ? 1000 - (k - 100) * 20 : 0)));
  const rest = waits(9000, Math.min(whole, 12000));
  assert.ok(rest < 100, `${rest} ms wait`);
});

for (const pace of [1.1, 1.5, 8, 1000]) {
  test(`a reply that comes ${pace} times as fast as it is spoken is played sample by sample`, () => {
    const sound = minute.subarray(0, 20000 * MS);
    const { heard, buffer } = play(sound, (k) => ((k + 1) * 20) / pace, { more: 20500 });
    const first = heard.findIndex((s) => s !== 0);
    const wrong = Array.from(sound.subarray(5 * MS)).findIndex((s, i) => heard[first + 5 * MS + i] !== s / 32768);
    assert.equal(wrong, -1, `differs after ${wrong / MS} ms`);
    assert.equal(buffer.state, 'idle');
    assert.ok(clicks(heard, sound) < CLICK, 'it begins and ends without a click');
  });
}

test('a flood that stops for a second loses nothing, and nothing is heard of it', () => {
  const sound = minute.subarray(0, 10000 * MS);
  const { heard } = play(sound, (k) => (k + 1) * 5 + (k > 200 ? 1000 : 0), { more: 10000 });
  assert.deepEqual(gaps(heard, usual), []);
});

test('sound that comes behind the word of its end is bridged as any other', () => {
  let told = false;
  const { heard, buffer } = play(minute.subarray(0, 10000 * MS), late((k) => (k >= 400 && k < 405 ? 100 - (k - 400) * 20 : 0)), {
    meanwhile: (buffer, ms) => told || (ms > 5000 && (told = true) && buffer.end()),
  });
  assert.deepEqual(gaps(heard, usual), []);
  assert.ok(clicks(heard, minute) < CLICK, `${clicks(heard, minute)}`);
  assert.equal(buffer.state, 'idle');
});

/** An answer of 8 s in pieces of 100 ms, three times as fast as it is spoken, with a break of 300 ms and one of 1 s, after
 *  which all that was missed comes at once. Text overtakes sound, so the word of the end comes before it. */
function broken() {
  const got = Array.from({ length: 80 }, (_, k) => ({ at: (k * 100) / 3, bytes: 100 * MS * 2 }));
  for (const [from, to] of [[900, 1200], [2000, 3000]]) for (const one of got) if (one.at > from && one.at < to) one.at = to;
  const missed = got.findIndex(({ at }) => at === 3000);
  return got.toSpliced(missed, 0, { at: 3000, type: 'response_done' });
}

test('a reply whose missed sound comes behind the word of its end is as long as it was said, and has no hole', () => {
  const sound = minute.subarray(0, 8000 * MS);
  const got = broken();
  const buffer = new JitterBuffer();
  buffer.begin();
  const heard = [];
  const out = new Float32Array(QUANTUM);
  for (let now = 0, at = 0; now < 9000 * MS; now += QUANTUM) {
    for (; got.length > 0 && got[0].at * MS <= now; got.shift()) {
      const samples = (got[0].bytes ?? 0) / 2;
      if (samples === 0) buffer.end();
      else buffer.push(sound.slice(at, at + samples), now);
      at += samples;
    }
    buffer.take(out, QUANTUM, now);
    heard.push(...out);
  }
  const [first, last] = [heard.findIndex((s) => s !== 0), heard.findLastIndex((s) => s !== 0)];
  const ms = (last - first) / MS;
  assert.ok(ms >= 7995 && ms <= 8020, `${ms} ms are heard`); // it may begin with a period of the voice twice, and fades within 5
  assert.deepEqual(gaps(heard, usual), []);
  assert.equal(drought(broken()), 0, 'nor does the judge of the tests in browsers find one');
});

test('the judge of a hole knows whether the sound had come in time', () => {
  assert.equal(drought(broken(), 50), 0, 'there is more than that in hand');
  const late = broken().map((one) => ({ ...one, at: one.at > 1000 ? one.at + 2600 : one.at }));
  const dry = drought(late);
  assert.ok(dry > 950 && dry < 1150, `${dry} ms`); // from 2800 ms on, and the next piece comes at 3800
});

test('a service that pauses within a reply is followed, not chased', () => {
  const { heard } = play(minute.subarray(0, 20000 * MS), late((k) => (k >= 300 ? 3000 : 0)));
  const quiet = gaps(heard, usual);
  assert.ok(quiet.at(-1) - quiet[0] < 3100, `quiet at ${quiet[0]} to ${quiet.at(-1)} ms`);
});

for (const ppm of [200, -200]) {
  test(`clocks that differ by ${ppm} ppm: an hour without drift or gap`, () => {
    const buffer = new JitterBuffer();
    buffer.begin();
    const pieces = Array.from({ length: 500 }, (_, k) => minute.slice(k * PIECE, (k + 1) * PIECE)); // 10 s, again and again
    const out = new Float32Array(QUANTUM);
    const states = new Set();
    let most = 0;
    for (let now = 0, k = 0; now < 3600_000 * MS; now += QUANTUM) {
      if ((k + 1) * PIECE <= now * (1 + ppm / 1e6)) buffer.push(pieces[k++ % 500], now);
      buffer.take(out, QUANTUM, now);
      if (now < 1000 * MS) continue;
      states.add(buffer.state);
      most = Math.max(most, buffer.waiting / MS);
    }
    assert.deepEqual([...states], ['playing'], 'it never runs dry');
    assert.ok(most < 60, `${most} ms wait at most`);
  });
}

test('no click where a reply is cut, ends in mid-wave, or follows another', () => {
  const sound = minute.subarray(0, 3010 * MS);
  let state = 'first';
  const { heard } = play(sound, (k) => (k + 1) * 2, {
    more: 8000,
    meanwhile: (buffer, ms) => {
      if (state === 'first' && ms > 1234) [state] = ['cut', buffer.flush()];
      else if (state === 'cut' && ms > 1500) [state] = ['second', buffer.push(minute.slice(777, 777 + 1003 * MS), ms * MS)];
      else if (state === 'second' && ms > 2600) [state] = ['third', buffer.push(minute.slice(99, 99 + 500 * MS), ms * MS)];
    },
  });
  assert.equal(state, 'third');
  assert.ok(clicks(heard, minute) < CLICK, `${clicks(heard, minute)}`);
  const loud = (from, to) => loudness(heard.slice(from * MS, to * MS).map((s) => s * 32768)) > usual / 2;
  assert.deepEqual([loud(1100, 1200), loud(1250, 1450), loud(1550, 2450), loud(2540, 2590), loud(2650, 3050), loud(3150, 4000)], [true, false, true, false, true, false]);
});

test('a cut while a gap is bridged fades out too', () => {
  const { heard } = play(minute.subarray(0, 1000 * MS), late(() => 0), {
    end: false,
    meanwhile: (buffer) => buffer.state === 'bridging' && buffer.flush(),
  });
  assert.ok(clicks(heard, minute) < CLICK);
  assert.ok(heard.slice(1100 * MS).every((s) => s === 0));
});

/** Ten seconds in a flood; held at 2 s, and let go 1 s later. */
function held(wish = {}) {
  const sound = minute.subarray(0, 10000 * MS);
  let at = 0;
  const meanwhile = (buffer, ms) => {
    if (at === 0 && ms >= 2000) [at] = [ms, buffer.hold()];
    if (at > 0 && ms >= at + 1000) buffer.goOn(ms * MS);
  };
  return { sound, ...play(sound, late((k) => -15 * k), { more: 9000, meanwhile, ...wish }) };
}

test('a reply that is held falls silent, and goes on with the last 200 ms once more', () => {
  const { sound, heard, buffer } = held();
  assert.ok(clicks(heard, sound) < CLICK, `${clicks(heard, sound)}`);
  const first = heard.findIndex((s) => s !== 0);
  const silent = heard.findIndex((s, i) => i > first && heard.slice(i, i + 100 * MS).every((x) => x === 0));
  assert.ok(Math.abs(silent / MS - 2005) < 6, `silent from ${silent / MS} ms on`);
  const on = heard.findIndex((s, i) => i > silent && s !== 0);
  assert.ok(on / MS > 2990 && on / MS < 3060, `it goes on at ${on / MS} ms`);
  const stopped = silent - first; // of the reply
  const same = (from) => {
    for (let i = FADE; i < 1000 * MS; i++) if (Math.abs(heard[on + i] - sound[from + i] / 32768) > 1e-3) return false;
    return true;
  };
  // The player may have repeated a period or two of the voice before.
  const again = Array.from({ length: 35 * MS }, (_, i) => 195 * MS + i);
  assert.ok(again.some((samples) => same(stopped - samples)), '200 ms are not heard again');
  assert.equal(buffer.played, sound.length, 'nothing is left out or lost');
});

test('what comes while a reply is held is kept behind it', () => {
  const sound = minute.subarray(0, 3000 * MS);
  const meanwhile = (buffer, ms) => {
    if (ms >= 1000 && ms < 1010) buffer.hold();
    if (ms >= 2000 && ms < 2010) buffer.goOn(ms * MS);
  };
  const { heard, buffer } = play(sound, late(() => 0), { more: 3000, meanwhile });
  assert.ok(clicks(heard, sound) < CLICK, `${clicks(heard, sound)}`);
  assert.equal(buffer.played, sound.length);
  const loud = heard.findLastIndex((s) => Math.abs(s) > 0.05) / MS;
  assert.ok(loud > 4100 && loud < 4400, `a second and 200 ms later, and not chased: ${loud} ms`);
});

test('a reply that is held and then cut is silent, and the next one is heard from its beginning', () => {
  const { buffer } = held({ more: -8000 });
  buffer.hold();
  buffer.flush();
  const out = new Float32Array(1000 * MS);
  buffer.take(out, out.length, 0);
  assert.ok(out.subarray(FADE).every((s) => s === 0));
  assert.equal(buffer.waiting, 0);
  buffer.goOn(0);
  assert.equal(buffer.state, 'idle', 'there is nothing to go on with');
});
