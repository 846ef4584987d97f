// Chooses the loudspeaker that plays the reply. Some browsers cannot send the audio context to a loudspeaker, but
// can send an audio element. The price: Firefox does not cancel the echo of an audio element.

const AIMS_CONTEXT = 'AudioContext' in globalThis && 'setSinkId' in AudioContext.prototype;

/** Whether this browser lets the user choose. */
export const canAim = AIMS_CONTEXT || 'setSinkId' in HTMLMediaElement.prototype;

/** Whether the choice costs the echo cancellation. */
export const aimingEchoes = canAim && !AIMS_CONTEXT;

/** @param {AudioContext} context @returns {number} its delay, as far as one may ask: Firefox may freeze over `outputLatency` */
export function outputSeconds(context) {
  return (AIMS_CONTEXT && context.outputLatency) || context.baseLatency || 0;
}

export class Outlet {
  #context;
  #node;
  #element;

  /** @param {AudioContext} context */
  constructor(context) {
    this.#context = context;
  }

  /** @param {AudioNode} node what is heard */
  connect(node) {
    this.#node = node;
    node.connect(this.#element ? this.#element.end : this.#context.destination);
  }

  /** @param {string} id of a loudspeaker, '' for the system's choice; rejects when it cannot be used */
  async use(id) {
    if (AIMS_CONTEXT) return this.#context.setSinkId(id);
    if (id && canAim) return this.#useElement(id);
    this.#element?.audio.pause();
    this.#reroute(null);
  }

  close() {
    this.#element?.audio.pause();
  }

  async #useElement(id) {
    const audio = this.#element?.audio ?? new Audio();
    await audio.setSinkId(id);
    if (this.#element) return;
    const end = this.#context.createMediaStreamDestination();
    audio.srcObject = end.stream;
    this.#reroute({ audio, end });
    await audio.play();
  }

  #reroute(element) {
    this.#element = element;
    this.#node?.disconnect();
    if (this.#node) this.connect(this.#node);
  }
}
