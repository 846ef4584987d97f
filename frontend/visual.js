// The level picture: a soft disc that follows the loudness of the speaking side. It is decoration only, because
// the page also says in words what it shows. Without a call, or in a hidden tab, it stands still and costs nothing.

const LAYERS = 3;
const POINTS = 72;
const LIVELY = ['connecting', 'listening', 'thinking', 'speaking', 'reconnecting'];
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const themes = ['(prefers-color-scheme: dark)', '(forced-colors: active)'].map((query) => matchMedia(query));

export class Picture {
  #canvas;
  #ink;
  #state = 'idle';
  #levels = { in: 0, out: 0 };
  #shown = 0; // the level as drawn, which follows the real one smoothly
  #frame = 0;

  /** @param {HTMLCanvasElement} canvas its CSS `color` is the picture's */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#ink = canvas.getContext('2d');
    const wake = () => this.#wake();
    new ResizeObserver(wake).observe(canvas);
    canvas.addEventListener('transitionend', wake);
    document.addEventListener('visibilitychange', wake);
    for (const query of [calm, ...themes]) query.addEventListener('change', wake);
  }

  /** @param {import('./call.js').State} state */
  state(state) {
    this.#state = state;
    this.#wake();
  }

  /** @param {'in'|'out'} side @param {number} level 0 to 1 */
  level(side, level) {
    this.#levels[side] = level;
  }

  #wake() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame((now) => this.#draw(now));
  }

  #draw(now) {
    const moving = LIVELY.includes(this.#state) && !calm.matches && !document.hidden;
    this.#fit();
    this.#shown += (this.#target(now) - this.#shown) * 0.25;
    this.#paint(moving ? now / 1000 : 0, moving ? this.#shown : 0);
    if (moving) this.#frame = requestAnimationFrame((next) => this.#draw(next));
  }

  /** Speech is quiet on average: the root spreads its levels over the picture. */
  #target(now) {
    if (this.#state === 'speaking') return Math.min(1, Math.sqrt(this.#levels.out) * 1.6);
    if (this.#state === 'listening') return Math.min(1, Math.sqrt(this.#levels.in) * 1.6);
    return 0.25 + 0.15 * Math.sin(now / 450); // no voice to follow: waiting has its own pulse
  }

  #fit() {
    const ratio = devicePixelRatio || 1;
    const size = Math.round(this.#canvas.clientWidth * ratio);
    if (this.#canvas.width !== size) this.#canvas.width = this.#canvas.height = size;
  }

  #paint(time, level) {
    const { width } = this.#canvas;
    this.#ink.clearRect(0, 0, width, width);
    this.#ink.fillStyle = getComputedStyle(this.#canvas).color; // read anew, as it fades from state to state
    for (let layer = LAYERS; layer >= 0; layer--) {
      this.#ink.globalAlpha = layer === 0 ? 1 : 0.34 / layer;
      this.#blob(width, layer, time, level);
    }
  }

  /** A circle with three slow waves around it; outer layers are larger, paler and move more. */
  #blob(width, layer, time, level) {
    const radius = width * (0.25 + 0.035 * layer + 0.035 * level * (1 + layer));
    const wave = radius * layer * (0.012 + 0.035 * level);
    this.#ink.beginPath();
    for (let i = 0; i < POINTS; i++) {
      const a = (i / POINTS) * 2 * Math.PI;
      const bend = Math.sin(2 * a + time * 1.3 + layer) + Math.sin(3 * a - time * 1.7 + 2 * layer) + Math.sin(5 * a + time * 0.9);
      const r = radius + (wave * bend) / 3;
      this.#ink.lineTo(width / 2 + r * Math.cos(a), width / 2 + r * Math.sin(a));
    }
    this.#ink.fill();
  }
}
