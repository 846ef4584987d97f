// Push-to-talk: the space bar wherever the focus is, or the button under a finger, a mouse, Enter or a screen
// reader. Some users cannot hold a key down. With Enter or a screen reader, one press begins to talk and the next
// one ends it.

const TAKES_SPACE = 'input, textarea, select, [contenteditable], dialog';

/** @typedef {object} HoldEvents
 *  @property {() => boolean} ready the user may talk this way now
 *  @property {(on: boolean) => void} changed */

export class Hold {
  #button;
  #events;
  #by = null; // 'space', 'pointer' or 'press', while it talks

  /** @param {HTMLButtonElement} button @param {HoldEvents} events */
  constructor(button, events) {
    this.#button = button;
    this.#events = events;
    document.addEventListener('keydown', (event) => this.#onSpace(event, true));
    document.addEventListener('keyup', (event) => this.#onSpace(event, false));
    button.addEventListener('keydown', (event) => event.key === 'Enter' && event.repeat && event.preventDefault());
    button.addEventListener('click', (event) => this.#onClick(event));
    button.addEventListener('pointerdown', (event) => this.#onPointer(event));
    for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) {
      button.addEventListener(end, () => this.#release('pointer'));
    }
    button.addEventListener('contextmenu', (event) => event.preventDefault()); // of a long touch
    addEventListener('blur', () => this.end()); // the key may come up over another window
    document.addEventListener('visibilitychange', () => this.end());
  }

  /** Whether the user talks. */
  get on() {
    return this.#by !== null;
  }

  /** Ends talking, whichever key or pointer began it. */
  end() {
    if (this.#by) this.#release(this.#by);
  }

  /** Buttons keep Enter; Space, which would press them when it comes up, talks. */
  #onSpace(event, down) {
    if (event.key !== ' ' || event.ctrlKey || event.altKey || event.metaKey) return;
    if (this.#by !== 'space' && (!this.#events.ready() || event.target.closest?.(TAKES_SPACE))) return;
    event.preventDefault();
    if (!down) this.#release('space');
    else if (!event.repeat) this.#take('space');
  }

  #onPointer(event) {
    if (event.button !== 0) return;
    this.#button.setPointerCapture(event.pointerId);
    this.#take('pointer');
  }

  /** A click without a pointer (`detail` 0) is Enter's or a screen reader's. */
  #onClick(event) {
    if (event.detail !== 0) return;
    if (this.#by) this.end();
    else this.#take('press');
  }

  #take(by) {
    if (this.#by || !this.#events.ready()) return;
    this.#by = by;
    this.#show();
  }

  #release(by) {
    if (this.#by !== by) return;
    this.#by = null;
    this.#show();
  }

  #show() {
    this.#button.ariaPressed = String(this.on);
    this.#events.changed(this.on);
  }
}
