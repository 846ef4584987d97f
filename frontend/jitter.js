// Holds the reply until each sample is due. Pure: it is told the time, in samples at 24 kHz, as the sound card counts
// them. How and why: docs/architecture.md, "The player of the page".

const MS = 24; // samples
const START = 20 * MS;
const FADE = 5 * MS; // at each beginning, end and cut
const LEAST_SPARE = 3 * MS; // worklets run in bursts of these
const MOST_SPARE = 250 * MS;
const SPAN = 200 * MS;
const SPANS = 50; // remembered
const AHEAD = 80 * MS; // of the first piece's delay
const PAUSE = 100 * MS; // of a reply that is ahead
const LEAST_LAG = 2.5 * MS; // periods of voices
const MOST_LAG = 15 * MS;
const WINDOW = 10 * MS;
const LOOK = MOST_LAG * 2 + WINDOW;
const ALIKE = 0.7;
const QUIET = 0.003; // -50 dB
const NEAR = MS; // what is left out stays so far from too much
const LOWEST = 750 * MS;
const HELD = 100 * MS; // of a bridge
const BRIDGE = 150 * MS;
const AGAIN = 200 * MS; // heard again after a hold

class JitterBuffer {
  /** @type {'idle'|'waiting'|'playing'|'bridging'|'dry'|'ending'|'held'} */
  state = 'idle';
  open = false; // more of this reply is to come
  #overtaken = false; // by the word of its end, and more has come since: where it ends is not told
  arrived = 0; // samples, of all replies
  waiting = 0; // of them not played yet
  #head = null; // a linked list: minutes may wait
  #tail = null;
  #taken = 0;
  #line = new Float32Array(4 * LOOK); // what is played next, and may be stretched
  #from = MOST_LAG; // room for one more period in front
  #to = MOST_LAG;
  #past = new Float32Array(LOOK); // what was played last
  #patch = new Float32Array(BRIDGE);
  #again = new Float32Array(AGAIN); // a ring of what was played last
  #heard = 0; // of this reply
  #at = 0;
  #end = 0;
  #fade = FADE;
  #since = 0;
  #floor = 0; // the least delay that counts: see AHEAD
  #least = Infinity; // delay of this span
  #leasts = [];
  #late = 0; // by so much, in this span
  #lates = [];
  #spanEnds = 0;
  #low = 0; // fewest samples waiting
  #lowBefore = 0;
  #lowEnds = 0;
  #rest = 0; // until then
  #tries = 0;

  /** Samples played or left out, of all replies. */
  get played() {
    return this.arrived - this.waiting;
  }

  get sounding() {
    return this.state === 'playing' || this.state === 'bridging';
  }

