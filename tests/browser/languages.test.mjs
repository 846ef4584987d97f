// The languages of the page: each is complete, no word stands anywhere else, the browser's choice counts, and every
// language fits the smallest screen, also from right to left.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Talk } from './browsers.mjs';
import { startDaemon } from './daemon.mjs';
import { engines } from './engines.mjs';
import { page } from './modules.mjs';
import { test } from './test.mjs';

const repository = fileURLToPath(new URL('../../', import.meta.url));
const FRONTEND = path.join(repository, 'frontend');
const read = (file) => fs.readFileSync(path.join(FRONTEND, file), 'utf8');
const WORDS = /^words\.[a-z-]+\.js$/;
const NAMES = fs.readdirSync(FRONTEND).filter((file) => WORDS.test(file)).map((file) => file.split('.')[1]);
const SMALL = { width: 320, height: 568 };

const english = (await page('words.en.js')).default;
const { LANGUAGES, chosen, sayFor, use } = await page('language.js');

test('every language has every word, in the order of the English file, with the same blanks to fill in', async () => {
  assert.deepEqual(LANGUAGES, NAMES.filter((name) => name !== 'en').sort());
  const blanks = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const name of LANGUAGES) {
    const words = (await page(`words.${name}.js`)).default;
    assert.deepEqual(Object.keys(words), Object.keys(english), name);
    const lines = read(`words.${name}.js`).split('\n').filter((line) => /^ {2}\$?\w+: '.*',$/.test(line));
    assert.equal(lines.length, Object.keys(english).length, `${name}: one line for each, as build.rs wants it`);
    for (const [key, text] of Object.entries(words)) {
      if (key.startsWith('$')) assert.equal(english[key], '', `${key} is the daemon's own in English`);
      else assert.deepEqual(blanks(text), blanks(english[key]), `${name}: ${key}`);
      assert.ok(text || key === 'gap', `${name}: ${key} is empty`);
    }
    const copied = Object.keys(words).filter((key) => /\w \w/.test(english[key]) && words[key] === english[key]);
    assert.deepEqual(copied, [], `${name}: still English`);
  }
});

test('no word stands in the page’s code', () => {
  // Names of keys, errors and fields look like words, but nobody reads them.
  const names = /^(Escape|Enter|Space|Authorization|Bearer…|Bearer …|voicelived…|([A-Z][a-z]+){2,}|no sound|tool running|it has ended already)$/;
  for (const file of fs.readdirSync(FRONTEND).filter((name) => name.endsWith('.js') && !WORDS.test(name))) {
    const code = read(file).replace(/\/\*[^]*?\*\//g, '').replace(/(^|\s)\/\/ .*$/gm, '');
    const texts = [...code.matchAll(/'((?:[^'\\\n]|\\.)*)'|`((?:[^`\\]|\\.)*)`/g)].map(([, plain, filled]) => plain ?? filled);
    const said = texts.map((text) => text.replace(/\$\{[^}]*\}/g, '…')).filter((text) => /[A-Za-z]{2} [a-z]{2}|^[A-Z][a-z]|[a-z]\.$/.test(text));
    assert.deepEqual(said.filter((text) => !names.test(text)), [], file);
  }
});

