#!/usr/bin/env node
// From mouth to ear: how long does a sound take through the page and the daemon, and where?
//
//     make bench-page                      about 18 minutes, into docs/performance.md
//     QUICK=1 make bench-page              one run of each, for a look; writes nothing
//     benches/page/run.mjs [RUNS] [CLICKS]
//
// A click train goes in at the microphone of a real browser and is recorded at its loudspeaker. The service is a stand-in
// that sends back what it hears, at once. The sample's way (sample.js) takes turns with the page, through the same
// daemon. TEST_DAEMON names the daemon; figures want a release build.

import fs from 'node:fs';
import http from 'node:http';
import { once } from 'node:events';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { DAEMON, startDaemon } from '../../tests/browser/daemon.mjs';
import { mirrorSettings, startMirror } from '../../tests/browser/mirror.mjs';
import { BROWSERS, at, scope } from './browsers.mjs';
import { interrupted, table } from './barge.mjs';
import { clicks, openRoom } from './room.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const repository = path.join(here, '../../');

const QUICK = Boolean(process.env.QUICK);
const RUNS = Number(process.argv[2] ?? (QUICK ? 1 : 3));
const CLICKS = Number(process.argv[3] ?? (QUICK ? 20 : 40));
const START_MS = 2000; // the browser is busy with the page
const PAUSE_MS = 1000; // then another answer begins
const SETTLE_MS = 11000; // the echo canceller and the gain control find their level; the player remembers for 10 s what came late
const REPORT = path.join(repository, 'docs/performance.md');
const MARK = ['<!-- page: written by `make bench-page` -->', '<!-- end of page -->'];

const WAYS = ['this page', "the sample's way"];

/** The parts of the way, in ms of each click. */
const PARTS = {
  'mouth to ear, recorded outside the browser': 'whole',
  'of which page and daemon: microphone node to player node': 'own',
  'of which microphone node to frame sent: the frame fills': 'up',
  'of which frame sent to frame received: network, daemon and back': 'net',
  "of which frame received to player node: the player's wait": 'down',
};

