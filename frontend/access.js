// Access: the token in a pairing link, the form for typing it, and the daemon's answers to both.
//
// The page keeps no token. It sends the token to the daemon once. The daemon answers with a cookie, which no
// script can read.

import { tokensIn, tokensInLink } from './pasted.js';
import { slowedWords, tokenWords } from './words.js';

/** @typedef {'known'|'stranger'|'slowed'|'away'} Standing */

/** Asks whether this browser may call, by the access token or, without one, by its cookie.
 *  @param {string} [token]
 *  @returns {Promise<{standing: Standing, seconds: number, assistants: {name: string, title: string}[]}>} `seconds` to wait
 *    when slowed; the assistants that may be asked for */
export async function standing(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const reply = await fetch('pair', { headers, cache: 'no-store', credentials: 'same-origin' }).catch(() => null);
  const found = { 200: 'known', 204: 'known', 401: 'stranger', 429: 'slowed' }[reply?.status] ?? 'away';
  const assistants = reply?.status === 200 ? await reply.json().catch(() => []) : [];
  return { standing: found, seconds: Number(reply?.headers.get('retry-after')) || 0, assistants };
}

/** Takes the access token out of the address, so that it stays in no history and on no screen.
 *  @returns {string[]} its readings; none if there is none */
function tokensInAddress() {
  const tokens = tokensInLink(location.hash);
  if (tokens.length > 0) history.replaceState(null, '', location.pathname + location.search);
  return tokens;
}

/** The form, which is there only while the daemon asks for an access token. */
export class Entrance {
  #form;
  #field;
  #words;
  #changed;
  #known;

  /** @param {HTMLFormElement} form
   *  @param {(wanted: boolean) => void} changed the form appears or goes
   *  @param {(assistants: {name: string, title: string}[]) => void} known this browser may call */
  constructor(form, changed, known) {
    this.#form = form;
    this.#known = known;
    this.#field = form.querySelector('input');
    this.#words = form.querySelector('p');
    this.#changed = changed;
    form.addEventListener('submit', (event) => this.#onSubmit(event));
  }

  /** Gets access by the token in the address or by the cookie. Else it shows the form. */
  async open() {
    const tokens = tokensInAddress();
    if (tokens.length > 0) await this.#enter(tokens, 'link');
    else await this.check();
  }

  /** Also after a call that failed: did it fail because the token is missing? */
  async check() {
    await this.#enter([''], 'first');
  }

  async #onSubmit(event) {
    event.preventDefault();
    if (!this.#field.value.trim()) return this.#field.focus();
    const tokens = tokensIn(this.#field.value);
    if (tokens.length === 0) return this.#ask(tokenWords('typed'));
    if ((await this.#enter(tokens, 'typed')) === 'away') this.#say(tokenWords('away'));
  }

  /** @param {string[]} tokens the readings, of which one may be right @param {'link'|'typed'|'first'} from where they
   *    are from */
  async #enter(tokens, from) {
    let found, seconds, assistants;
    for (const token of tokens) {
      ({ standing: found, seconds, assistants } = await standing(token));
      if (found !== 'stranger') break;
    }
    if (found === 'known') {
      this.#show(false);
      this.#known(assistants);
    }
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