test('no word stands in the page itself, nor in its style', () => {
  const html = read('index.html');
  const body = html.slice(html.indexOf('<body'));
  assert.doesNotMatch(body, /(aria-label|title|placeholder|alt)="/);
  assert.deepEqual(body.replace(/<[^>]*>/g, ' ').split(/\s+/).filter(Boolean), ['voicelived']);
  for (const file of fs.readdirSync(FRONTEND).filter((name) => name.endsWith('.css'))) {
    const contents = [...read(file).matchAll(/content: ([^;]*);/g)].map(([, text]) => text);
    assert.deepEqual(contents.filter((text) => text.match(/"[^"]*"/g)?.some((part) => /\p{L}/u.test(part))), [], file);
  }
});

test('every word is used, and every used one is there', () => {
  const files = fs.readdirSync(FRONTEND).filter((file) => (file.endsWith('.js') && !WORDS.test(file)) || file === 'index.html');
  const all = files.map(read).join('\n');
  const used = new Set([...all.matchAll(/(['"])(\w+)\1/g)].map(([, , word]) => word));
  const dynamic = ['true', 'false']; // `say(String(value))`
  const unused = Object.keys(english).filter((key) => !key.startsWith('$') && !used.has(key) && !dynamic.includes(key));
  assert.deepEqual(unused, []);
  const named = [...all.matchAll(/say\('(\w+)'|data-(?:say|label|hint)="(\w+)"/g)].map(([, code, html]) => code ?? html);
  assert.ok(named.length > 80);
  assert.deepEqual(named.filter((key) => !(key in english)), []);
});

// A language may say the parts of a line in another order. So the tags of each line are compared, whatever their order.
test('/trust has each language, with the same steps, links and commands', async (t) => {
  const { url } = await startDaemon(t);
  const shape = (html) => {
    const body = html.slice(html.indexOf('<main>'));
    const tags = body.split('\n').map((line) => (line.match(/<[^>]+>/g) ?? []).sort().join(' '));
    return { tags, commands: body.match(/<code>[^]*?<\/code>/g) };
  };
  const base = read('trust.html');
  for (const name of LANGUAGES) {
    const html = read(`trust.${name}.html`);
    assert.ok(html.includes(`<html lang="${name}">`), name);
    assert.deepEqual(shape(html), shape(base), name);
    const sentences = html.split('\n').filter((line) => /^ *<(p|li|h1|h2|title)>.*\w \w+ \w/.test(line));
    assert.deepEqual(sentences.filter((line) => base.includes(line)), [], `${name}: still English`);
    assert.equal(await (await fetch(`${url}trust.${name}.html`)).text(), html);
  }
});

test('the fixed words of the daemon have a sentence in each language', async () => {
  const protocol = fs.readFileSync(path.join(repository, 'docs/protocol.md'), 'utf8');
  const rows = [...protocol.matchAll(/^\| (`[a-z_]+`(?:, `[a-z_]+`)*)(?: or any other)? \| (?:\d{4} \| )?.*\|$/gm)];
  const fixed = new Set(rows.flatMap(([, cells]) => cells.match(/[a-z_]+/g)));
  for (const word of ['idle', 'quota', 'service_lost', 'idle_soon', 'response_incomplete']) assert.ok(fixed.has(word), word);
  // The page sees none of these, or says something of its own.
  const others = /^(id|code|about|server|seconds|arguments|tool|connecting|active|reconnecting|ended|hang_up|client_lost|resume_refused|resume_late)$/;
  // Only a faulty client hears of these.
  const faults = /^(bad_text|text_too_long|bad_protocol|too_big)$/;
  for (const name of LANGUAGES) {
    use(name, (await page(`words.${name}.js`)).default);
    const missing = [...fixed].filter((word) => sayFor(word, 'Own.') === 'Own.' && !others.test(word) && !faults.test(word));
    assert.deepEqual(missing, [], name);
    assert.equal(sayFor('from_tomorrow', 'Own.'), 'Own.');
    assert.equal(sayFor('constructor', 'Own.'), 'Own.');
    assert.match(sayFor('unauthorized', 'The key is wrong.'), /.“The key is wrong\.”$/, 'what the owner has to mend');
  }
  use('en', english);
  assert.equal(sayFor('idle', 'Own.'), 'Own.');
});

test('the first language that there is counts, by its name or a part of it', () => {
  const cases = [
    [['de-AT', 'en'], 'de'],
    [['sv-SE', 'pt-BR', 'en'], 'pt'],
    [['en-GB', 'de'], 'en'],
    [['zh-Hant-TW'], 'zh'],
    [['JA'], 'ja'],
    [['xx', 'yy'], 'en'],
    [[], 'en'],
  ];
  for (const [wanted, name] of cases) assert.equal(chosen(wanted), name, wanted.join());
});

test('a language is served as a list of its words', async (t) => {
  const { url } = await startDaemon(t);
  for (const name of LANGUAGES) {
    const served = await (await fetch(`${url}words.${name}.js`)).text();
    const { default: list } = await import(`data:text/javascript,${encodeURIComponent(served)}`);
    assert.deepEqual(list, Object.values((await page(`words.${name}.js`)).default), name);
  }
});

/** A page in a browser that prefers a language. Firefox takes it only when it starts. */
async function inLanguage(t, engine, name, wish) {
  if (engine.name === 'Firefox') return (await engine.open(t, { ...wish, prefs: { 'intl.accept_languages': `${name}, en` } })).talk;
  const { browser, daemon, talk } = await engine.open(t, wish);
  await talk.page.close();
  return Talk.open(browser, daemon.url, { locale: name });
}

for (const engine of engines) {
  test(`${engine.name}: a call in German`, async (t) => {
    const talk = await inLanguage(t, engine, 'de-DE', { env: { VOICELIVED_IDLE_SECONDS: '1' } });
    await talk.page.getByRole('button', { name: 'Sprechen', exact: true }).click();
    await talk.page.getByRole('textbox', { name: 'Tippen statt sprechen' }).waitFor();
    await talk.said('assistant', /Assistent/);
    await talk.page.locator('#status').filter({ hasText: 'Anruf beendet' }).waitFor();
    assert.equal(await talk.page.locator('#note').textContent(), 'Lange hat niemand gesprochen, deshalb wurde der Anruf beendet.');
    const shown = await talk.page.evaluate(() => ({
      lang: document.documentElement.lang,
      files: performance.getEntriesByType('resource').map(({ name }) => name.match(/words\.\w+\.js/)?.[0]).filter(Boolean),
    }));
    assert.deepEqual(shown, { lang: 'de', files: ['words.en.js', 'words.de.js'] });
    await talk.noComplaints();
  });

  test(`${engine.name}: a language that cannot be fetched leaves English`, async (t) => {
    const { browser, daemon, talk } = await engine.open(t, { prefs: { 'intl.accept_languages': 'de-DE, en' } });
    const other = engine.name === 'Firefox' ? talk : await Talk.open(browser, 'about:blank', { locale: 'de-DE' });
    await other.page.route('**/words.de.js', (route) => route.abort());
    await other.page.goto(daemon.url);
    await other.page.getByRole('button', { name: 'Start Talking' }).waitFor();
    assert.equal(await other.page.evaluate(() => document.documentElement.lang), 'en');
  });

  test(`${engine.name}: from right to left on the smallest screen`, async (t) => {
    const { talk } = await engine.open(t);
    await talk.page.setViewportSize(SMALL);
    await talk.page.evaluate(() => (document.documentElement.dir = 'rtl'));
    await talk.set(async (dialog) => {
      await fits(talk, 'settings');
      const [box, label] = await boxes(dialog, ['#mode-open', '[for=mode-open]']);
      assert.ok(box.x > label.x, 'the box stands before its words');
    });
    await talk.start();
    await talk.state('speaking');
    await fits(talk, 'speaking');
    await talk.page.locator('#text').fill('weather');
    await talk.page.locator('#text').press('Enter');
    await talk.page.locator('#log .turn.user').first().waitFor();
    const [mine, its, title, set] = await boxes(talk.page, ['.turn.user', '.turn.assistant', 'h1', '#set']);
    assert.ok(mine.x < 160 && its.x + its.width > 290, 'the lines have changed sides');
    assert.ok(set.x < title.x, 'so has the head');
    await fits(talk, 'a conversation');
  });
}

test('Chromium: every language fits the smallest screen', async (t) => {
  const { browser, daemon, talk } = await engines[0].open(t);
  await talk.page.close();
  for (const name of NAMES) {
    const { page: shown } = await Talk.open(browser, daemon.url, { locale: name, viewport: SMALL });
    await shown.waitForFunction((lang) => document.documentElement.lang === lang, name);
    await fits({ page: shown }, name);
    await shown.locator('#set').click();
    await fits({ page: shown }, `${name}, settings`);
    await shown.locator('#done').click();
    await shown.locator('#talk').click();
    await shown.waitForFunction(() => window.tap.states.includes('speaking'));
    await fits({ page: shown }, `${name}, in a call`);
    const cut = await shown.evaluate(() =>
      [...document.querySelectorAll('button')].filter((it) => it.offsetParent && it.scrollWidth > it.clientWidth + 1).map((it) => it.id));
    assert.deepEqual(cut, [], `${name}: words that do not fit their button`);
    await shown.close();
  }
});

async function fits(talk, where) {
  const wide = await talk.page.evaluate(() => {
    const dialog = document.querySelector('dialog[open]');
    return Math.max(document.documentElement.scrollWidth - innerWidth, dialog ? dialog.scrollWidth - dialog.clientWidth : 0);
  });
  assert.ok(wide <= 0, `${where} is ${wide} px too wide`);
}

function boxes(root, selectors) {
  return Promise.all(selectors.map((selector) => root.locator(selector).first().boundingBox()));
}
