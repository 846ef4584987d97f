// The picture of the state: a disc with a sign of its own for each state, so that no state is told by colour alone. It
// follows the loudness of both sides: the disc that of the assistant, or of the user while it listens, and the ring
// around it that of the microphone. It is decoration only, because the page also says in words what it shows. Without a
// call, or in a hidden tab, it stands still and costs nothing.

const LAYERS = 3;
const POINTS = 72;
const RESTING = ['idle', 'muted', 'ended', 'error'];
const OPEN = ['connecting', 'reconnecting', 'ended']; // a ring in place of the disc
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const themes = ['(prefers-color-scheme: dark)', '(forced-colors: active)'].map((query) => matchMedia(query));

/** @typedef {import('./call.js').State|'tool'|'held'|'muted'|'ended'} Look */

/** Cut out of the disc, whose radius is 1. @type {Record<string, (ink: CanvasRenderingContext2D, level: number) => void>} */
const SIGNS = {
  idle(ink) {
    bar(ink, 0, -0.16, 0.3, 0.66);
    arc(ink, -0.08, 0.36, 0.1, 0, Math.PI);
    bar(ink, 0, 0.46, 0.1, 0.3);
  },
  muted(ink) {
    SIGNS.idle(ink);
    ink.rotate(-Math.PI / 4);
    ink.globalCompositeOperation = 'source-over';
    bar(ink, 0, 0, 0.42, 1.7);
    ink.globalCompositeOperation = 'destination-out';
    bar(ink, 0, 0, 0.16, 1.7);
  },
  thinking(ink) {
    for (const x of [-0.4, 0, 0.4]) bar(ink, x, 0, 0.24, 0.24);
  },
  tool(ink) {
    arc(ink, 0, 0.3, 0.2, 0, 2 * Math.PI);
    for (let i = 0; i < 8; i++, ink.rotate(Math.PI / 4)) bar(ink, 0, -0.5, 0.18, 0.24);
  },
  speaking(ink, level) {
    for (const [x, height] of [[-0.5, 0.3], [-0.25, 0.7], [0, 1], [0.25, 0.6], [0.5, 0.36]]) bar(ink, x, 0, 0.13, height * (0.7 + 0.4 * level));
  },
  held(ink) {
    for (const x of [-0.24, 0.24]) bar(ink, x, 0, 0.26, 0.86);
  },
  error(ink) {
    bar(ink, 0, -0.18, 0.2, 0.7);
    bar(ink, 0, 0.46, 0.22, 0.22);
  },
};

function bar(ink, x, y, width, height) {
  ink.beginPath();
  ink.roundRect(x - width / 2, y - height / 2, width, height, width / 2);
  ink.fill();
}

function arc(ink, y, radius, width, from, to) {
  ink.beginPath();
  ink.lineWidth = width;
  ink.arc(0, y, radius, from, to);
  ink.stroke();
}

export class Picture {
  #canvas;
  #ink;
  /** @type {Look} */
  #look = 'idle';
  #levels = { in: 0, out: 0 };
  #shown = { in: 0, out: 0 }; // the levels as drawn, which follow the real ones smoothly
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

  /** @param {Look} look */
  state(look) {
    this.#look = look;
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
    const moving = !RESTING.includes(this.#look) && !calm.matches && !document.hidden;
    this.#fit();
    for (const side of ['in', 'out']) this.#shown[side] += (this.#target(side, now) - this.#shown[side]) * 0.25;
    this.#paint(moving ? now / 1000 : 0, moving ? this.#shown : { in: 0, out: 0 });
    if (moving) this.#frame = requestAnimationFrame((next) => this.#draw(next));
  }

  /** Speech is quiet on average: the root spreads its levels over the picture. */
  #target(side, now) {
    const silent = side === 'out' && ['thinking', 'tool'].includes(this.#look);
    if (silent) return 0.25 + 0.15 * Math.sin(now / 450); // no voice to follow: waiting has its own pulse
    return Math.min(1, Math.sqrt(this.#levels[side]) * 1.6);
  }

  #fit() {
    const ratio = devicePixelRatio || 1;
    const size = Math.round(this.#canvas.clientWidth * ratio);
    if (this.#canvas.width !== size) this.#canvas.width = this.#canvas.height = size;
  }

  #paint(time, levels) {
    const ink = this.#ink;
    const { width } = this.#canvas;
    const radius = width * 0.25;
    const level = this.#look === 'listening' ? levels.in : levels.out;
    ink.clearRect(0, 0, width, width);
    ink.fillStyle = ink.strokeStyle = getComputedStyle(this.#canvas).color; // read anew, as it fades from state to state
    const open = OPEN.includes(this.#look);
    for (let layer = RESTING.includes(this.#look) ? 0 : LAYERS; layer >= 0 && !open; layer--) {
      ink.globalAlpha = layer === 0 ? 1 : 0.34 / layer;
      this.#blob(width, layer, time, level);
    }
    ink.globalAlpha = 1;
    ink.save();
    ink.translate(width / 2, width / 2);
    ink.scale(radius, radius);
    this.#sign(ink, time, level);
    ink.restore();
    this.#ring(width, levels.in);
  }

  #sign(ink, time, level) {
    const turn = (parts, gap) => {
      for (let i = 0; i < parts; i++) {
        const from = time * 2 + (i * 2 * Math.PI) / parts;
        arc(ink, 0, 0.9, 0.2, from, from + (2 * Math.PI) / parts - gap);
      }
    };
    if (this.#look === 'connecting') return turn(8, 0.4);
    if (this.#look === 'reconnecting') return turn(2, 0.9);
    if (this.#look === 'ended') return turn(1, 0);
    ink.globalCompositeOperation = 'destination-out';
    SIGNS[this.#look]?.(ink, level);
  }

  /** What the microphone hears. Where it listens, the ring is there also in silence. */
  #ring(width, level) {
    const listening = this.#look === 'listening';
    if (!listening && level < 0.05) return;
    const ink = this.#ink;
    ink.beginPath();
    ink.lineWidth = width * (0.012 + 0.03 * level);
    ink.arc(width / 2, width / 2, width * 0.46, 0, 2 * Math.PI);
    ink.stroke();
  }

  /** A circle with three slow waves around it; outer layers are larger, paler and move more. */
  #blob(width, layer, time, level) {
    const radius = width * (0.25 + 0.035 * layer + 0.03 * level * (1 + layer));
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
