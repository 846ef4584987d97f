// Access: the token in a pairing link, the form for typing it, and the daemon's answers to both.
//
// The page keeps no token. It sends the token to the daemon once. The daemon answers with a cookie, which no
// script can read.

import { slowedWords, tokenWords } from './words.js';

/** @typedef {'known'|'stranger'|'slowed'|'away'} Standing */

/** Asks whether this browser may call, by the access token or, without one, by its cookie.
 *  @param {string} [token]
 *  @returns {Promise<{standing: Standing, seconds: number}>} `seconds` to wait when slowed */
export async function standing(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const reply = await fetch('pair', { headers, cache: 'no-store', credentials: 'same-origin' }).catch(() => null);
  const found = { 204: 'known', 401: 'stranger', 429: 'slowed' }[reply?.status] ?? 'away';
  return { standing: found, seconds: Number(reply?.headers.get('retry-after')) || 0 };
}

/** Takes the access token out of the address, so that it stays in no history and on no screen.
 *  @returns {string} '' if there is none */
function tokenInAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? '';
  if (token) history.replaceState(null, '', location.pathname + location.search);
  return token;
}

/** The access token in what somebody typed or pasted: the token itself, or a whole pairing link. Mail and chat break
 *  links into lines and put quotes around them. No token holds a blank.
 *  @param {string} typed
 *  @returns {string} */
export function tokenIn(typed) {
  const text = typed.replace(/[\s\u200b-\u200d\u2060\ufeff]/g, '');
  const link = /(?:^|[#?&/])token(?:=|%3d)([^#&"'<>“”‘’«»]+)/i.exec(text);
  const found = link ? link[1] : text;
  const bare = link ? found.replace(/[.,;]+$/, '') : unquoted(found);
  return link ? decoded(bare) : bare;
}

const PAIRS = ['""', "''", '``', '<>', '“”', '„“', '‘’', '«»', '()', '[]'];

function unquoted(text) {
  const quoted = text.length > 2 && PAIRS.includes(text[0] + text.at(-1));
  return quoted ? text.slice(1, -1) : text;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The form, which is there only while the daemon asks for an access token. */
export class Entrance {
  #form;
  #field;
  #words;
  #changed;

  /** @param {HTMLFormElement} form
   *  @param {(wanted: boolean) => void} changed the form appears or goes */
  constructor(form, changed) {
    this.#form = form;
    this.#field = form.querySelector('input');
    this.#words = form.querySelector('p');
    this.#changed = changed;
    form.addEventListener('submit', (event) => this.#onSubmit(event));
  }

  /** Gets access by the token in the address or by the cookie. Else it shows the form. */
  async open() {
    const token = tokenInAddress();
    await this.#enter(token, token ? 'link' : 'first');
  }

  /** After a call that failed: did it fail because the token is missing? */
  async check() {
    await this.#enter('', 'first');
  }

  async #onSubmit(event) {
    event.preventDefault();
    const token = tokenIn(this.#field.value);
    if (!token) return this.#field.focus();
    // A text that no header can carry cannot be a token.
    if (!/^[\x21-\x7e]+$/.test(token)) return this.#ask(tokenWords('typed'));
    if ((await this.#enter(token, 'typed')) === 'away') this.#say(tokenWords('away'));
  }

  /** @param {'link'|'typed'|'first'} from where the token is from */
  async #enter(token, from) {
    const { standing: found, seconds } = await standing(token);
    if (found === 'known') this.#show(false);
    if (found === 'stranger') this.#ask(tokenWords(from));
    if (found === 'slowed') this.#ask(slowedWords(seconds));
    return found;
  }

  #ask(words) {
    const typing = this.#form.contains(document.activeElement);
    this.#show(true);
    this.#say(words);
    this.#field.value = '';
    if (typing) this.#field.focus();
  }

  #say(words) {
    this.#words.textContent = words;
  }

  #show(on) {
    if (this.#form.hidden !== on) return;
    this.#form.hidden = !on;
    this.#field.value = '';
    this.#changed(on);
  }
}
