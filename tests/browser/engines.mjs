// The same test in both browsers: how each gets a daemon, a page and something to hear.

import { launchChromium, launchFirefox, Talk } from './browsers.mjs';
import { startDaemon } from './daemon.mjs';
import { room, script, startPulse } from './sound.mjs';

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

/** Chromium's microphone hears a file from the click on: the welcome's time stands in front of the words. */
async function openChromium(t, { pieces = [room(QUIET_SECONDS)], prefs: _, ...wish } = {}) {
  const [daemon, url] = await serve(t, wish);
  const browser = await launchChromium(t, { file: script(t, pieces) });
  return { talk: await Talk.open(browser, url), browser, daemon, speak: () => {} };
}

/** Firefox hears what is played into a sound server, when the test says so. */
async function openFirefox(t, { prefs, pieces: _, ...wish } = {}) {
  const [daemon, url] = await serve(t, wish);
  const pulse = await startPulse(t);
  const browser = await launchFirefox(t, { server: pulse.server, prefs });
  const speak = (pieces) => pulse.speak(script(t, pieces));
  return { talk: await Talk.open(browser, url), browser, daemon, speak, pulse };
}

/** Chromium first. Within a file the browsers never run at the same time.
 *  @type {{name: string, open: (t: object, wish?: {pieces?: (string|number|Int16Array)[], env?: object, prefs?: object, command?: string,
 *    faults?: string[], relay?: import('./relay.mjs').Relay}) => Promise<Scene>}[]} */
export const engines = [
  { name: 'Chromium', open: openChromium },
  { name: 'Firefox', open: openFirefox },
];
