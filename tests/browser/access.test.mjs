// Who may call: the token typed, the pairing link, and a token that changes in a call.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import axe from 'axe-core';

import { Talk } from './browsers.mjs';
import { engines } from './engines.mjs';
import { test } from './test.mjs';

const TOKEN = 'abcd-2345/+=%&#efgh';
const OTHER = 'wxyz-6789-jkmn-pqrs';

/** A folder with the daemon's token in a file, gone with the test. */
function tokenFile(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voicelived-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'token');
  fs.writeFileSync(file, `${TOKEN}\n`);
  return file;
}

const asksForToken = (t) => ({ env: { VOICELIVED_ACCESS: 'token', VOICELIVED_ACCESS_TOKEN_FILE: tokenFile(t) } });
const form = (talk) => talk.page.locator('#entrance');
const field = (talk) => talk.page.getByLabel('Access token');

async function enter(talk, token) {
  await field(talk).fill(token);
  await talk.page.getByRole('button', { name: 'Enter' }).click();
}

async function asks(talk, words) {
  await form(talk).filter({ hasText: words }).waitFor();
}

for (const { name, open } of engines) {
  test(`${name}: the token is asked for, refused, taken, and kept from scripts`, async (t) => {
    const { talk, browser, daemon } = await open(t, asksForToken(t));
    await asks(talk, /asks for an access token.*\/var\/lib\/voicelived\/access-token/);
    assert.equal(await talk.page.locator('#status').textContent(), 'Access token needed');
    assert.equal(await talk.button.isVisible(), false);
    assert.equal(await field(talk).evaluate((input) => input === document.activeElement), true);
    await talk.page.locator('#picture').click();
    assert.deepEqual(await talk.states(), ['idle'], 'the picture begins a call only where the button would');
    await talk.page.evaluate(axe.source);
    const { violations } = await talk.page.evaluate(() => window.axe.run());
    assert.deepEqual(violations.map((v) => v.id), []);

    await enter(talk, OTHER);
    await asks(talk, /token is wrong/);
    assert.equal(await field(talk).inputValue(), '');
    await enter(talk, 'grüße');
    await asks(talk, /token is wrong/);
    await enter(talk, ` ${TOKEN} `);
    await talk.button.waitFor();
    assert.equal(await talk.page.locator('#status').textContent(), 'Ready when you are');
    assert.equal(await form(talk).isVisible(), false);
    assert.equal(await talk.page.evaluate(() => document.cookie), '');
    const cookies = await talk.page.context().cookies();
    assert.deepEqual(
      cookies.map(({ name, httpOnly, secure, sameSite }) => ({ name, httpOnly, secure, sameSite })),
      [{ name: '__Host-voicelived', httpOnly: true, secure: true, sameSite: 'Strict' }],
    );
    await talk.start();
    await talk.state('speaking');
    assert.deepEqual(await talk.page.evaluate(() => window.tap.violations), []);

    await talk.page.reload(); // the cookie is enough from now on
    await talk.button.waitFor();
    const stranger = await Talk.open(browser, daemon.url); // another profile is another browser
    await asks(stranger, /asks for an access token/);
  });

  test(`${name}: a pairing link lets in and leaves no trace in the address`, async (t) => {
    const { talk, daemon } = await open(t, asksForToken(t));
    await asks(talk, /asks for an access token/);
    await talk.page.goto(`${daemon.url}#token=${encodeURIComponent(OTHER)}`); // in the open page
    await asks(talk, /token in this link is wrong/);
    assert.equal(talk.page.url(), daemon.url);
    await talk.page.goto('about:blank');
    await talk.page.goto(`${daemon.url}#token=${encodeURIComponent(TOKEN)}`);
    await talk.page.waitForFunction(() => location.hash === '');
    assert.equal(talk.page.url(), daemon.url);
    await talk.start();
    await talk.state('speaking');
    assert.equal(await form(talk).isVisible(), false);
  });

  test(`${name}: a pairing link whose # was escaped on its way lets in as well`, async (t) => {
    const { talk, daemon } = await open(t, asksForToken(t));
    for (const escaped of [`%23token=${encodeURIComponent(TOKEN)}`, encodeURIComponent(`#token=${encodeURIComponent(TOKEN)}`)]) {
      await talk.page.context().clearCookies();
      await talk.page.goto(daemon.url + escaped);
      await talk.page.waitForFunction(() => location.hash === '');
      assert.equal(talk.page.url(), daemon.url);
      await talk.button.waitFor();
    }
  });

  test(`${name}: a changed token ends the call in words and is asked for`, async (t) => {
    const wish = asksForToken(t);
    const { talk, daemon } = await open(t, wish);
    await enter(talk, TOKEN);
    await talk.start();
    await talk.state('speaking');
    fs.writeFileSync(wish.env.VOICELIVED_ACCESS_TOKEN_FILE, OTHER);
    daemon.child.kill('SIGHUP');
    await talk.problem(/access token was changed/i);
    await talk.state('error');
    await asks(talk, /asks for an access token/);
    await enter(talk, OTHER);
    await talk.start();
    await talk.state('speaking');
  });

  test(`${name}: a guesser is told to wait`, async (t) => {
    const { talk } = await open(t, asksForToken(t));
    await asks(talk, /asks for an access token/);
    for (let tries = 0; tries < 5; tries++) {
      await enter(talk, OTHER);
      await talk.page.waitForFunction(() => document.querySelector('#token').value === '');
    }
    await enter(talk, TOKEN);
    await asks(talk, /too many wrong access tokens.*again in 1 second/i);
    await talk.page.waitForTimeout(1200);
    await enter(talk, TOKEN);
    await talk.button.waitFor();
  });

  test(`${name}: a cookie that has died since the page was opened`, async (t) => {
    const wish = asksForToken(t);
    const { talk, daemon } = await open(t, wish);
    await enter(talk, TOKEN);
    await talk.button.waitFor();
    fs.writeFileSync(wish.env.VOICELIVED_ACCESS_TOKEN_FILE, OTHER);
    daemon.child.kill('SIGHUP');
    await talk.page.waitForTimeout(300);
    await talk.start();
    await talk.problem(/needs an access token/i);
    await asks(talk, /asks for an access token/);
    assert.deepEqual(await talk.page.context().cookies(), []);
  });
}
