// Soft tones when a call begins, ends or is lost, and on phones a short shake beside them. They are for ears only: the
// call sends no microphone while one sounds (Call.deafen). A context of their own, since they sound after a call too.

/** Hertz of the notes. */
const NOTES = { begin: [523, 784], end: [784, 523], lost: [330, 330] };
const SHAKES = { begin: [25], end: [25, 60, 25], lost: [150] };
const NOTE_SECONDS = 0.09;
const LOUD = 0.07;
/** How long a tone can be heard, in ms. */
export const TONE_MS = 280;
const REST_MS = 1500; // after it the context rests: an open one keeps a phone's sound busy

let context;
let rest = 0;

/** Call the first one in a click: a context made elsewhere may stay silent. @param {'begin'|'end'|'lost'} name */
export function sound(name) {
  if (navigator.userActivation?.hasBeenActive !== false) navigator.vibrate?.(SHAKES[name]); // else it complains
  try {
    context ??= new AudioContext();
    context.resume().catch(() => {});
    for (const [at, hertz] of NOTES[name].entries()) play(hertz, context.currentTime + 0.02 + at * NOTE_SECONDS);
  } catch {
    return; // no sound at all: the call says so itself
  }
  clearTimeout(rest);
  rest = setTimeout(() => context.suspend().catch(() => {}), REST_MS);
}

function play(hertz, at) {
  const voice = new OscillatorNode(context, { frequency: hertz });
  const gain = new GainNode(context, { gain: 0 });
  voice.connect(gain).connect(context.destination);
  gain.gain.setTargetAtTime(LOUD, at, 0.01); // without clicks
  gain.gain.setTargetAtTime(0, at + NOTE_SECONDS, 0.03);
  voice.start(at);
  voice.stop(at + NOTE_SECONDS + 0.2);
}
