// The conversation to keep: copied, or saved as text or Markdown, with the time of each line. The page stores nothing by
// itself: this reads what the log shows when the user asks.

import { say } from './language.js';

const byId = (id) => document.getElementById(id);
const MARKDOWN = /[\\\x60*_{}[\]<>#|~]/g; // what would be more than a character there

/** @typedef {{at: Date, name: string, text: string, mark: string}} Kept a line; without a name it is no turn, and without
 *    a text a new call begins */

/** @param {Kept[]} lines @param {boolean} markdown @param {string} language for dates and times
 *  @returns {string} */
export function written(lines, markdown, language) {
  const clock = (at) => at.toLocaleTimeString(language, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const plain = (text) => text.replace(/\s+/g, ' ').trim();
  const safe = (text) => (markdown ? plain(text).replace(MARKDOWN, '\\$&') : plain(text));
  const strong = (text) => (markdown ? `**${text}**` : text);
  const title = `voicelived, ${lines[0].at.toLocaleDateString(language, { dateStyle: 'long' })}`;
  const told = lines.map(({ at, name, text, mark }) => {
    if (!text) return '---';
    const parts = [clock(at), name && strong(safe(name) + ':'), safe(text), mark && `(${safe(mark)})`];
    return parts.filter(Boolean).join(' ');
  });
  return [markdown ? `# ${title}` : title, ...told].join(markdown ? '\n\n' : '\n') + '\n';
}

/** The button in the page's head, and the dialog behind it. */
export class Keep {
  #log;
  #dialog = byId('keep');

  /** @param {HTMLElement} log */
  constructor(log) {
    this.#log = log;
    new MutationObserver(() => (byId('save').hidden = this.#lines().length === 0)).observe(log, { childList: true });
    byId('save').addEventListener('click', () => this.#show());
    byId('keep-copy').addEventListener('click', () => this.#copy());
    byId('keep-text').addEventListener('click', () => this.#file('txt'));
    byId('keep-markdown').addEventListener('click', () => this.#file('md'));
    byId('keep-done').addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('click', ({ target }) => target === this.#dialog && this.#dialog.close()); // beside it
  }

  get open() {
    return this.#dialog.open;
  }

  #show() {
    byId('keep-said').textContent = '';
    this.#dialog.showModal();
  }

  /** @returns {Kept[]} without the turns that have no words yet */
  #lines() {
    const turns = [...this.#log.children].filter((line) => !line.hidden && line.dataset.at && !line.matches('.tool.running'));
    const lines = turns.map((line) => {
      const part = (name) => line.querySelector(name)?.textContent ?? '';
      const text = line.matches('.turn') ? part('.text') : line.matches('.tool') ? line.textContent : '';
      return { at: new Date(Number(line.dataset.at)), name: part('.who'), text, mark: part('.cut, .failed') };
    });
    return lines.filter(({ text, mark }) => text !== '…' || mark);
  }

  #written(markdown) {
    return written(this.#lines(), markdown, document.documentElement.lang);
  }

  async #copy() {
    const copied = await navigator.clipboard?.writeText(this.#written(false)).then(() => true, () => false);
    byId('keep-said').textContent = say(copied ? 'copied' : 'notCopied');
  }

  /** @param {'txt'|'md'} kind */
  #file(kind) {
    const link = document.createElement('a');
    const type = kind === 'md' ? 'text/markdown' : 'text/plain';
    link.href = URL.createObjectURL(new Blob([this.#written(kind === 'md')], { type: `${type};charset=utf-8` }));
    link.download = `voicelived-${this.#lines()[0].at.toISOString().slice(0, 16).replace(':', '')}.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser may still ask where to put it
  }
}
