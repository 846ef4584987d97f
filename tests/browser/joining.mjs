// What tests do with a page that joins its call again.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { loudness, RATE_HZ, until } from './sound.mjs';

// What a browser logs of a socket that it could not keep or make.
const BROKEN = /^(WebSocket connection to .* failed|Firefox can’t establish a connection|The connection to \S+ was interrupted|Failed to load resource)/;

const LEAST_WORDS_SECONDS = 1.5; // of 2.2 that the files of speech have at least

/** The simulator's answer to words, the only one in this call, is what it has heard, sample by sample. The page had all of it from
 *  its microphone, once and in this order: so nothing of it was lost on the way, or doubled. Where a busy machine is late with the
 *  microphone, the daemon puts in zeros. What the microphone hears is talk.test.mjs' matter. */
export async function saidInFull(talk) {
  const [answer, mouth] = [await talk.pcm(), await talk.mouth()].map((samples) => samples.filter((sample) => sample !== 0));
  const at = Buffer.from(mouth.buffer).indexOf(Buffer.from(answer.buffer));
  const seconds = answer.length / RATE_HZ;
  console.log(`  ${seconds.toFixed(2)} s of what was said came back`);
  assert.ok(at >= 0 && at % 2 === 0, 'what came back is not what was said');
  assert.ok(seconds >= LEAST_WORDS_SECONDS, `only ${seconds} s came back`);
}

/** The call has so many sockets by now, and the last one has brought its `hello`. */
export async function joined(talk, count) {
  await until(async () => (await talk.received('hello')).length === count, `socket ${count}`, 20000);
}

export async function say(talk, text) {
  await talk.page.locator('#text').fill(text);
  await talk.page.keyboard.press('Enter');
}

/** A conversation is possible. */
export async function asks(talk, text) {
  await say(talk, text);
  await talk.said('user', new RegExp(text.replace('?', '\\?')));
  await talk.said('assistant', new RegExp(text.replace('?', '\\?')));
}

export async function calm(talk) {
  talk.complaints = talk.complaints.filter((complaint) => !BROKEN.test(complaint));
  await talk.noComplaints();
}

/** From the first sound to the last: how long, how much of it is silence, and the longest silence, in ms. */
export function gaps(recording) {
  const steps = loudness(recording);
  const loud = Math.max(...steps) / 10;
  const first = steps.findIndex((step) => step > loud);
  const last = steps.findLastIndex((step) => step > loud);
  let [quiet, row, longest] = [0, 0, 0];
  for (const step of steps.subarray(first, last + 1)) {
    row = step <= loud ? row + 1 : 0;
    quiet += row > 0;
    longest = Math.max(longest, row);
  }
  return { ms: (last + 1 - first) * 10, quiet: quiet * 10, longest: longest * 10 };
}

/** Settings of a daemon whose tools take two seconds: they stand in the place of the built-in ones. */
export function slowTools(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vl-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  for (const name of ['get_weather', 'get_stock_price']) {
    const command = ['sh', '-c', 'cat >/dev/null; sleep 2; echo "It is fine."'];
    const tool = { name, description: 'Slow.', parameters: { type: 'object' }, command };
    fs.writeFileSync(path.join(folder, `${name}.json`), JSON.stringify(tool));
  }
  return { VOICELIVED_TOOLS_DIR: folder };
}
