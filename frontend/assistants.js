// The assistants to choose from, where the owner has set up some. The choice is remembered in this browser. The page's
// address says it too (`?assistant=NAME`), so that a link or a home screen can carry it, and the address wins.

import { say } from './language.js';

const KEY = 'assistant';

export class Assistants {
  #row;
  #select;
  #chosen;

  /** @param {HTMLElement} row with a select @param {string} kept the last choice @param {(name: string) => void} keep */
  constructor(row, kept, keep) {
    this.#row = row;
    this.#select = row.querySelector('select');
    this.#chosen = new URLSearchParams(location.search).get(KEY) ?? kept;
    this.#select.addEventListener('change', () => {
      this.#chosen = this.#select.value;
      const address = new URL(location.href);
      if (this.#chosen) address.searchParams.set(KEY, this.#chosen);
      else address.searchParams.delete(KEY);
      history.replaceState(null, '', address);
      keep(this.#chosen);
    });
  }

  /** The name to call; empty for the one of the daemon's own settings. */
  get chosen() {
    return this.#chosen;
  }

  /** @param {{name: string, title: string}[]} list of the daemon. A kept choice that it lacks is given up. One that a link
   *    names is not: the daemon says in words that there is none */
  offer(list) {
    const linked = new URLSearchParams(location.search).get(KEY);
    if (this.#chosen !== linked && !list.some(({ name }) => name === this.#chosen)) this.#chosen = '';
    const all = [{ name: '', title: say('usual') }, ...list];
    this.#select.replaceChildren(...all.map(({ name, title }) => new Option(title, name)));
    this.#select.value = this.#chosen;
    this.#row.hidden = list.length === 0;
  }

  /** @param {boolean} on not in a call: that keeps its assistant */
  allow(on) {
    this.#select.disabled = !on;
  }
}
