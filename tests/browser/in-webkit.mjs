// One call in WebKit, with its sound through PulseAudio: what is said into the microphone and what is heard at the
// loudspeaker, both outside of the browser. Then what the page says where it cannot talk.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { servePage, startDaemon } from './daemon.mjs';
import { match, RATE_HZ, room, script, startPulse, until, words } from './sound.mjs';
import { launchWebKit } from './webkit.mjs';
import { test } from './test.mjs';

const SAME = 0.75; // as in talk.test.mjs
const OTHER = 0.6;
const TURNS = 3; // the sound of a busy machine has holes: what is said once more may have none
const text = (webkit, css) => webkit.eval(`document.querySelector('${css}')?.textContent ?? ''`);
const said = (role) => `document.querySelectorAll('#log .turn.${role}:not([aria-hidden])')`;

test('WebKit: a call from the click to its end, and the words where there can be none', async (t) => {
  const pulse = await startPulse(t);
  // The simulator answers within 50 ms otherwise, as no service does: this driver looks too seldom to see the page think.
  const daemon = await startDaemon(t, {}, { faults: ['latency=300'] });
  const webkit = await launchWebKit(t, pulse);
  const listened = pulse.listen(t);
  const likeness = (name) => match(words(name), listened()).r;
  const problem = async (pattern) => {
    await until(async () => pattern.test(await text(webkit, '#problem')), `${pattern}`);
  };

  await t.test('it starts, and greets aloud', async () => {
    await webkit.goto(daemon.url);
    await webkit.waitFor("!document.getElementById('simulator').hidden"); // with its words the page has its shape
    assert.equal(await text(webkit, '#status'), 'Ready when you are');
    await webkit.click('#talk');
    await webkit.state('speaking');
    await until(() => listened().some((sample) => Math.abs(sample) > 1000), 'the welcome at the loudspeaker');
    await webkit.state('listening');
  });

  await t.test('what is said comes back aloud and as captions', async () => {
    for (let turn = 1; turn === 1 || (turn <= TURNS && likeness('weather') < SAME); turn++) {
      pulse.speak(t, script(t, [room(1), 'weather', room(40)]));
      await webkit.waitFor(`${said('user')}.length === ${turn}`);
      await webkit.waitFor(`${said('assistant')}.length === ${turn + 1}`);
      await webkit.state('speaking');
      await webkit.state('listening');
      await sleep(1000); // what the sound server still has
    }
    console.log(`  ${likeness('weather').toFixed(3)} like weather, ${likeness('stock').toFixed(3)} like stock`);
    assert.ok(likeness('weather') >= SAME, 'the words at the loudspeaker');
    assert.ok(likeness('stock') < OTHER);
    assert.equal(await text(webkit, '#problem'), '', 'a microphone that hears a room is none that is silent');
  });

  await t.test('who speaks into an answer silences it', async () => {
    const before = await webkit.eval(`${said('assistant')}.length`);
    pulse.speak(t, script(t, ['weather', 1, 'stock', 2]));
    await webkit.waitFor("document.querySelector('#log .turn.assistant .cut') !== null");
    await sleep(500); // what the sound server still has
    const from = listened().length;
    await webkit.state('thinking'); // the user has spoken to the end
    const meanwhile = listened().subarray(from);
    const loudest = meanwhile.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    console.log(`  ${(meanwhile.length / RATE_HZ).toFixed(1)} s at the loudspeaker meanwhile, ${loudest} at the loudest`);
    assert.ok(meanwhile.length > RATE_HZ / 2 && loudest < 100);
    await webkit.waitFor(`${said('assistant')}.length === ${before + 2}`);
    await webkit.state('listening');
  });

  await t.test('a typed turn is answered', async () => {
    await webkit.type('#text', 'Is it late?\uE007'); // Enter
    await webkit.waitFor(`[...${said('assistant')}].some((turn) => turn.textContent.includes('Is it late?'))`);
    await webkit.state('listening');
  });

  await t.test('the settings name the microphones, and push-to-talk is chosen in the call', async () => {
    await webkit.click('#set');
    await webkit.waitFor("document.getElementById('settings').open");
    await webkit.waitFor("[...document.getElementById('microphone').options].some(({ text }) => text === 'Headset')");
    await webkit.click('#mode-push');
    await webkit.click('#done');
    await webkit.waitFor("!document.getElementById('settings').open && !document.getElementById('hold').hidden");
    assert.equal(await text(webkit, '#status'), 'Hold to talk');
    await webkit.click('#talk');
    await webkit.state('idle');
    assert.equal(await text(webkit, '#status'), 'Call ended');
  });

  await t.test('without a microphone it says so, and one can type', async () => {
    pulse.unplug();
    await webkit.click('#talk');
    await problem(/no microphone was found.*type/i);
    await webkit.type('#text', 'Can you read?\uE007');
    await webkit.waitFor(`[...${said('assistant')}].some((turn) => turn.textContent.includes('Can you read?'))`);
  });

  await t.test('over plain http it explains itself', async () => {
    const port = await servePage(t);
    await webkit.goto(`http://[::ffff:7f00:1]:${port}/`); // this machine, but to WebKit no secure address
    await problem(/https:\/\//);
  });
});
