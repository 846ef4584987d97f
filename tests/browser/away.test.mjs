// The page's own socket is away for longer: what the user sees and hears of it, when the page gives up, and when it
// never tries.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { startDaemon, stop } from './daemon.mjs';
import { engines } from './engines.mjs';
import { asks, calm, joined, say } from './joining.mjs';
import { startRelay } from './relay.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

for (const { name, open } of engines) {
  test(`${name}: an outage is told after a second, once, and the captions stay`, async (t) => {
    const relay = await startRelay(t);
    const { talk } = await open(t, { faults: ['no-welcome'], relay });
    await talk.start();
    await talk.begun();
    await record(talk);
    relay.shut();
    const from = Date.now();
    await sleep(600);
    assert.equal((await talk.states()).at(-1), 'listening', 'not at once');
    await talk.state('reconnecting');
    assert.ok(Date.now() - from >= 900, 'after a second');
    await talk.page.getByRole('status').filter({ hasText: /^Connecting again…$/ }).waitFor();
    assert.equal(await talk.page.locator('#status').getAttribute('aria-live'), 'polite');
    assert.equal(await talk.page.locator('#note').textContent(), '', 'a note would be read out too');
    await sleep(1200);
    relay.reopen();
    await joined(talk, 2);
    await talk.state('listening');
    assert.deepEqual(await said(talk), ['Connecting again…', 'Listening']);
    await asks(talk, 'Are you back?');
    assert.equal(await talk.page.locator('#log .divider').count(), 0);
    await calm(talk);
  });

  test(`${name}: an answer that plays through an outage can be stopped`, async (t) => {
    const relay = await startRelay(t);
    const { talk } = await open(t, { relay, faults: ['no-welcome', 'reply-seconds=20', 'speed=4'] });
    await talk.start();
    await talk.begun();
    await say(talk, 'Go on.');
    await talk.state('speaking');
    await sleep(1500);
    relay.shut();
    await talk.state('reconnecting');
    await talk.page.getByRole('button', { name: 'Stop the answer' }).click();
    await sleep(300);
    relay.reopen();
    await joined(talk, 2);
    await talk.state('listening');
    await until(async () => (await talk.sent('interrupt')).length === 1, 'the word to the daemon');
    await sleep(500);
    assert.equal((await talk.states()).at(-1), 'listening', 'nothing of the answer comes back');
    await calm(talk);
  });

  test(`${name}: a tab in the back joins its call again`, async (t) => {
    const relay = await startRelay(t);
    const { talk } = await open(t, { faults: ['no-welcome'], relay });
    await talk.start();
    await talk.begun();
    await talk.page.evaluate(() => window.tap.hide(true));
    relay.cut();
    await joined(talk, 2);
    await talk.page.evaluate(() => window.tap.hide(false));
    await asks(talk, 'Are you still there?');
    assert.equal((await talk.received('hello')).length, 2);
    await calm(talk);
  });

  test(`${name}: a change of the network finds a dead socket at once, silence finds it in seconds`, async (t) => {
    const relay = await startRelay(t);
    const { talk } = await open(t, { faults: ['no-welcome'], relay });
    await talk.start();
    await talk.begun();
    assert.equal(await networkChanges(talk), 1, 'it asks for a sign of life');
    await sleep(2500);
    assert.equal((await talk.joinings()).length, 1, 'a socket that lives is kept');
    relay.stall();
    await networkChanges(talk);
    const changed = Date.now();
    await joined(talk, 2);
    const quick = Date.now() - changed;
    relay.stall();
    const silent = Date.now();
    await joined(talk, 3);
    console.log(`  joined ${quick} ms after a change of the network, ${Date.now() - silent} ms after silence began`);
    assert.ok(quick < Date.now() - silent);
    await asks(talk, 'Are you back?');
    await calm(talk);
  });

  test(`${name}: a change of the network ends the wait for the next try`, async (t) => {
    const relay = await startRelay(t);
    const { talk } = await open(t, { faults: ['no-welcome'], relay });
    await talk.start();
    await talk.begun();
    relay.shut();
    await sleep(4300); // the next try is four seconds away
    relay.reopen();
    const tries = (await talk.joinings()).length;
    await networkChanges(talk);
    await until(async () => (await talk.joinings()).length > tries, 'a try that does not wait', 2000);
    await joined(talk, 2);
    await asks(talk, 'Are you back?');
    await calm(talk);
  });

  test(`${name}: a daemon that knows the call no more is called anew, with the words why`, async (t) => {
    const relay = await startRelay(t);
    const { talk, daemon } = await open(t, { relay });
    await talk.start();
    await talk.welcomed();
    const origin = { VOICELIVED_ALLOWED_ORIGINS: `http://localhost:${relay.port}` };
    const next = await startDaemon(t, origin);
    await stop(daemon.child, 'SIGKILL');
    relay.to(next.port);
    await talk.problem(/This is a new call/);
    await talk.page.locator('#log .divider', { hasText: 'New call' }).waitFor();
    await talk.state('speaking');
    await talk.state('listening');
    await talk.problem(/This is a new call/); // the welcome does not take the words away
    assert.equal(await talk.page.locator('#log .turn.assistant', { hasText: 'not the real model' }).count(), 2);
    await asks(talk, 'Do you know me?');
    const words = async () => talk.page.locator('#problem').textContent();
    await until(async () => !/new call/.test(await words()), 'the end of the words: the user has read them');
    assert.equal((await talk.states()).includes('error'), false);
    await calm(talk);
  });

  test(`${name}: when the time is over the page says what is wrong, and the button begins a call`, async (t) => {
    const relay = await startRelay(t);
    const { talk } = await open(t, { faults: ['no-welcome'], relay, env: { VOICELIVED_RESUME_SECONDS: '3' } });
    await talk.start();
    await talk.begun();
    relay.shut();
    await talk.state('reconnecting');
    await talk.state('error');
    await talk.problem(/connection was lost.*cannot be reached/i);
    const live = await talk.page.evaluate(() => window.tap.tracks.filter((track) => track.readyState === 'live').length);
    assert.equal(live, 0);
    relay.reopen();
    await talk.start();
    await talk.begun();
    await calm(talk);
  });

  test(`${name}: a goodbye is for good, on either side and in an outage too`, async (t) => {
    const relay = await startRelay(t);
    const { talk, daemon } = await open(t, { faults: ['no-welcome'], relay });
    await talk.start();
    await talk.begun();
    relay.shut();
    await talk.state('reconnecting');
    await talk.page.getByRole('button', { name: 'End call' }).click();
    await talk.state('idle');
    const tries = (await talk.joinings()).length;
    relay.reopen();
    await sleep(3000);
    assert.equal((await talk.joinings()).length, tries);
    await talk.start();
    await talk.begun();
    await stop(daemon.child);
    await talk.state('error');
    await talk.problem(/stop/i);
    await sleep(2000);
    assert.equal((await talk.joinings()).length, tries + 1);
    await calm(talk);
  });
}

/** The browser says so. @returns {Promise<number>} how often the page has asked the daemon for a sign of life because of it */
function networkChanges(talk) {
  return talk.page.evaluate(() => {
    const asked = () => window.tap.sent.filter(({ type, id }) => type === 'ping' && id === 'line').length;
    const before = asked();
    dispatchEvent(new Event('online'));
    return asked() - before;
  });
}

/** From now on the words of the status are kept, one by one. */
function record(talk) {
  return talk.page.evaluate(() => {
    const status = document.getElementById('status');
    window.said = [];
    new MutationObserver(() => window.said.push(status.textContent)).observe(status, { childList: true, characterData: true, subtree: true });
  });
}

const said = (talk) => talk.page.evaluate(() => window.said);
