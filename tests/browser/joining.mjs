// What tests do with a page that joins its call again.

import { until } from './sound.mjs';

// What a browser logs of a socket that it could not keep or make.
const BROKEN = /^(WebSocket connection to .* failed|Firefox can’t establish a connection|The connection to \S+ was interrupted|Failed to load resource)/;

/** The call has so many sockets by now, and the last one has brought its `hello`. */
export async function joined(talk, count) {
  await until(async () => (await talk.received('hello')).length === count, `socket ${count}`, 20000);
}

export async function say(talk, text) {
  await talk.page.locator('#text').fill(text);
  await talk.page.keyboard.press('Enter');
}

/** A conversation is possible. */
export async function asks(talk, text) {
  await say(talk, text);
  await talk.said('user', new RegExp(text.replace('?', '\\?')));
  await talk.said('assistant', new RegExp(text.replace('?', '\\?')));
}

export async function calm(talk) {
  talk.complaints = talk.complaints.filter((complaint) => !BROKEN.test(complaint));
  await talk.noComplaints();
}
