// The conversation as text. A screen reader reads whole turns only. A line is hidden from it while the line
// grows. When it is complete, a new line replaces it, and the log announces new lines.
//
// Lines stand in the order of the conversation. Each begins where the daemon names its item first, and what comes
// of that item later, in whatever order, goes to this line.

import { say } from './language.js';

const NAMES = { user: 'you', assistant: 'assistant' };
const UNHEARD_MS = 10000; // speech without any words for so long was a cough

const MOST_KEPT = 200; // lines, for a page that is loaded again

/** A line of the log as data: one of this call, which may still change, or any other.
 *  @typedef {{role: string, id?: string, text: string, mark: string|null, at: number, open: boolean}} Row
 *  @typedef {{kind: string, at: string, parts: [string, string][], text: string}} OldRow */

/** A line of the log that may still change. */
class Line {
  /** @param {Partial<Row>} [kept] as it was before the page was loaded again */
  constructor(role, id, kept = {}) {
    this.role = role;
    this.id = id;
    this.text = kept.text ?? '';
    this.mark = kept.mark ?? null; // why the words are not all there
    this.since = performance.now();
    this.at = kept.at ?? Date.now(); // when it was said, for keep.js
    this.element = this.#build(!this.text && !this.mark);
  }

  /** @param {string} text @param {boolean} partial */
  show(text, partial) {
    const told = !this.element.ariaHidden && text === this.text && this.mark !== 'failed';
    if (told && !partial) return; // as a new element it would be read out again
    this.text = text;
    if (this.mark === 'failed') this.mark = null;
    if (partial && this.element.ariaHidden) this.element.lastChild.textContent = text;
    else this.#replace(partial);
  }

  interrupt() {
    this.mark = 'cut';
    this.#replace(false);
  }

  /** Nothing can be shown of what was said. */
  fail() {
    this.mark = 'failed';
    this.#replace(false);
  }

  get unheard() {
    return this.role === 'user' && !this.text && !this.mark;
  }

  #replace(partial) {
    const old = this.element;
    this.element = this.#build(partial);
    old.replaceWith(this.element);
  }

  #build(partial) {
    const element = part('p', `turn ${this.role}`);
    element.append(part('span', 'who', NAMES[this.role] ? say(NAMES[this.role]) : this.role), part('span', 'text', this.text || '…'));
    if (this.mark) element.append(part('span', this.mark, say(this.mark)));
    if (partial) element.ariaHidden = 'true';
    element.dataset.at = String(this.at);
    return element;
  }
}

export class Captions {
  #log;
  #open = []; // lines that may still grow, oldest first
  #named = new Map(); // the lines of this call by their item
  #tools = [];
  #following = true; // the end of the log, unless the user scrolled back
  #typed = null; // shown already, in case the daemon repeats it
  #place = null; // of the last typed turn, while it is in the log