  /** How late a piece may come. A long wait or two are no jitter. */
  get spare() {
    const [, , third = 0] = [...this.#lates, this.#late].sort((a, b) => b - a);
    return Math.min(MOST_SPARE, Math.max(LEAST_SPARE, third));
  }

  /** @param {Int16Array} samples kept, not copied */
  push(samples, now) {
    if (samples.length === 0) return;
    const delay = now - this.arrived;
    if (this.state === 'idle' || this.state === 'ending') {
      this.#floor = delay - AHEAD;
      this.#heard = 0;
    }
    if (this.state === 'playing' && !this.open) this.open = this.#overtaken = true;
    if (this.state === 'bridging') this.#play(now);
    else if (!['waiting', 'playing', 'held'].includes(this.state)) this.#wait(now);
    this.#note(delay, now);
    const link = { samples, next: null };
    if (this.#tail) this.#tail.next = link;
    else this.#head = link;
    this.#tail = link;
    this.arrived += samples.length;
    this.waiting += samples.length;
  }

  /** More of a reply is to come. */
  begin() {
    this.open = true;
    this.#overtaken = false;
  }

  /** No more of this reply comes, but for what this word has overtaken. */
  end() {
    this.open = this.#overtaken = false;
    if (this.state === 'bridging') this.#fadePatch();
    if (this.state === 'dry') this.state = 'idle';
  }

  /** Fades out, and keeps what waits. */
  hold() {
    this.#fadeOut();
    this.state = 'held';
  }

  /** Goes on where `hold` has stopped, with what was heard last. */
  goOn(now) {
    if (this.state !== 'held') return;
    this.state = 'idle';
    if (this.waiting === 0) return;
    const again = Math.min(this.#heard, AGAIN);
    const samples = new Int16Array(again + this.#to - this.#from);
    for (let i = 0; i < again; i++) samples[i] = this.#again[(this.#heard - again + i) % AGAIN] * 32768;
    for (let i = again; this.#from < this.#to; i++) samples[i] = this.#line[this.#from++] * 32768;
    if (this.#head) this.#head.samples = this.#head.samples.subarray(this.#taken);
    this.#head = { samples, next: this.#head };
    this.#tail ??= this.#head;
    this.#from = this.#to = MOST_LAG;
    this.#taken = this.#heard = 0;
    this.waiting += again;
    this.#wait(now);
    this.#floor = now - this.played - AHEAD; // as if this were the reply's beginning: the pause is not made up for
    this.#note(now - this.played, now);
  }

  /** Forgets what waits, and fades out. */
  flush() {
    this.#fadeOut();
    if (this.state !== 'ending') this.state = 'idle';
    this.#head = this.#tail = null;
    this.arrived -= this.waiting;
    this.#taken = this.waiting = 0;
    this.#from = this.#to = MOST_LAG;
    this.open = false;
  }

  /** What is heard next, silence included. */
  take(out, count, now) {
    if (this.state === 'waiting') this.#start(now);
    if (this.state === 'playing') this.#adapt(now);
    let known = 0; // of `out`, in `past`
    for (let i = 0; i < count; i++) {
      if (this.state === 'playing' && !this.#fill(1)) {
        this.#remember(out.subarray(known, i));
        known = i;
        this.#ranOut();
      }
      out[i] = this.state === 'playing' ? this.#next() : this.#patched();
    }
    this.#remember(out.subarray(known, count));
    this.#low = Math.min(this.#low, this.waiting);
  }

  /** What was known of delays is about another stretch of sound. */
  #wait(now) {
    this.state = 'waiting';
    this.#since = now;
    this.#leasts = [];
    this.#least = Infinity;
  }

  #start(now) {
    const { spare, waiting } = this;
    const waited = now - this.#since;
    const enough = START + spare;
    if (waiting >= enough || waited >= enough || (waiting >= START && waited >= spare)) this.#play(now);
  }

  #play(now) {
    this.state = 'playing';
    this.#fade = 0;
    this.#lowBefore = this.#low = 0;
    this.#lowEnds = now + LOWEST;
  }

  #next() {
    const sample = this.#line[this.#from++];
    this.#again[this.#heard++ % AGAIN] = sample;
    this.waiting--;
    if (this.#fade === FADE) return sample;
    const share = ++this.#fade / FADE;
    return sample * share + this.#patched() * (1 - share);
  }

  #patched() {
    if (this.#at < this.#end) return this.#patch[this.#at++];
    if (this.state === 'bridging') this.state = 'dry';
    if (this.state === 'ending') this.state = 'idle';
    return 0;
  }

  #fill(count) {
    if (this.#to - this.#from >= count) return true;
    if (this.#from > MOST_LAG) {
      this.#line.copyWithin(MOST_LAG, this.#from, this.#to);
      this.#to -= this.#from - MOST_LAG;
      this.#from = MOST_LAG;
    }
    while (this.#head && this.#to - this.#from < LOOK) {
      const { samples } = this.#head;
      const n = Math.min(samples.length - this.#taken, LOOK - (this.#to - this.#from));
      for (let i = 0; i < n; i++) this.#line[this.#to++] = samples[this.#taken++] / 32768;
      if (this.#taken < samples.length) break;
      this.#head = this.#head.next;
      this.#taken = 0;
      if (!this.#head) this.#tail = null;
    }
    return this.#to - this.#from >= count;
  }

  #note(delay, now) {
    if (now >= this.#spanEnds) {
      if (this.#least < Infinity) this.#closeSpan();
      this.#spanEnds = now + SPAN;
      this.#least = Infinity;
      this.#late = 0;
    }
    this.#least = Math.min(this.#least, delay);
    this.#late = Math.max(this.#late, delay - Math.max(this.#floor, this.#best()));
  }

  #closeSpan() {
    this.#lates.push(this.#late);
    this.#leasts.push(this.#least);
    if (this.#lates.length > SPANS) this.#lates.shift();
    if (this.#leasts.length > SPANS) this.#leasts.shift();
    const best = this.#best();
    // Down by a thousandth at most, as no clock differs by more.
    if (best >= this.#floor) this.#floor = Math.max(best - AHEAD, this.#floor - SPAN / 1000);
  }

  #best() {
    return Math.min(this.#least, ...this.#leasts);
  }

  /** It comes faster than it is spoken. */
  get #ahead() {
    return this.#best() < this.#floor;
  }

  /** @returns {number} samples by which the player is too far behind; below zero: too near */
  #excess(now) {
    const behind = now - this.played - this.spare;
    if (!this.#ahead) return behind - this.#best();
    return Math.max(0, behind - this.#floor - AHEAD - PAUSE); // only what was missing is made up for
  }

  #adapt(now) {
    if (now >= this.#lowEnds) {
      this.#lowBefore = this.#low;
      this.#low = this.waiting;
      this.#lowEnds = now + LOWEST;
    }
    if (now < this.#rest) return;
    const excess = this.#excess(now);
    const most = Math.min(MOST_LAG, Math.min(excess, this.#low, this.#lowBefore) - NEAR);
    if (most >= LEAST_LAG) this.#change(most, now, excess, (lag) => this.#leaveOut(lag));
    else if (excess < 0) this.#change(MOST_LAG, now, -excess, (lag) => this.#repeat(lag));
  }

  #change(most, now, excess, change) {
    const some = Math.min(LOOK, this.waiting);
    const longest = Math.min(most, some / 2, some - WINDOW);
    if (longest < LEAST_LAG || !this.#fill(some)) return;
    const { lag, alike, quiet } = period(this.#line, this.#from, longest, 1);
    this.#tries++;
    this.#rest = now + 10 * MS;
    if (!quiet && alike < ALIKE && this.#tries < 10) return;
    this.#tries = 0;
    change(quiet ? Math.floor(longest) : lag);
    this.#rest = now + (quiet ? 2 * MOST_LAG : excess > 100 * MS ? 40 * MS : 80 * MS);
  }

  #leaveOut(lag) {
    for (let i = 0; i < lag; i++) {
      const share = (i + 0.5) / lag;
      const at = this.#from + i;
      this.#line[at + lag] = this.#line[at] * (1 - share) + this.#line[at + lag] * share;
    }
    this.#from += lag;
    this.waiting -= lag;
    this.#low -= lag;
    this.#lowBefore -= lag;
  }

  #repeat(lag) {
    this.#line.copyWithin(this.#from - lag, this.#from, this.#from + lag);
    for (let i = 0; i < lag; i++) {
      const share = (i + 0.5) / lag;
      const at = this.#from + i;
      this.#line[at] = this.#line[at + lag] * (1 - share) + this.#line[at] * share;
    }
    this.#from -= lag;
    this.waiting += lag;
  }

  #remember(samples) {
    const news = samples.length > LOOK ? samples.subarray(samples.length - LOOK) : samples;
    this.#past.copyWithin(0, news.length);
    this.#past.set(news, LOOK - news.length);
  }

  #ranOut() {
    this.#at = 0;
    const over = this.#overtaken && this.#ahead; // what is left of such a reply comes at once
    if (this.open && !over) return this.#bridge();
    this.state = 'ending';
    this.#end = FADE;
    for (let i = 0; i < FADE; i++) this.#patch[i] = this.#past[LOOK - 1 - i] * (1 - (i + 1) / FADE); // mirrored: no step
  }

  #bridge() {
    this.state = 'bridging';
    this.#end = BRIDGE;
    const { lag } = period(this.#past, LOOK - 1, MOST_LAG, -1);
    const step = this.#past[LOOK - 1] - this.#past[LOOK - 1 - lag];
    for (let i = 0; i < BRIDGE; i++) {
      const mend = step * Math.max(0, 1 - i / FADE);
      this.#patch[i] = (this.#past[LOOK - lag + (i % lag)] + mend) * bridged(i);
    }
  }

  #fadeOut() {
    if (this.state === 'playing') {
      this.#at = this.#end = 0;
      while (this.#end < FADE && this.#fill(1)) this.#patch[this.#end++] = this.#next();
    }
    if (this.sounding) this.#fadePatch();
  }

  #fadePatch() {
    this.state = 'ending';
    this.#end = Math.min(this.#end, this.#at + FADE);
    const n = this.#end - this.#at;
    for (let i = 0; i < n; i++) this.#patch[this.#at + i] *= 1 - (i + 1) / n;
  }
}

function bridged(i) {
  if (i < HELD) return 1 - (0.4 * i) / HELD;
  return (0.6 * (BRIDGE - i)) / (BRIDGE - HELD);
}

/** The distance at which a sound is most like itself. @param {1|-1} way from `at`: on, or back */
function period(samples, at, most, way) {
  let own = 0;
  for (let i = 0; i < WINDOW; i += 2) own += samples[at + way * i] ** 2;
  const best = { lag: LEAST_LAG, alike: -1, quiet: own < (WINDOW / 2) * QUIET ** 2 };
  if (best.quiet && way > 0) return best;
  for (let lag = LEAST_LAG; lag <= most; lag++) {
    let both = 0;
    let other = 0;
    for (let i = 0; i < WINDOW; i += 2) {
      const sample = samples[at + way * (i + lag)];
      both += samples[at + way * i] * sample;
      other += sample * sample;
    }
    const alike = both / (Math.sqrt(own * other) || 1);
    if (alike > best.alike) [best.lag, best.alike] = [lag, alike];
  }
  return best;
}

globalThis.JitterBuffer = JitterBuffer;