async function serveSample(t) {
  const server = http.createServer(({ url }, reply) => {
    const name = ['sample.js', 'ear-worklet.js'].find((file) => url.startsWith(`/${file}`)) ?? 'sample.html';
    reply.setHeader('content-type', name.endsWith('.js') ? 'text/javascript' : 'text/html');
    reply.end(fs.readFileSync(path.join(here, name)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return `http://localhost:${server.address().port}`;
}

/** One call. @returns {Promise<Record<string, number[]>>} */
async function call(launch, way) {
  const t = scope();
  try {
    const room = await openRoom();
    t.after(() => room.close());
    const sample = await serveSample(t);
    let answers = true;
    const mirror = await startMirror(t, (delta) => answers && mirror.send(delta));
    const env = { ...mirrorSettings(mirror), VOICELIVED_ALLOWED_ORIGINS: sample };
    const daemon = await startDaemon(t, env, { command: 'run' });
    const browser = await launch(room.env);
    t.after(() => browser.close());
    const page = await browser.newPage({ bypassCSP: true });
    const worklet = fs.readFileSync(path.join(here, 'ear-worklet.js'), 'utf8');
    await page.addInitScript({ path: path.join(here, 'ear.js') });
    await page.addInitScript(`window.ear.worklet = ${JSON.stringify(worklet)}`);
    await page.route('**/ear-worklet.js', (route) => route.fulfill({ body: worklet, contentType: 'text/javascript' }));
    const socket = `${daemon.url.replace('http', 'ws')}ws`;
    await page.goto(way === WAYS[0] ? daemon.url : `${sample}/?ws=${encodeURIComponent(socket)}`);
    await page.getByRole('button', { name: 'Start Talking' }).click();
    await page.waitForFunction(() => window.ear.context?.currentTime > 0);
    await sleep(START_MS);
    answers = false;
    mirror.done();
    await sleep(PAUSE_MS);
    answers = true;
    await sleep(SETTLE_MS);
    const outside = await room.record(clicks(CLICKS));
    const inside = await page.evaluate(() => ({ ...window.ear.onsets(), sent: window.ear.sent, got: window.ear.got, rendered: window.ear.rendered }));
    return parts(outside, inside);
  } finally {
    await t.close();
  }
}

/** Each click with its own return: the first thing that follows it within the shortest distance of clicks. */
function parts({ said, heard }, { entered, played, sent, got, rendered }) {
  const within = (most) => (list, from, time = (x) => x) => list.find((x) => time(x) >= from && time(x) < from + most);
  const [after, afterMs] = [within(0.85), within(850)];
  const found = { whole: [], own: [], up: [], net: [], down: [] };
  for (const from of said) {
    const to = after(heard, from);
    if (to) found.whole.push((to - from) * 1000);
  }
  for (const from of entered) {
    const to = after(played, from);
    const left = after(sent, from, ({ context }) => context);
    const came = left && after(got, left.wall / 1000, ({ wall }) => wall / 1000);
    if (!to || !came) continue;
    found.own.push((to - from) * 1000);
    found.net.push(came.wall - left.wall);
  }
  // The worklet's clock has steps of 1 ms.
  const date = ({ time }) => time;
  for (const from of rendered[0]) {
    const left = afterMs(sent, from, date);
    const came = left && afterMs(got, left.time, date);
    const to = came && afterMs(rendered[1], came.time);
    if (!to) continue;
    found.up.push(left.time - from);
    found.down.push(to - came.time);
  }
  return found;
}

const ms = (number) => number.toFixed(number < 10 ? 1 : 0);

const found = {};
const loads = [];
for (let run = 1; run <= RUNS; run++) {
  for (const [browser, launch] of Object.entries(BROWSERS)) {
    for (const way of WAYS) {
      const result = await call(launch, way);
      const all = ((found[browser] ??= {})[way] ??= { whole: [], own: [], up: [], net: [], down: [] });
      for (const [part, numbers] of Object.entries(result)) all[part].push(...numbers);
      loads.push(os.loadavg()[0]);
      const { own, whole } = result;
      console.error(`${run} ${browser}, ${way}: ${own.length} of ${CLICKS} clicks, own ${ms(at(own, 0.5))} (p95 ${ms(at(own, 0.95))}), whole ${ms(at(whole, 0.5))} ms, load ${loads.at(-1).toFixed(1)}`);
    }
  }
}

const reactions = {};
for (let run = 1; run <= RUNS; run++) {
  for (const [browser, launch] of Object.entries(BROWSERS)) {
    const all = (reactions[browser] ??= { softer: [], silent: [] });
    for (const [what, numbers] of Object.entries(await interrupted(launch, CLICKS / 2))) all[what].push(...numbers);
    loads.push(os.loadavg()[0]);
  }
}

const lines = [];
for (const [browser, ways] of Object.entries(found)) {
  lines.push(`| ${browser}, ms | ${WAYS.map((way) => `${way}: median | p95 | range`).join(' | ')} |`, `|---|${'---|'.repeat(3 * WAYS.length)}`);
  for (const [title, part] of Object.entries(PARTS)) {
    const cells = WAYS.flatMap((way) => {
      const numbers = ways[way][part];
      return [ms(at(numbers, 0.5)), ms(at(numbers, 0.95)), `${ms(at(numbers, 0))} to ${ms(at(numbers, 1))}`];
    });
    lines.push(`| ${title} | ${cells.join(' | ')} |`);
  }
  const share = at(ways[WAYS[0]].own, 0.95) / at(ways[WAYS[1]].own, 0.95);
  lines.push('', `${browser}: ${ways[WAYS[0]].own.length} and ${ways[WAYS[1]].own.length} clicks; p95 of page and daemon is ${share.toFixed(2)} of the sample's.`, '');
}
lines.push('How soon the page reacts to speech into an answer:', '', ...table(reactions), '');
const build = /release/.test(DAEMON) ? 'release build' : 'debug build';
const day = new Date().toISOString().slice(0, 10);
lines.push(`${day}, ${RUNS} runs of ${CLICKS} clicks each in turn, ${build}; load of the machine's ${os.cpus().length} cores: ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)}.`);
console.log(lines.join('\n'));
if (!QUICK) {
  const text = fs.readFileSync(REPORT, 'utf8');
  const [from, to] = [text.indexOf(MARK[0]), text.indexOf(MARK[1])];
  if (from >= 0 && to > from) fs.writeFileSync(REPORT, `${text.slice(0, from)}${MARK[0]}\n\n${lines.join('\n')}\n\n${text.slice(to)}`);
}
