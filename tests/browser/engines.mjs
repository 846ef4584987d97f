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

/** What the tests of a file share: to start a browser costs seconds of a processor, Firefox's most. Each test has pages of
 *  its own, without the memory of others, and they end with it. @type {{key: string, opened: Promise<object>, end: () => Promise<void>}|null} */
let shared = null;
after(() => shared?.end());

/** One at a time: another kind of browser, or other settings, take the place of the one before.
 *  @template T @param {string} key @param {(owner: {after: (end: () => unknown) => void}) => Promise<T>} open @returns {Promise<T>} */
async function share(t, key, open) {
  if (shared?.key !== key || !(await shared.opened.catch(() => null))?.browser.isConnected()) {
    await shared?.end();
    const ends = [];
    const end = async () => {
      for (const each of ends.splice(0)) await each();
    };
    shared = { key, opened: open({ after: (each) => ends.unshift(each) }), end };
  }
  const opened = await shared.opened;
  t.after(() => Promise.all(opened.browser.contexts().map((context) => context.close())));
  return opened;
}

/** A browser that does not even show the page is not given to the next test. */
async function show(browser, url, options) {
  try {
    return await Talk.open(browser, url, options);
  } catch (cause) {
    await shared?.end();
    shared = null;
    throw cause;
  }
}

/** Chromium's microphone hears a file from the click on: the welcome's time stands in front of the words. */
async function openChromium(t, { pieces = [room(QUIET_SECONDS)], prefs: _, ...wish } = {}) {
  const [daemon, url] = await serve(t, wish);
  const { browser, file } = await share(t, 'Chromium', async (owner) => {
    const file = script(owner, []);
    return { browser: await launchChromium(owner, { file }), file };
  });
  record(file, pieces); // read whenever the microphone is opened
  return { talk: await show(browser, url, { reducedMotion: 'reduce' }), browser, daemon, speak: () => {} };
}

/** Firefox hears what is played into a sound server, when the test says so. */
async function openFirefox(t, { prefs, pieces: _, ...wish } = {}) {
  const [daemon, url] = await serve(t, wish);
  const { browser, pulse } = await share(t, `Firefox ${JSON.stringify(prefs)}`, async (owner) => {
    const pulse = await startPulse(owner);
    return { browser: await launchFirefox(owner, { server: pulse.server, prefs }), pulse };
  });
  const speak = (pieces) => pulse.speak(t, script(t, pieces));
  return { talk: await show(browser, url), browser, daemon, speak, pulse };
}

/** Chromium first. Within a file the browsers never run at the same time.
 *  @type {{name: string, open: (t: object, wish?: {pieces?: (string|number|Int16Array)[], env?: object, prefs?: object, command?: string,
 *    faults?: string[], relay?: import('./relay.mjs').Relay}) => Promise<Scene>}[]} */
export const engines = [
  { name: 'Chromium', open: openChromium },
  { name: 'Firefox', open: openFirefox },
];
