#!/usr/bin/env node
// How soon is the assistant silent when the user speaks into an answer?
//
//     make bench-page                          runs this too, into docs/performance.md
//     benches/page/barge.mjs [WORDS]           prints the table
//
// A long tone is played by the page in a real browser. A voice goes in at the microphone, and both are recorded. The
// service is a stand-in that hears speech DETECTION_MS after the first loud frame: long enough to see what the page does
// before. Then it takes the speech for a cough, so the tone goes on. TEST_DAEMON names the daemon.

import { setTimeout as sleep } from 'node:timers/promises';

import { startDaemon } from '../../tests/browser/daemon.mjs';
import { mirrorSettings, startMirror } from '../../tests/browser/mirror.mjs';
import { BROWSERS, at, scope } from './browsers.mjs';
import { openRoom, RATE_HZ, words } from './room.mjs';

const SETTLE_MS = 4000;
const TONE_SECONDS = 110;
const DETECTION_MS = 400;
const COUGH_MS = 500;
const LOUD = 0.05 * 32768; // a loud frame of the microphone
const STEP = RATE_HZ / 200; // 5 ms: one wave of the tone
const SOFTER = 0.5;
const SILENT = 0.03;

/** The stand-in: says a tone, and takes all speech for a cough.
 *  @returns {Promise<{url: string, begin: () => void, detections: number[]}>} `detections` in ms, from the arrival of the first
 *    loud frame to the word of it */
async function startService(t) {
  const detections = [];
  let busy = false;
  const service = await startMirror(t, async (delta) => {
    const bytes = Buffer.from(delta, 'base64');
    const samples = new Int16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    if (busy || !samples.some((sample) => Math.abs(sample) > LOUD)) return;
    busy = true;
    const from = performance.now();
    const item_id = `cough${detections.length}`;
    await sleep(DETECTION_MS);
    service.tell({ type: 'input_audio_buffer.speech_started', item_id });
    detections.push(performance.now() - from);
    await sleep(COUGH_MS);
    service.tell({ type: 'input_audio_buffer.speech_stopped', item_id });
    service.tell({ type: 'input_audio_buffer.committed', item_id });
    service.tell({ type: 'conversation.item.input_audio_transcription.completed', item_id, content_index: 0, transcript: '' });
    busy = false;
  });
  const begin = () => {
    const second = Int16Array.from({ length: 24000 }, (_, i) => 10000 * Math.sin((2 * Math.PI * 200 * i) / 24000));
    for (let i = 0; i < TONE_SECONDS; i++) service.send(Buffer.from(second.buffer).toString('base64'));
  };
  return { ...service, begin, detections };
}

/** One call, in which so many words are said. @returns {Promise<Record<string, number[]>>} ms */
export async function interrupted(launch, count) {
  const t = scope();
  try {
    const room = await openRoom();
    t.after(() => room.close());
    const service = await startService(t);
    const env = { ...mirrorSettings(service), VOICELIVED_REVERSIBLE_BARGE_IN: 'on' };
    const daemon = await startDaemon(t, env, { command: 'run' });
    const browser = await launch(room.env);
    t.after(() => browser.close());
    const page = await browser.newPage();
    await page.goto(daemon.url);
    await page.getByRole('button', { name: 'Start Talking' }).click();
    await page.locator('body[data-state=listening]').waitFor();
    await sleep(SETTLE_MS / 2);
    service.begin();
    await sleep(SETTLE_MS / 2);
    return reactions(await room.record(words(count)), service.detections);
  } finally {
    await t.close();
  }
}

/** When the tone became softer, and silent, after each beginning of speech. A browser's canceller takes away the first
 *  word that is said into a reply: nobody hears it, and it does not count. */
function reactions({ said, tape }, detections) {
  const found = { softer: [], silent: [] };
  const taken = detections.values();
  for (const from of said) {
    const first = Math.round(from * RATE_HZ);
    const before = loudness(tape, first - 20 * STEP, 20 * STEP);
    const below = (share) => {
      const quiet = (at, steps) => loudness(tape, at, steps * STEP) < share * before;
      // For 50 ms: a moment that a busy machine leaves out is no reaction.
      for (let at = first; at < first + 1.2 * RATE_HZ; at += STEP / 5) if (quiet(at, 1) && quiet(at, 10)) return ((at - first) / RATE_HZ) * 1000;
      return NaN;
    };
    const silent = below(SILENT);
    if (Number.isNaN(silent)) continue;
    found.softer.push(below(SOFTER));
    found.silent.push(silent - taken.next().value);
  }
  return found;
}

/** Of the loudspeaker's channel. */
function loudness(tape, from, count) {
  let sum = 0;
  for (let i = Math.round(from); i < from + count; i++) sum += (tape[2 * i + 1] / 32768) ** 2;
  return Math.sqrt(sum / count);
}

const ROWS = {
  'half as loud: the page itself hears speech': 'softer',
  "silent, without the service's own time": 'silent',
};

/** @param {Record<string, {softer: number[], silent: number[]}>} found of each browser @returns {string[]} lines of a table */
export function table(found) {
  const browsers = Object.keys(found);
  const lines = [`| since the first sample of speech, ms | ${browsers.map((name) => `${name}: median | p95 | range`).join(' | ')} |`, `|---|${'---|'.repeat(3 * browsers.length)}`];
  for (const [title, row] of Object.entries(ROWS)) {
    const cells = browsers.map((name) => [0.5, 0.95, 0, 1].map((part) => at(found[name][row], part).toFixed(0)));
    lines.push(`| ${title} | ${cells.map(([half, most, least, all]) => `${half} | ${most} | ${least} to ${all}`).join(' | ')} |`);
  }
  const counts = browsers.map((name) => `${found[name].silent.length} in ${name}`);
  return [...lines, '', `Words: ${counts.join(', ')}.`];
}

if (process.argv[1]?.endsWith('barge.mjs')) {
  const found = {};
  for (const [browser, launch] of Object.entries(BROWSERS)) found[browser] = await interrupted(launch, Number(process.argv[2] ?? 20));
  console.log(table(found).join('\n'));
}
