// The audio context of a call: when it is resumed, and when it is replaced (docs/architecture.md, "The page").

const LOOK_MS = 1000;
const PATIENCE_MS = 2000; // for a clock that stands still, the first time; each further one is given twice as long
const MOST_MS = 32000;
const STEADY_MS = 60000; // one that goes for so long has helped
const INTERRUPTED_MS = 10000; // after a touch: some systems do not say that an interruption is over

/** @typedef {object} ContextEvents
 *  @property {() => void} renewed the one before is closed, and all nodes are to be made anew
 *  @property {(paused: boolean) => void} paused the system took the sound away, or gave it back */

export class SoundContext {
  #events;
  /** @type {AudioContext} */
  #context;
  #closed = false;
  #paused = false;
  #started = false; // it has run
  #asked = false; // the user is back, and it is not running
  #touched = false; // the user has even touched the page
  #time = 0; // of the context's clock, when it last moved
  #movedAt = 0;
  #madeAt = 0;
  #patience = PATIENCE_MS;
  #watch;

  /** Make it in the click itself: a context made after any `await` stays silent on phones.
   *  @param {ContextEvents} events */
  constructor(events) {
    this.#events = events;
    this.#make();
    this.#watch = setInterval(() => this.#look(), LOOK_MS);
  }

  /** The one in use. It changes with `renewed`. */
  get audio() {
    return this.#context;
  }

  get running() {
    return this.#context.state === 'running';
  }

  /** Resolves once it runs for the first time. */
  start() {
    const running = this.#context.resume();
    running.catch(() => {}); // closed before it ran
    return running;
  }

  /** The user is back. @param {boolean} touched and has touched the page */
  resume(touched) {
    if (this.#closed || this.running) return;
    this.#asked = true;
    this.#touched ||= touched;
    this.#resume();
  }

  /** Says whether it is paused, also if it has never run. */
  announce() {
    if (!this.#closed) this.#tell();
  }

  close() {
    this.#closed = true;
    clearInterval(this.#watch);
    this.#drop();
  }

  #make() {
    // At the device's rate. A 24 kHz context loses Firefox's echo cancellation and may freeze its tab.
    const context = new AudioContext({ latencyHint: 'interactive' });
    context.addEventListener('statechange', () => context === this.#context && this.#onState());
    this.#context = context;
    this.#madeAt = performance.now();
    this.#moved();
  }

  #drop() {
    if (this.#context.state !== 'closed') this.#context.close().catch(() => {});
  }

  #resume() {
    if (this.#context.state === 'suspended') this.#context.resume().catch(() => {});
  }

  #onState() {
    if (this.#closed) return;
    const paused = !this.running;
    if (paused && document.visibilityState === 'visible') this.#resume();
    if (!paused) {
      this.#started = true;
      this.#asked = this.#touched = false;
    }
    this.#moved();
    this.#tell();
  }

  #tell() {
    const paused = !this.running;
    if (paused !== this.#paused) this.#events.paused(paused);
    this.#paused = paused;
  }

  #moved() {
    this.#time = this.#context.currentTime;
    this.#movedAt = performance.now();
  }

  /** Should the clock go? A hidden page is not asked, since its timers and its sound may rest. One that does not run
   *  counts only after the user came back, and an interrupted one only after a touch. */
  #isDue() {
    const { state } = this.#context;
    if (!this.#started || document.visibilityState !== 'visible') return false;
    return state === 'running' || (state === 'suspended' ? this.#asked : this.#touched);
  }

  #look() {
    const { state, currentTime } = this.#context;
    const moves = state === 'running' && currentTime !== this.#time;
    if (this.#started) this.#tell(); // a new one may need a touch to run, and then its state never changes
    if (moves && performance.now() - this.#madeAt > STEADY_MS) this.#patience = PATIENCE_MS;
    if (!this.#isDue() || moves) return this.#moved();
    const patience = state === 'interrupted' ? INTERRUPTED_MS : 0;
    if (performance.now() - this.#movedAt < Math.max(patience, this.#patience)) return;
    this.#patience = Math.min(2 * this.#patience, MOST_MS); // a new one does not help every time
    this.#drop();
    this.#make();
    this.#context.resume().catch(() => {});
    this.#events.renewed();
  }
}
