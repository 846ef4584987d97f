// Hears, by loudness alone, that the user speaks into a reply: then the reply is played more softly, before the service
// has said anything. It has no clock: each frame of the microphone counts as 20 ms.

const LEAST = 0.03; // -30 dB: what the cancelling of echo leaves over is much softer
const MOST = 0.5;
const SURE_FRAMES = 3;
const LASTS_FRAMES = 25; // 500 ms: a service that hears speech has said so by then

export class Duck {
  #least = LEAST;
  #loud = 0; // frames in a row
  #left = 0; // frames

  /** @param {number} level of this frame, 0 to 1 @param {boolean} playing a reply is heard
   *  @returns {boolean} the reply is to be softer */
  frame(level, playing) {
    this.#loud = playing && level > this.#least ? this.#loud + 1 : 0;
    if (this.#loud >= SURE_FRAMES) this.#left = LASTS_FRAMES;
    // Nobody else has heard anything: it was echo, or the room.
    else if (this.#left > 0 && --this.#left === 0) this.#least = Math.min(MOST, 2 * this.#least);
    return this.#left > 0;
  }

  /** The service hears speech too. */
  confirm() {
    this.#loud = this.#left = 0;
  }
}
