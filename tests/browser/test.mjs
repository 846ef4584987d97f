// A test of the page, in the process that it belongs to: one for Firefox (`in-firefox.mjs`), and one for all others
// (`in-chromium.mjs`), so that each starts its browser once. A file that is run by itself has all its tests.

import fs from 'node:fs';
import * as node from 'node:test';

/** @param {string} name begins with the browser's, where there is one @param {(t: import('node:test').TestContext) => unknown} body */
export function test(name, body) {
  const { TEST_IN } = process.env;
  const browser = name.startsWith('Firefox: ') ? 'Firefox' : 'Chromium';
  if (!TEST_IN || TEST_IN === browser) node.test(name, body);
}

/** Makes all tests of a browser. @param {'Chromium'|'Firefox'} browser @returns {Promise<void>} */
export async function testIn(browser) {
  process.env.TEST_IN = browser;
  const files = fs.readdirSync(new URL('.', import.meta.url)).filter((file) => file.endsWith('.test.mjs'));
  for (const file of files.sort()) await import(`./${file}`);
}
