// How the page presents itself: accessible in each state and theme, no sideways scrolling on a small phone,
// nothing blocked by its own content security policy, still for who wants it still, installable, and small.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { MOVING } from './browsers.mjs';
import { startDaemon } from './daemon.mjs';
import { engines } from './engines.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const FRONTEND = fileURLToPath(new URL('../../frontend/', import.meta.url));
const MOST_BYTES = 60 * 1024; // of the whole page in one language, gzipped
const MOST_LANGUAGE_BYTES = 3584;
const THEMES = { Chromium: ['light', 'dark'], Firefox: ['dark'] };
const SIZES = [
  { width: 320, height: 568 },
  { width: 1200, height: 800 },
];

for (const { name, open } of engines) {
  test(`${name}: accessible and never too wide, in every state`, async (t) => {
    const { talk } = await open(t);
    const looksRight = (state) => looks(talk, state, THEMES[name]);
    await talk.page.getByText(/Simulator:.*not the real model/).waitFor();
    await looksRight('idle');
    await talk.set(async (dialog) => {
      await dialog.getByRole('radio', { name: 'only while I hold' }).check();
      await looksRight('settings');
    });
    await talk.start();
    await talk.state('speaking');
    await looksRight('speaking');
    await inSight(talk, ['#status', '#text', '#hold', '#talk']);
    await talk.state('listening');
    await looksRight('listening');
    assert.equal(await isClipped(talk.page.locator('#text')), false);
    assert.equal(await picture(talk), await picture(talk), 'it stands still where motion is unwelcome');
    await talk.set((dialog) => dialog.getByRole('radio', { name: 'at any time' }).check());
    await talk.page.locator('#text').fill('weather and a-very-long-word-'.repeat(8));
    await talk.page.locator('#text').press('Enter');
    await talk.page.locator('#log .tool.done').first().waitFor();
    await talk.page.keyboard.press('Control+Home');
    await looksRight('a conversation');
    await talk.page.evaluate(() => (document.getElementById('problem').textContent = 'Something is wrong. '.repeat(6)));
    await looksRight('a problem');
    await talk.noComplaints();
  });
}

for (const { name, open } of engines) {
  test(`${name}: the picture follows the voice`, async (t) => {
    const { talk } = await open(t, { prefs: MOVING });
    await talk.page.evaluate(() => window.tap.useVoice());
    await talk.page.emulateMedia({ reducedMotion: 'no-preference' });
    await talk.start();
    await talk.state('speaking');
    await talk.page.getByRole('button', { name: 'Stop the answer' }).click();
    await talk.state('listening');
    const quiet = await inked(talk);
    await talk.page.evaluate(() => void window.tap.voice(0.5));
    await until(async () => (await inked(talk)) > quiet * 1.1, 'a larger picture');
  });
}

/** Whether the words that stand in an empty field are longer than it is, on the smallest screen. */
async function isClipped(field) {
  await field.page().setViewportSize(SIZES[0]);
  return field.evaluate((input) => {
    input.value = input.placeholder;
    const clipped = input.scrollWidth > input.clientWidth;
    input.value = '';
    return clipped;
  });
}

test('Chromium: it can be installed', async (t) => {
  const { talk } = await engines[0].open(t);
  await talk.page.locator('link[rel=manifest]').waitFor({ state: 'attached' });
  const session = await talk.page.context().newCDPSession(talk.page);
  const { errors } = await session.send('Page.getAppManifest');
  assert.deepEqual(errors, []);
  const { installabilityErrors } = await session.send('Page.getInstallabilityErrors');
  const real = installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== 'in-incognito'); // as all tests are
  assert.deepEqual(real, []);
});

