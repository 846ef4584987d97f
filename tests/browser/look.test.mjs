// What one glance tells: each state has a sign of its own, also without colours; and the page fits the eyes and the screens
// of its users.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { test } from './test.mjs';

const LOOKS = ['idle', 'connecting', 'listening', 'muted', 'thinking', 'tool', 'speaking', 'held', 'reconnecting', 'ended', 'error'];
const LEAST_CONTRAST = 3; // of a picture (WCAG 2.2, 1.4.11)

for (const { name, open } of engines) {
  test(`${name}: one page with all states: eleven signs that differ without colour, and stand out from the ground`, async (t) => {
    const { talk } = await open(t);
    const { page } = talk;
    await page.emulateMedia({ reducedMotion: 'reduce' });
    const signs = await page.evaluate(signsOf, LOOKS);
    for (const [i, one] of signs.entries()) {
      for (const [k, other] of signs.entries()) {
        if (k <= i) continue;
        const differing = one.filter((inked, at) => inked !== other[at]).length / one.length;
        assert.ok(differing > 0.01, `${LOOKS[i]} and ${LOOKS[k]} differ in ${differing}`);
      }
    }
    const schemes = name === 'Chromium' ? ['light', 'dark'] : ['light'];
    for (const colorScheme of schemes) {
      await page.emulateMedia({ colorScheme });
      for (const look of LOOKS) {
        const [ink, ground] = await page.evaluate(coloursOf, look);
        assert.ok(contrast(ink, ground) >= LEAST_CONTRAST, `${colorScheme} ${look}: ${contrast(ink, ground)}`);
      }
    }
    if (name !== 'Chromium') return;
    await page.emulateMedia({ forcedColors: 'active' });
    const forced = await Promise.all(LOOKS.map((look) => page.evaluate(coloursOf, look)));
    assert.equal(new Set(forced.map(([ink]) => String(ink))).size, 1, 'forced: the sign alone tells');
    assert.ok(contrast(...forced[0]) >= 7);
    await page.emulateMedia({ forcedColors: null });
    await page.emulateMedia({ reducedMotion: 'no-preference' });
    const loud = await page.evaluate(inkOf, { in: 0.4, out: 0 });
    const quiet = await page.evaluate(inkOf, { in: 0, out: 0 });
    const reply = await page.evaluate(inkOf, { in: 0, out: 0.4 });
    assert.ok(loud > quiet * 1.03, `the microphone is seen while an answer plays: ${loud}, ${quiet}`);
    assert.ok(reply > quiet * 1.03, `the answer is seen: ${reply}, ${quiet}`);
  });

  test(`${name}: text of 200 %, a phone on its side and a notch leave all that is needed in sight`, async (t) => {
    const { talk } = await open(t);
    const { page } = talk;
    await talk.start();
    await talk.state('speaking');
    const fits = async (what, ids) => {
      const { wide, hidden } = await page.evaluate(sightOf, ids);
      assert.deepEqual(wide, [], `${what}: it scrolls sideways`);
      assert.deepEqual(hidden, [], what);
    };
    await page.setViewportSize({ width: 320, height: 640 });
    await page.evaluate(() => (document.documentElement.style.fontSize = '200%'));
    await fits('200 %', []);
    for (const id of ['status', 'talk', 'mute', 'interrupt', 'text']) {
      await page.locator(`#${id}`).scrollIntoViewIfNeeded();
      await fits(`200 %, ${id}`, [id]);
    }
    await page.evaluate(() => (document.documentElement.style.fontSize = ''));
    await page.setViewportSize({ width: 568, height: 320 });
    await fits('landscape', ['status', 'talk', 'mute', 'interrupt']);
    if (name !== 'Chromium') return;
    const session = await page.context().newCDPSession(page);
    const insets = { top: 0, topMax: 0, left: 47, leftMax: 47, bottom: 21, bottomMax: 21, right: 47, rightMax: 47 };
    await session.send('Emulation.setSafeAreaInsetsOverride', { insets });
    const box = await page.evaluate(() => {
      const all = [...document.querySelectorAll('header > *, #status, #talk, #mute, #interrupt, #text')].filter((it) => it.offsetParent);
      const boxes = all.map((it) => it.getBoundingClientRect());
      return { left: Math.min(...boxes.map((it) => it.left)), right: Math.max(...boxes.map((it) => it.right)), bottom: Math.max(...boxes.map((it) => it.bottom)) };
    });
    assert.ok(box.left >= 47 - 8 && box.right <= 568 - 47 + 8 && box.bottom <= 320 - 21, `a notch: ${JSON.stringify(box)}`);
  });
}

/** Which points of the picture of each state are inked, whatever their colour. */
async function signsOf(looks) {
  const { Picture } = await import('./visual.js');
  const canvas = document.createElement('canvas');
  canvas.style.cssText = 'position:fixed;width:96px;height:96px;color:#000';
  document.body.append(canvas);
  const picture = new Picture(canvas);
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const signs = [];
  for (const look of looks) {
    picture.state(look);
    await frame();
    await frame();
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    signs.push(Array.from({ length: data.length / 4 }, (_, at) => data[at * 4 + 3] > 128));
  }
  canvas.remove();
  return signs;
}

/** The colours of the picture and of the ground in a state, as red, green and blue. */
function coloursOf(look) {
  const picture = document.getElementById('picture');
  picture.style.transition = 'none';
  document.body.dataset.look = look;
  document.body.dataset.state = { tool: 'thinking', held: 'listening', muted: 'idle', ended: 'idle' }[look] ?? look;
  const numbers = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number);
  return [numbers(getComputedStyle(picture).color), numbers(getComputedStyle(document.body).backgroundColor)];
}

/** How much is inked while an answer plays with these levels. */
async function inkOf(levels) {
  const { Picture } = await import('./visual.js');
  const canvas = document.createElement('canvas');
  canvas.style.cssText = 'position:fixed;width:96px;height:96px;color:#000';
  document.body.append(canvas);
  const picture = new Picture(canvas);
  picture.level('in', levels.in);
  picture.level('out', levels.out);
  picture.state('speaking');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  picture.state('idle');
  canvas.remove();
  return data.reduce((sum, value, at) => (at % 4 === 3 ? sum + value : sum), 0);
}

function sightOf(ids) {
  const seen = (id) => {
    const box = document.getElementById(id).getBoundingClientRect();
    return box.width > 0 && box.left >= 0 && box.right <= innerWidth + 1 && box.top >= -1 && box.bottom <= innerHeight + 1;
  };
  const beyond = [...document.querySelectorAll('body *')].filter((it) => it.getBoundingClientRect().right > innerWidth + 1);
  const wide = document.documentElement.scrollWidth > innerWidth ? beyond.map((it) => it.id || it.className || it.tagName) : [];
  return { wide, hidden: ids.filter((id) => !seen(id)) };
}

function contrast(one, other) {
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [less, more] = [light(one), light(other)].sort((a, b) => a - b);
  return (more + 0.05) / (less + 0.05);
}
