#!/usr/bin/env node
// What does a user hear when a call loses a connection, or its session reaches its limit?
//
//     npm ci --prefix tests/browser && benches/moments.mjs [RUNS]      about 10 minutes a run
//     ONLY='Firefox' benches/moments.mjs                               what has this in its name
//
// A user speaks into the real page, in each browser. At one of four moments the page's socket breaks, or the service's
// connection, or the session of the service reaches its limit; or nothing happens, for comparison. Each case tells how
// long the user waits for the answer and how much of the answer is silence. TEST_DAEMON names the daemon.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { launchChromium, launchFirefox, Talk } from '../tests/browser/browsers.mjs';
import { startDaemon, startSimulator } from '../tests/browser/daemon.mjs';
import { gaps, slowTools } from '../tests/browser/joining.mjs';
import { startRelay } from '../tests/browser/relay.mjs';
import { loudness, RATE_HZ, script, startPulse, until, words as speech } from '../tests/browser/sound.mjs';

const RUNS = Number(process.argv[2] ?? 1);
const ONLY = process.env.ONLY ?? '';
const BROWSERS = {
  // Chromium hears the sound server too, so that a test can speak at any moment.
  Chromium: (t, server) => {
    process.env.PULSE_SERVER = server;
    return launchChromium(t, { microphone: 'none' });
  },
  Firefox: (t, server) => launchFirefox(t, { server }),
};
const EVENTS = ['nothing', 'client lost', 'service lost', 'limit'];
const MOMENTS = ['idle', 'user speaking', 'answer playing', 'tool running'];
const LASTED_MS = 10500; // a session that has lasted is tried again at once
// The next session is made after half of this. From 21 s on the end of a turn is enough for the change, at 23 s nothing is.
const LIMIT_S = 24;
/** When the user begins to speak at the limit, and for how long, in ms. */
const AT_LIMIT = { idle: [14000, 2000], 'user speaking': [10500, 14000], 'answer playing': [10500, 5500], 'tool running': [10500, 11300] };
const REPLY_S = { 'answer playing': 8 };

/** Speech without a pause, so that no turn ends within it. */
const STEP = RATE_HZ / 100;
const words = speech('weather');
const loud = loudness(words);
const voice = words.filter((_, at) => loud[Math.floor(at / STEP)] > Math.max(...loud) / 8);

/** All that a case needs. What it starts ends with it. */
class Case {
  after = (end) => this.#ends.unshift(end);
  #ends = [];

  open = true;

  async begin(browser, event, moment) {
    const limit = event === 'limit' ? [`session-seconds=${LIMIT_S}`] : [];
    const tools = moment === 'tool running' ? ['tools=1'] : [];
    const faults = ['no-welcome', 'speed=2', `reply-seconds=${REPLY_S[moment] ?? 3}`, ...limit, ...tools];
    const simulator = await startSimulator(this, faults);
    this.way = await startRelay(this, Number(new URL(simulator.url).port));
    this.relay = await startRelay(this);
    const url = `http://localhost:${this.relay.port}/`;
    const env = {
      AZURE_VOICE_LIVE_ENDPOINT: `ws://127.0.0.1:${this.way.port}`,
      AZURE_VOICE_LIVE_API_KEY: 'key',
      VOICELIVED_ALLOWED_ORIGINS: url.slice(0, -1),
    };
    if (tools.length) Object.assign(env, slowTools(this));
    this.daemon = await startDaemon(this, env, { command: 'run' });
    this.relay.to(this.daemon.port);
    const pulse = await startPulse(this);
    this.speak = (ms) => {
      const samples = Int16Array.from({ length: (ms * RATE_HZ) / 1000 }, (_, at) => voice[at % voice.length]);
      pulse.speak(this, script(this, [samples]));
    };
    this.talk = await Talk.open(await BROWSERS[browser](this, pulse.server), url);
    await this.talk.start();
    await this.talk.state('listening');
    this.from = performance.now();
  }

