// How long the user waits for an answer: the arithmetic without a browser, and what the page shows in each.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';

import { engines } from './engines.mjs';
import { page } from './modules.mjs';
import { test } from './test.mjs';

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const { Delays } = await page('delays.js');

/** Speech until `word` ms in a room that hums, a turn that the page hears of at `end`. */
function spoken({ word, end }) {
  const delays = new Delays();
  for (let now = 0; now < end; now += 20) delays.frame(now > 1000 && now <= word ? 0.2 : 0.004, now);
  delays.ended(end);
  return delays;
}

test('the parts of the way add up to the whole', () => {
  const delays = spoken({ word: 3000, end: 3540 });
  delays.pong(3580); // 20 ms each way
  assert.equal(delays.served(200), null, 'nothing is heard yet');
  delays.arrived(3790);
  const delay = delays.heard(3830);
  assert.deepEqual(delay, { total: 830, ear: 520, service: 200, network: 70, page: 40, half: 830, most: 830 });
  assert.equal(delays.heard(3900), null, 'once an answer');
});

test('sound of an earlier reply, and a report from before, end no wait', () => {
  const delays = spoken({ word: 3000, end: 3500 });
  assert.equal(delays.heard(3510), null);
  delays.arrived(3700);
  assert.equal(delays.served(180), null);
  assert.equal(delays.heard(3600), null, 'what is heard had come before');
  assert.equal(delays.heard(3720).page, 20);
});

test('a typed turn begins where it is sent, and one that the user takes back has no answer', () => {
  const delays = spoken({ word: 3000, end: 3500 });
  delays.ended(5000, true);
  delays.arrived(5300);
  delays.served(290);
  const delay = delays.heard(5310);
  assert.deepEqual([delay.total, delay.ear, delay.service], [310, 0, 290]);
  delays.ended(6000);
  delays.forget();
  delays.arrived(6100);
  assert.equal(delays.served(90) ?? delays.heard(6200), null);
});

test('half and 95 of 100 of the call', () => {
  const delays = new Delays();
  let delay;
  for (let i = 1; i <= 100; i++) {
    delays.ended(i * 10000, true);
    delays.arrived(i * 10000 + i);
    delays.served(i);
    delay = delays.heard(i * 10000 + i);
  }
  assert.deepEqual([delay.total, delay.half, delay.most], [100, 50, 95]);
});

test('a loud room is learned: its noise is no last word', () => {
  const delays = new Delays();
  for (let now = 0; now < 20000; now += 20) delays.frame(0.03, now);
  for (let now = 20000; now < 21000; now += 20) delays.frame(0.3, now);
  for (let now = 21000; now < 21500; now += 20) delays.frame(0.03, now);
  delays.ended(21500);
  delays.arrived(21600);
  delays.served(90);
  assert.equal(delays.heard(21600).ear, 520);
});

/** What axe-core finds, and whether anything is too wide. */
async function findings(talk) {
  await talk.page.evaluate(AXE);
  return talk.page.evaluate(async () => {
    const { violations } = await window.axe.run();
    const wide = document.documentElement.scrollWidth - innerWidth;
    return [...violations.map(({ id }) => id), ...(wide > 0 ? [`${wide} px too wide`] : [])];
  });
}

for (const { name, open } of engines) {
  test(`${name}: each answer says how long it took, and on a tap where`, async (t) => {
    const { talk, speak, daemon } = await open(t, { pieces: [9, 'weather', 20] });
    await talk.start();
    await talk.welcomed();
    const line = talk.page.locator('#latency');
    assert.equal(await line.isVisible(), false, 'a greeting answers nobody');
    speak(['weather', 2]);
    await talk.state('thinking');
    await talk.state('speaking');
    await talk.page.getByText(/^Answered in \d+ ms$/).click();
    const part = async (id) => Number((await talk.page.locator(`#delay-${id}`).innerText()).replace(' ms', ''));
    const shown = Object.fromEntries(await Promise.all(['ear', 'service', 'network', 'page', 'half', 'most'].map(async (id) => [id, await part(id)])));
    const total = Number((await talk.page.locator('#answered').innerText()).match(/\d+/)[0]);
    console.log(`  ${total} ms:`, shown);
    const sum = shown.ear + shown.service + shown.network + shown.page;
    assert.ok(Math.abs(sum - total) <= 3, `${sum} of ${total} ms`);
    assert.ok(shown.ear > 100, 'the service waits for silence before it answers');
    const [{ first_audio_ms }] = await talk.received('latency');
    assert.equal(shown.service, first_audio_ms);
    assert.deepEqual([shown.half, shown.most], [total, total]);
    await talk.page.setViewportSize({ width: 320, height: 568 });
    assert.deepEqual(await findings(talk), []);
    const metrics = await (await fetch(`${daemon.url}metrics`)).text();
    assert.match(metrics, /^voicelived_first_heard_seconds_count 1$/m);
    assert.ok((await talk.sent('ping')).some(({ id }) => id === 'delay'));
    await talk.noComplaints();
  });
}
