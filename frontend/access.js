// Who may call: the code in a pairing link, the form to type it, and what the daemon says to both.
//
// The code lives in the daemon's cookie, which no script can read; here it only passes through.

import { codeWords, slowedWords } from './words.js';

/** @typedef {'known'|'stranger'|'slowed'|'away'} Standing */

/** Asks whether this browser may call, showing a code or, without one, its cookie.
 *  @param {string} [code]
 *  @returns {Promise<{standing: Standing, seconds: number}>} `seconds` to wait when slowed */
export async function standing(code) {
  const headers = code ? { Authorization: `Bearer ${code}` } : {};
  const reply = await fetch('pair', { headers, cache: 'no-store', credentials: 'same-origin' }).catch(() => null);
  const found = { 204: 'known', 401: 'stranger', 429: 'slowed' }[reply?.status] ?? 'away';
  return { standing: found, seconds: Number(reply?.headers.get('retry-after')) || 0 };
}

/** Takes the code out of the address, so that it stays in no history and on no screen.
 *  @returns {string} '' if there is none */
function codeInAddress() {
  const code = new URLSearchParams(location.hash.slice(1)).get('token') ?? '';
  if (code) history.replaceState(null, '', location.pathname + location.search);
  return code;
}

/** The form, which is there only while the daemon wants a code. */
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

  /** Comes in by the address's code or by the cookie, or asks for a code. */
  async open() {
    const code = codeInAddress();
    await this.#enter(code, code ? 'link' : 'first');
  }

  /** After a call that failed: was it for want of a code? */
  async check() {
    await this.#enter('', 'first');
  }

  async #onSubmit(event) {
    event.preventDefault();
    const code = this.#field.value.trim();
    if (!code) return this.#field.focus();
    // What no header can carry is no code either.
    if (!/^[\x21-\x7e]+$/.test(code)) return this.#ask(codeWords('typed'));
    if ((await this.#enter(code, 'typed')) === 'away') this.#say(codeWords('away'));
  }

  /** @param {'link'|'typed'|'first'} from where the code is from */
  async #enter(code, from) {
    const { standing: found, seconds } = await standing(code);
    if (found === 'known') this.#show(false);
    if (found === 'stranger') this.#ask(codeWords(from));
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