  async close() {
    this.open = false;
    for (const end of this.#ends) await end();
  }

  /** The user begins to speak. Sets when that ends. */
  say(ms) {
    this.said = Date.now() + ms;
    this.speak(ms);
    return sleep(ms);
  }

  async reach(ms) {
    await sleep(Math.max(0, this.from + ms - performance.now()));
  }

  got(wish, since = 0) {
    return this.talk.page.evaluate(
      ([wish, since]) => window.tap.got.find((m) => m.at >= since && Object.entries(wish).every(([key, value]) => m[key] === value)),
      [wish, since],
    );
  }

  heard(wish, since) {
    return until(() => this.got(wish, since), JSON.stringify(wish), 20000);
  }

  async changes() {
    const text = await (await fetch(`http://127.0.0.1:${this.daemon.port}/metrics`)).text();
    return Number(text.match(/^voicelived_service_rollovers_total (\d+)$/m)[1]);
  }
}

async function run(browser, event, moment) {
  const it = new Case();
  try {
    await it.begin(browser, event, moment);
    const [begin, ms] = event === 'limit' ? AT_LIMIT[moment] : [LASTED_MS, 2000];
    const strike = { 'client lost': () => it.relay.cut(), 'service lost': () => it.way.cut() }[event] ?? (() => {});
    const change = event === 'limit' ? watch(it) : undefined;
    await it.reach(begin - 500);
    if (moment === 'idle') strike();
    await it.reach(begin);
    const speaking = it.say(ms);
    if (moment === 'user speaking') {
      await it.heard({ type: 'speech_started' });
      await sleep(500);
      strike();
    }
    await speaking;
    if (moment === 'tool running') {
      await it.heard({ type: 'tool', state: 'running' });
      await sleep(300);
      strike();
    }
    await it.talk.state('speaking');
    if (moment === 'answer playing') {
      await sleep(900);
      strike();
    }
    await it.talk.state('listening');
    return await figures(it, await change);
  } finally {
    await it.close();
  }
}

/** What the call was doing when its session changed. */
async function watch(it) {
  while (it.open) {
    if ((await it.changes()) > 0) return it.talk.page.evaluate(doing);
    await sleep(50);
  }
  return 'never';
}

/** Runs in the page. */
function doing() {
  const last = (...types) => window.tap.got.findLast((m) => types.includes(m.type));
  if (last('tool')?.state === 'running') return 'tool running';
  if (last('speech_started', 'speech_stopped')?.type === 'speech_started') return 'user speaking';
  return document.body.dataset.state === 'speaking' ? 'answer playing' : 'idle';
}

async function figures(it, change) {
  const { page } = it.talk;
  const answered = await page.evaluate((said) => window.tap.got.find((m) => m.bytes && m.at > said)?.at, it.said);
  const { ms, quiet, longest } = gaps(await it.talk.heard());
  const told = (await it.talk.received('call_state')).filter(({ state }) => state === 'reconnecting').length;
  const states = await it.talk.states();
  return { wait: answered - it.said, ms, quiet, longest, told, shown: states.includes('reconnecting'), change };
}

const middle = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const rows = [];
for (const browser of Object.keys(BROWSERS)) {
  for (const event of EVENTS) {
    for (const moment of MOMENTS) {
      const name = `${browser}, ${event}, ${moment}`;
      if (!name.includes(ONLY)) continue;
      const found = [];
      for (let i = 0; i < RUNS; i++) {
        try {
          found.push(await run(browser, event, moment));
          console.error(name, JSON.stringify(found.at(-1)), `load ${os.loadavg()[0].toFixed(1)}`);
        } catch (error) {
          console.error(name, String(error));
        }
      }
      const of = (key) => found.map((one) => one[key]);
      const most = (key) => Math.max(...of(key));
      rows.push([browser, event, moment, middle(of('wait')), most('longest'), most('told'), of('shown').some(Boolean) ? 'yes' : 'no', of('change').join(', '), `${found.length} of ${RUNS}`]);
    }
  }
}
console.log('| browser | what happens | when | ms to the answer | longest silence in it, ms | told of an outage | shown | session changed | runs |');
console.log('|---|---|---|---|---|---|---|---|---|');
for (const row of rows) console.log(`| ${row.join(' | ')} |`);
