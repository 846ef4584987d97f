// The browsers of the page's benches, and what these need besides.

import { createRequire } from 'node:module';

const { chromium, firefox } = createRequire(new URL('../../tests/browser/', import.meta.url))('playwright-core');

/** Each takes the environment in which it finds its sound server. */
export const BROWSERS = {
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
/** What a test's `t` does for the helpers of the tests: it ends what they have begun. */
export function scope() {
  const ends = [];
  return { after: (end) => ends.unshift(end), close: async () => { for (const end of ends) await end(); } };
}

/** A quantile, 0 to 1. */
export const at = (numbers, part) => numbers.toSorted((a, b) => a - b)[Math.round(part * (numbers.length - 1))] ?? NaN;