test('the page is small, as a browser loads it: what is served is the source without the lines of comments', async (t) => {
  const daemon = await startDaemon(t);
  const files = fs.readdirSync(FRONTEND);
  let bytes = 0;
  let language = 0; // the largest of them; English is in any page
  for (const file of files) {
    const served = Buffer.from(await (await fetch(daemon.url + (file === 'index.html' ? '' : file))).arrayBuffer());
    const size = gzipSync(served, { level: 9 }).length;
    const source = fs.readFileSync(path.join(FRONTEND, file));
    if (/^trust\.[a-z-]+\.html$/.test(file)) continue; // a page of its own, of which one is fetched: languages.test.mjs
    if (/^words\.(?!en\b)[a-z-]+\.js$/.test(file)) {
      language = Math.max(language, size); // what is served of it: languages.test.mjs
      assert.ok(size < MOST_LANGUAGE_BYTES, `${file}: ${size} bytes`);
      continue;
    }
    bytes += size;
    if (/\.(js|css)$/.test(file)) onlyCommentsAreMissing(file, source, served);
    else assert.ok(source.equals(served), file);
  }
  console.log(`  ${files.length} files, ${bytes} bytes gzipped and ${language} of the largest language`);
  assert.ok(bytes + language < MOST_BYTES, `${bytes + language} bytes`);
});

test('the page names all modules that it imports, so that they are fetched side by side', () => {
  const found = new Set();
  const visit = (file) => {
    if (found.has(file)) return;
    found.add(file);
    const code = fs.readFileSync(path.join(FRONTEND, file), 'utf8');
    for (const [, next] of code.matchAll(/^(?:import|export)\b[^;]*'\.\/([\w.-]+)';/gm)) visit(next);
  };
  visit('app.js');
  const html = fs.readFileSync(path.join(FRONTEND, 'index.html'), 'utf8');
  const named = [...html.matchAll(/<(?:script type="module" src|link rel="modulepreload" fetchpriority="low" href)="([\w.-]+)"/g)].map(([, file]) => file);
  assert.ok(found.size > 20);
  assert.deepEqual(named.sort(), [...found].sort());
});

function onlyCommentsAreMissing(file, source, served) {
  const [old, now] = [source, served].map((bytes) => bytes.toString().split('\n'));
  assert.equal(now.length, old.length, `${file}: the numbers of the lines`);
  for (const [at, line] of old.entries()) {
    if (now[at] === line) assert.doesNotMatch(line, /^\s*(\/\/|\/\*\*)/, `${file}:${at + 1} is a comment`);
    else if (now[at] !== '') assert.match(line.slice(now[at].length), /^\s* \/\/ [^'"`]*$/, `${file}:${at + 1} has lost code`);
    else assert.match(line, /^\s*(\/\/|\/\*|\*)/, `${file}:${at + 1} is lost`);
    if (now[at] !== line) assert.ok(line.startsWith(now[at]), `${file}:${at + 1}`);
  }
}

async function looks(talk, state, themes) {
  for (const size of SIZES) {
    await talk.page.setViewportSize(size);
    for (const colorScheme of themes) {
      await talk.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      assert.deepEqual(await media(talk), [colorScheme === 'dark', true]);
      await accessible(talk, `${state}, ${colorScheme}, ${size.width} px`);
    }
    const wide = await talk.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${state} at ${size.width} px is ${wide} px too wide`);
  }
}

/** On a phone that lies on its side nothing that a call needs is below the edge. */
async function inSight(talk, parts) {
  await talk.page.setViewportSize({ width: 667, height: 375 });
  for (const part of parts) {
    const { y, height } = await talk.page.locator(part).boundingBox();
    assert.ok(y >= 0 && y + height <= 375, `${part} is at ${y} to ${y + height} of 375`);
  }
}

function media(talk) {
  const queries = ['(prefers-color-scheme: dark)', '(prefers-reduced-motion: reduce)'];
  return talk.page.evaluate((all) => all.map((query) => matchMedia(query).matches), queries);
}

/** Evaluated, not added as a script: the page's own policy forbids foreign scripts. */
async function accessible(talk, where) {
  if (!(await talk.page.evaluate(() => 'axe' in window))) await talk.page.evaluate(AXE);
  const found = await talk.page.evaluate(async () => {
    const { violations } = await window.axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html + node.failureSummary).join(' ')}`);
  });
  assert.deepEqual(found, [], where);
}

/** How much of its canvas the picture covers; the canvas itself changes with the room it has. */
function inked(talk) {
  return talk.page.evaluate(async () => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const { width, height } = document.getElementById('picture');
    const { data } = document.getElementById('picture').getContext('2d').getImageData(0, 0, width, height);
    return data.filter((value, i) => i % 4 === 3 && value > 0).length / (width * height);
  });
}

function picture(talk) {
  return talk.page.evaluate(async () => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    return document.getElementById('picture').toDataURL();
  });
}
