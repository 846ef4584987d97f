// Keeps the screen on, because a phone that locks itself ends the call. Browsers take the wake lock back when
// the page is hidden. So the page asks for it again when it returns.

export class Awake {
  #wanted = false;
  #lock = null;
  #asking = false;

  constructor() {
    document.addEventListener('visibilitychange', () => this.#ask());
  }

  /** @param {boolean} on */
  keep(on) {
    this.#wanted = on;
    if (on) return void this.#ask();
    this.#lock?.release().catch(() => {});
    this.#lock = null;
  }

  async #ask() {
    if (!this.#wanted || this.#lock || this.#asking || !navigator.wakeLock || document.hidden) return;
    this.#asking = true;
    const lock = await navigator.wakeLock.request('screen').catch(() => null); // refused when the battery is low
    this.#asking = false;
    if (!this.#wanted) return void lock?.release().catch(() => {});
    this.#lock = lock;
    lock?.addEventListener('release', () => (this.#lock = null));
  }
}
