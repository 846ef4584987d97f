#!/usr/bin/env node
// From mouth to ear: how long does a sound take through the page and the daemon, and where?
//
//     make bench-page                      about 12 minutes, into docs/performance.md
//     QUICK=1 make bench-page              one run of each, for a look; writes nothing
//     benches/page/run.mjs [RUNS] [CLICKS]
//
// A click train goes in at the microphone of a real browser and is recorded at its loudspeaker. The service is a stand-in
// that sends back what it hears, at once. The sample's way (sample.js) takes turns with the page, through the same
// daemon. TEST_DAEMON names the daemon; figures want a release build.

import fs from 'node:fs';
import http from 'node:http';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { DAEMON, startDaemon } from '../../tests/browser/daemon.mjs';
import { mirrorSettings, startMirror } from '../../tests/browser/mirror.mjs';
import { openRoom } from './room.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const repository = path.join(here, '../../');
const { chromium, firefox } = createRequire(path.join(repository, 'tests/browser/'))('playwright-core');

const QUICK = Boolean(process.env.QUICK);
const RUNS = Number(process.argv[2] ?? (QUICK ? 1 : 3));
const CLICKS = Number(process.argv[3] ?? (QUICK ? 20 : 40));
const SETTLE_MS = 4000; // the echo canceller, the gain control and the player find their level
const REPORT = path.join(repository, 'docs/performance.md');
const MARK = ['<!-- page: written by `make bench-page` -->', '<!-- end of page -->'];

const BROWSERS = {
  Chromium: (env) =>
    chromium.launch({
      executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
      headless: true,
      ignoreDefaultArgs: ['--mute-audio'],
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--use-fake-ui-for-media-stream'],
      env,
    }),
  Firefox: (env) =>
    firefox.launch({
      channel: 'moz-firefox',
      executablePath: process.env.FIREFOX_BIN ?? '/usr/bin/firefox-esr',
      headless: true,
      firefoxUserPrefs: { 'media.navigator.permission.disabled': true },
      env,
    }),
};
const WAYS = ['this page', "the sample's way"];

/** The parts of the way, in ms of each click. */
const PARTS = {
  'mouth to ear, recorded outside the browser': 'whole',
  'of which page and daemon: microphone node to player node': 'own',
  'of which microphone node to frame sent': 'up',
  'of which network, daemon and back': 'net',
  'of which frame received to sample played': 'down',
};

/** What a test's `t` does for the helpers of the tests: it ends what they have begun. */
function scope() {
  const ends = [];
  return { after: (end) => ends.unshift(end), close: async () => { for (const end of ends) await end(); } };
}

async function serveSample(t) {
  const server = http.createServer(({ url }, reply) => {
    const name = url.startsWith('/sample.js') ? 'sample.js' : 'sample.html';
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
    const env = { ...mirrorSettings(await startMirror(t)), VOICELIVED_ALLOWED_ORIGINS: sample };
    const daemon = await startDaemon(t, env, { command: 'run' });
    const browser = await launch(room.env);
    t.after(() => browser.close());
    const page = await browser.newPage();
    await page.addInitScript({ path: path.join(here, 'ear.js') });
    const socket = `${daemon.url.replace('http', 'ws')}ws`;
    await page.goto(way === WAYS[0] ? daemon.url : `${sample}/?ws=${encodeURIComponent(socket)}`);
    await page.getByRole('button', { name: 'Start Talking' }).click();
    await page.waitForFunction(() => window.ear.context?.currentTime > 0);
    await sleep(SETTLE_MS);
    const outside = await room.record(CLICKS);
    const inside = await page.evaluate(() => ({ ...window.ear.onsets(), sent: window.ear.sent, got: window.ear.got }));
    return parts(outside, inside);
  } finally {
    await t.close();
  }
}

/** Each click with its own return: the first thing that follows it within the shortest distance of clicks. */
function parts({ said, heard }, { entered, played, sent, got }) {
  const after = (list, from, time = (x) => x) => list.find((x) => time(x) >= from && time(x) < from + 0.85);
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
    found.up.push((left.context - from) * 1000);
    found.net.push(came.wall - left.wall);
    found.down.push((to - came.context) * 1000);
  }
  return found;
}

const at = (numbers, part) => numbers.toSorted((a, b) => a - b)[Math.round(part * (numbers.length - 1))] ?? NaN;
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
const build = /release/.test(DAEMON) ? 'release build' : 'debug build';
const day = new Date().toISOString().slice(0, 10);
lines.push(`${day}, ${RUNS} runs of ${CLICKS} clicks each in turn, ${build}; load of the machine's ${os.cpus().length} cores: ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)}.`);
console.log(lines.join('\n'));
if (!QUICK) {
  const text = fs.readFileSync(REPORT, 'utf8');
  const [from, to] = [text.indexOf(MARK[0]), text.indexOf(MARK[1])];
  if (from >= 0 && to > from) fs.writeFileSync(REPORT, `${text.slice(0, from)}${MARK[0]}\n\n${lines.join('\n')}\n\n${text.slice(to)}`);
}
