// What the assistant may do only if the user agrees: a card with two buttons. Several questions wait in a row, each
// with its own time. Nothing but a button, or Escape for no, answers them: what is said may be misheard.
//
// The model and makers of tools have written what is shown, so it is only ever text.

import { join, say } from './language.js';

const HASTE_MS = 500; // a press that follows so soon was meant for what was there before

const byId = (id) => document.getElementById(id);

/** @typedef {object} QuestionEvents
 *  @property {(id: string, allow: boolean) => void} answer
 *  @property {() => boolean} busy the user is typing or talking, and must not lose the focus
 *  @property {() => void} done nothing is asked any more, and the focus was in the card */

export class Questions {
  #card = byId('asked');
  #events;
  #queue = []; // the first one is shown
  #answers = new Map(); // in case that the daemon has not had one
  #shown = null;
  #shownAt = 0;
  #clock = 0;

  /** @param {QuestionEvents} events */
  constructor(events) {
    this.#events = events;
    byId('allow').addEventListener('click', () => this.#answer(true));
    byId('refuse').addEventListener('click', () => this.#answer(false));
  }

  get open() {
    return this.#queue.length > 0;
  }

  /** @param {{type: string}} message of the daemon; others than questions are ignored */
  message(message) {
    if (message.type === 'hello' && message.resumed) this.#queue = []; // what is open comes again
    if (message.type === 'confirm') this.#ask(message);
  }

  /** No, to the question that is shown. */
  refuse() {
    this.#answer(false);
  }

  /** The call is over, and its questions with it. */
  clear() {
    this.#queue = [];
    this.#answers.clear();
    this.#show();
  }

  #ask(question) {
    const { id, seconds } = question;
    if (this.#answers.has(id) && seconds > 0) return this.#events.answer(id, this.#answers.get(id));
    this.#queue = this.#queue.filter((other) => other.id !== id);
    if (seconds > 0) this.#queue.push({ ...question, until: performance.now() + seconds * 1000 });
    this.#show();
  }

  #answer(allow) {
    if (!this.open || performance.now() - this.#shownAt < HASTE_MS) return;
    const { id } = this.#queue.shift();
    this.#answers.set(id, allow);
    this.#events.answer(id, allow);
    this.#show();
  }

  #tick() {
    const now = performance.now();
    this.#queue = this.#queue.filter(({ until }) => until > now);
    this.#show();
  }

  #show() {
    clearTimeout(this.#clock);
    const question = this.#queue[0];
    if (question?.id !== this.#shown) this.#change(question);
    if (!question) return;
    const more = this.#queue.length - 1;
    const seconds = Math.ceil((question.until - performance.now()) / 1000);
    const follow = more === 0 ? '' : more === 1 ? say('oneMore') : say('more', { count: more });
    byId('asked-left').textContent = join(say('left', { seconds }), follow);
    this.#clock = setTimeout(() => this.#tick(), 1000);
  }

  #change(question) {
    this.#shown = question?.id ?? null;
    this.#shownAt = performance.now();
    const focused = this.#card.contains(document.activeElement);
    byId('asked-heard').textContent = '';
    if (question) this.#fill(question);
    this.#card.hidden = !question;
    document.body.classList.toggle('asked', Boolean(question)); // the picture makes room
    if (!question) return void (focused && this.#events.done());
    if (!this.#events.busy()) this.#card.focus();
    else byId('asked-heard').textContent = join(byId('asked-what').textContent, say('buttons'));
  }

  #fill({ tool, about, server, arguments: given }) {
    const name = plain(tool).replaceAll('_', ' ');
    byId('asked-what').textContent = say(server ? 'askOn' : 'ask', { tool: name, server: plain(server ?? '') });
    byId('asked-about').textContent = plain(about ?? '');
    const rows = given && typeof given === 'object' ? Object.entries(given) : given ? [['', given]] : [];
    byId('asked-with').replaceChildren(...rows.flatMap(([key, value]) => [part('dt', key), part('dd', words(value))]));
  }
}

/** Characters that turn the direction of writing could make a text read as another. */
function plain(text) {
  return String(text).replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
}

function words(value) {
  if (typeof value === 'boolean') return say(String(value));
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function part(tag, text) {
  const element = document.createElement(tag);
  element.textContent = plain(text);
  return element;
}
