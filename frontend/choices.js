// What the user chose, remembered in this browser. Without storage (private windows) it lasts as long as the page.

const KEY = 'voicelived';
const MODES = ['open', 'half', 'push'];

/** A device; browsers may change `id` from visit to visit, so the name is kept too.
 *  @typedef {{id: string, label: string}} Device */

/** @typedef {{mode: import('./gate.js').Mode, microphone: Device|null, loudspeaker: Device|null, tones: boolean,
 *    assistant: string}} Choices
 *  `null` is the system's choice; an empty name that of the daemon's settings */

/** @returns {Choices} */
export function recall() {
  const kept = read();
  return {
    mode: MODES.includes(kept.mode) ? kept.mode : 'open',
    microphone: device(kept.microphone),
    loudspeaker: device(kept.loudspeaker),
    tones: kept.tones !== false,
    assistant: typeof kept.assistant === 'string' ? kept.assistant : '',
  };
}

/** @param {Choices} choices */
export function remember(choices) {
  try {
    localStorage.setItem(KEY, JSON.stringify(choices));
  } catch {
    // forgotten with the page
  }
}

function read() {
  try {
    return Object(JSON.parse(localStorage.getItem(KEY)));
  } catch {
    return {};
  }
}

function device(kept) {
  const sound = typeof kept?.id === 'string' && typeof kept.label === 'string' && kept.id !== '';
  return sound ? { id: kept.id, label: kept.label } : null;
}