  /** @param {HTMLElement} log */
  constructor(log) {
    this.#log = log;
    log.addEventListener('scroll', () => (this.#following = this.#atEnd()));
    new ResizeObserver(() => this.#follow()).observe(log);
  }

  /** @param {{type: string}} message of the daemon; those without text for people are ignored */
  message(message) {
    this.#react(message);
    this.#follow();
  }

  #react(message) {
    switch (message.type) {
      case 'speech_started':
        return this.#speech(message);
      case 'speech_stopped':
        return message.item_id && this.#line('user', message);
      case 'transcript_failed':
        return this.#line('user', message).fail();
      case 'response_started':
        return this.#forget('assistant');
      case 'transcript_delta':
        return this.#delta(message);
      case 'transcript':
        return this.#final(message);
      case 'tool':
        return this.#tool(message);
    }
  }

  /** A place in the conversation for a typed turn that the daemon has not taken yet. Remove it if it never does.
   *  @returns {HTMLElement} */
  place() {
    this.#place = part('p', 'place');
    this.#place.hidden = true;
    this.#append(this.#place);
    return this.#place;
  }

  /** What the user typed. @param {string} text @param {HTMLElement} [place] where it is shown, at the end without one */
  typed(text, place) {
    this.message({ type: 'transcript', role: 'user', text, typed: true });
    place?.replaceWith(this.#log.lastChild);
    this.#typed = text;
    this.#dropUnheard(); // a typed turn that interrupts is announced as speech is
  }

  /** The assistant was cut off in its last line. */
  interrupted() {
    this.#open.findLast((line) => line.role === 'assistant' && line.text)?.interrupt();
  }

  /** A call begins. The lines that are there belong to an earlier call. */
  begin() {
    this.#named.clear();
    this.#typed = null;
    if (this.#log.lastChild && this.#log.lastChild.className !== 'divider') this.#append(part('p', 'divider', say('newCall')));
  }

  /** The log, for a page that is loaded again. @returns {(Row|OldRow)[]} */
  kept() {
    const lines = new Map([...this.#named.values(), ...this.#open].map((line) => [line.element, line]));
    const shown = [...this.#log.children].filter((element) => !element.hidden && !element.matches('.place, .running'));
    return shown.slice(-MOST_KEPT).map((element) => {
      const line = lines.get(element);
      if (line) return { role: line.role, id: line.id, text: line.text, mark: line.mark, at: line.at, open: this.#open.includes(line) };
      const parts = [...element.children].map((child) => [child.className, child.textContent]);
      return { kind: element.className, at: element.dataset.at, parts, text: parts.length > 0 ? '' : element.textContent };
    });
  }

  /** @param {(Row|OldRow)[]} rows what `kept` has given */
  restore(rows) {
    for (const row of rows) {
      if (row.role) this.#restoreLine(row);
      else this.#append(restored(row));
    }
    this.#follow();
  }

  #restoreLine(row) {
    const line = new Line(row.role, row.id, row);
    if (row.open) this.#open.push(line);
    if (row.id) this.#named.set(row.id, line);
    this.#append(line.element);
  }

  /** The call is over: nothing grows any more. */
  end() {
    for (const line of [...this.#open, ...this.#named.values()]) if (line.unheard) line.element.remove();
    for (const line of this.#open) if (line.text) line.show(line.text, false);
    for (const { element } of this.#tools) element.remove();
    this.#open = [];
    this.#tools = [];
  }

  /** A typed turn that interrupts an answer tells of speech too, without an item. Its line is there already. */
  #speech(message) {
    this.#dropUnheard();
    if (message.item_id) this.#line('user', message);
    else if (this.#typed === null && !this.#place?.isConnected) this.#add('user');
  }

  #delta(message) {
    const line = this.#line(message.role, message);
    line.show(line.text + message.text, true);
  }

  #final({ role, text, typed, ...item }) {
    if (role === 'user' && text === this.#typed && !this.#isSpoken(item)) return void (this.#typed = null);
    const line = typed ? this.#add(role) : this.#line(role, item);
    if (text) line.show(text, false);
    else line.element.remove();
    // A line of the assistant stays open until the next reply, because it may still be marked as interrupted.
    if (role !== 'assistant') this.#open = this.#open.filter((other) => other !== line);
  }

  /** Whether the words of an item were spoken: a typed turn has no line that waits for them. */
  #isSpoken({ item_id }) {
    return this.#named.has(item_id) || this.#open.some((line) => line.unheard);
  }

  /** The line of an item, or of a part of it: there already, or new. Where either has no name, the oldest that
   *  may still grow is taken for it. */
  #line(role, { item_id, content_index }) {
    const id = item_id && (content_index ? `${item_id} ${content_index}` : item_id);
    const unnamed = (line) => line.role === role && (!line.id || !id);
    const line = this.#named.get(id) ?? this.#open.find(unnamed) ?? this.#add(role, id);
    line.id ??= id;
    if (id) this.#named.set(id, line);
    return line;
  }

  #add(role, id) {
    const line = new Line(role, id);
    this.#open.push(line);
    this.#append(line.element);
    return line;
  }

  #forget(role) {
    for (const line of this.#open) if (line.role === role && line.text) line.show(line.text, false);
    this.#open = this.#open.filter((line) => line.role !== role);
  }

  /** Speech that became no turn (a cough) still has no text when the user speaks again. The line of an item is
   *  only hidden, since its words would still have to go there. */
  #dropUnheard() {
    const now = performance.now();
    for (const line of this.#open.filter((line) => line.unheard)) {
      if (!line.id) line.element.remove();
      else line.element.hidden = now - line.since > UNHEARD_MS;
    }
    this.#open = this.#open.filter((line) => line.element.isConnected);
  }

  #tool({ name, state, ms }) {
    const words = name.replaceAll('_', ' ');
    if (state === 'running') return this.#startTool(name, words);
    const at = this.#tools.findIndex((tool) => tool.name === name);
    const done = part('p', `tool ${state}`, say(state === 'failed' ? 'toolFailed' : 'toolDone', { tool: words, ms }));
    if (at < 0) return this.#append(done);
    const [{ element }] = this.#tools.splice(at, 1);
    done.dataset.at = element.dataset.at;
    element.replaceWith(done);
  }

  #startTool(name, words) {
    const element = part('p', 'tool running', `${words}…`);
    element.ariaHidden = 'true';
    this.#tools.push({ name, element });
    this.#append(element);
  }

  #append(element) {
    element.dataset.at ??= String(Date.now());
    this.#log.append(element);
    this.#log.tabIndex = 0; // it may scroll now, so the keyboard must reach it
  }

  #follow() {
    if (this.#following) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #atEnd() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 40;
  }
}

function restored({ kind, at, parts, text }) {
  const element = part('p', kind, text);
  element.append(...parts.map(([name, words]) => part('span', name, words)));
  element.dataset.at = at;
  return element;
}

function part(tag, name, text = '') {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}
