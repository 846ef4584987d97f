// The same test in both browsers: how each gets a daemon, a page and something to hear.

import { after } from 'node:test';

import { launchChromium, launchFirefox, Talk } from './browsers.mjs';
import { startDaemon } from './daemon.mjs';
import { record, room, script, startPulse } from './sound.mjs';

const QUIET_SECONDS = 60;

/** @typedef {{talk: Talk, browser: import('playwright-core').Browser, daemon: Awaited<ReturnType<typeof startDaemon>>,
 *    speak: (pieces: (string|number|Int16Array)[]) => void}} Scene */

/** The daemon, and the page's address: at a relay in between, if there is one.
 *  @returns {Promise<[Awaited<ReturnType<typeof startDaemon>>, string]>} */
async function serve(t, { env, relay, ...wish }) {
  if (!relay) {
    const daemon = await startDaemon(t, env, wish);
    return [daemon, daemon.url];
  }
  const url = `http://localhost:${relay.port}/`;
  const daemon = await startDaemon(t, { VOICELIVED_ALLOWED_ORIGINS: url.slice(0, -1), ...env }, wish);
  relay.to(daemon.port);
  return [daemon, url];
}

/** Browsers that go on from one test to the next, the last used last: to start one costs seconds of a processor,
 *  Firefox's most. Each test has pages of its own, without the memory of others, and they end with it.
 *  @type {Map<string, {opened: Promise<object>, end: () => Promise<void>}>} */
const running = new Map();
const MOST_RUNNING = 2; // Firefox takes some settings only when it starts
after(async () => {
  for (const key of running.keys()) await endOne(key);
});

async function endOne(key) {
  const one = running.get(key);
  running.delete(key);
  await one?.end();
}

/** @template T @param {string} key of the browser and its settings @param {(owner: {after: (end: () => unknown) => void}) => Promise<T>} open
 *  @returns {Promise<T>} */
async function share(t, key, open) {
  const before = await running.get(key)?.opened.catch(() => null);
  if (!before?.browser.isConnected()) await endOne(key);
  const one = running.get(key) ?? start(open);
  running.delete(key);
  running.set(key, one);
  if (running.size > MOST_RUNNING) await endOne(running.keys().next().value);
  const opened = await one.opened;
  t.after(() => Promise.all(opened.browser.contexts().map((context) => context.close())));
  return opened;
}

function start(open) {
  const ends = [];
  const end = async () => {
    for (const each of ends.splice(0)) await each();
  };
  return { opened: open({ after: (each) => ends.unshift(each) }), end };
}

/** A browser that does not even show the page is not given to the next test. */
async function show(browser, url, options) {
  try {
    return await Talk.open(browser, url, options);
  } catch (cause) {
    await browser.close();
    throw cause;
  }
}

/** With what its microphone hears. @param {string[]} [flags] @returns {Promise<{browser: import('playwright-core').Browser, file: string}>} */
export function sharedChromium(t, flags = []) {
  return share(t, `Chromium ${flags}`, async (owner) => {
    const file = script(owner, []);
    return { browser: await launchChromium(owner, { file, flags }), file };
  });
}

/** With the sound server that it hears. */
function sharedFirefox(t, prefs) {
  return share(t, `Firefox ${JSON.stringify(prefs)}`, async (owner) => {
    const pulse = await startPulse(owner);
    return { browser: await launchFirefox(owner, { server: pulse.server, prefs }), pulse };
  });
}

/** Chromium's microphone hears a file from the click on: the welcome's time stands in front of the words. */
async function openChromium(t, { pieces = [room(QUIET_SECONDS)], prefs: _, ...wish } = {}) {
  const [daemon, url] = await serve(t, wish);
  const { browser, file } = await sharedChromium(t);
  record(file, pieces); // read whenever the microphone is opened
  return { talk: await show(browser, url, { reducedMotion: 'reduce' }), browser, daemon, speak: () => {} };
}

/** Firefox hears what is played into a sound server, when the test says so. */
async function openFirefox(t, { prefs, pieces: _, ...wish } = {}) {
  const [daemon, url] = await serve(t, wish);
  const { browser, pulse } = await sharedFirefox(t, prefs);
  const speak = (pieces) => pulse.speak(t, script(t, pieces));
  return { talk: await show(browser, url), browser, daemon, speak, pulse };
}

/** Chromium first. `browser` is one without a page.
 *  @type {{name: string, browser: (t: object) => Promise<import('playwright-core').Browser>, open: (t: object, wish?: {pieces?: (string|number|Int16Array)[], env?: object, prefs?: object, command?: string,
 *    faults?: string[], relay?: import('./relay.mjs').Relay}) => Promise<Scene>}[]} */
export const engines = [
  { name: 'Chromium', browser: async (t) => (await sharedChromium(t)).browser, open: openChromium },
  { name: 'Firefox', browser: async (t) => (await sharedFirefox(t)).browser, open: openFirefox },
];
