// The conversation as text. A screen reader reads whole turns only. A line is hidden from it while the line
// grows. When it is complete, a new line replaces it, and the log announces new lines.

const NAMES = { user: 'You', assistant: 'Assistant' };

/** A line of the log that may still change. */
class Line {
  constructor(role, id) {
    this.role = role;
    this.id = id;
    this.text = '';
    this.interrupted = false;
    this.element = this.#build(true);
  }

  /** @param {string} text @param {boolean} partial */
  show(text, partial) {
    this.text = text;
    if (partial && this.element.ariaHidden) this.element.lastChild.textContent = text;
    else this.#replace(partial);
  }

  interrupt() {
    this.interrupted = true;
    this.#replace(false);
  }

  #replace(partial) {
    const old = this.element;
    this.element = this.#build(partial);
    old.replaceWith(this.element);
  }

  #build(partial) {
    const element = part('p', `turn ${this.role}`);
    element.append(part('span', 'who', NAMES[this.role] ?? this.role), part('span', 'text', this.text || '…'));
    if (this.interrupted) element.append(part('span', 'cut', 'interrupted'));
    if (partial) element.ariaHidden = 'true';
    return element;
  }
}

export class Captions {
  #log;
  #open = []; // lines that may still change, oldest first
  #tools = [];
  #following = true; // the end of the log, unless the user scrolled back
  #typed = null; // shown already, in case the daemon repeats it

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
        this.#dropUnheard();
        return this.#add('user');
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

  /** What the user typed. It keeps its place from now on, and is shown when it counts as said.
   *  @param {string} text @returns {(said: boolean) => void} to be called once */
  typed(text) {
    const place = part('p', 'place');
    place.hidden = true;
    this.#append(place);
    return (said) => {
      if (said) this.#say(text, place);
      else place.remove();
    };
  }

  #say(text, place) {
    this.#dropUnheard(); // a typed turn that interrupts is announced as speech is
    const line = new Line('user');
    line.show(text, false);
    place.replaceWith(line.element);
    this.#typed = text;
    this.#follow();
  }

  /** The assistant was cut off in its last line. */
  interrupted() {
    this.#open.findLast((line) => line.role === 'assistant' && line.text)?.interrupt();
  }

  /** A call begins. The lines that are there belong to an earlier call. */
  begin() {
    if (this.#log.lastChild && this.#log.lastChild.className !== 'divider') this.#append(part('p', 'divider', 'New call'));
  }

  /** The call is over: nothing grows any more. */
  end() {
    for (const line of this.#open) line.text ? line.show(line.text, false) : line.element.remove();
    for (const { element } of this.#tools) element.remove();
    this.#open = [];
    this.#tools = [];
  }

  #delta({ role, item_id: id, text }) {
    let line = this.#find(role, id);
    if (!line || (id && line.id && line.id !== id)) line = this.#add(role, id);
    line.id ??= id;
    line.show(line.text + text, true);
  }

  #final({ role, item_id: id, text }) {
    if (role === 'user' && text === this.#typed) return void (this.#typed = null);
    const line = this.#find(role, id) ?? this.#add(role, id);
    if (text) line.show(text, false);
    else line.element.remove();
    // A line of the assistant stays open until the next reply, because it may still be marked as interrupted.
    if (role !== 'assistant') this.#open = this.#open.filter((other) => other !== line);
  }

  #find(role, id) {
    const own = this.#open.filter((line) => line.role === role);
    return own.find((line) => id && line.id === id) ?? own.find((line) => !line.id || !id);
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

  /** Speech that became no turn (a cough) still has no text when the user speaks again. */
  #dropUnheard() {
    for (const line of this.#open) if (line.role === 'user' && !line.text) line.element.remove();
    this.#open = this.#open.filter((line) => line.element.isConnected);
  }

  #tool({ name, state, ms }) {
    const words = name.replaceAll('_', ' ');
    if (state === 'running') return this.#startTool(name, words);
    const at = this.#tools.findIndex((tool) => tool.name === name);
    const done = part('p', `tool ${state}`, state === 'failed' ? `${words}: failed` : `${words}: done in ${ms} ms`);
    if (at < 0) return this.#append(done);
    this.#tools.splice(at, 1)[0].element.replaceWith(done);
  }

  #startTool(name, words) {
    const element = part('p', 'tool running', `${words}…`);
    element.ariaHidden = 'true';
    this.#tools.push({ name, element });
    this.#append(element);
  }

  #append(element) {
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

function part(tag, name, text = '') {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}
