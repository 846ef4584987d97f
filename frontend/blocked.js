// What to do when the microphone is blocked: for this page, or for the whole browser by the system.
//
// Browsers tell the two apart in different ways, or not at all. Chrome and Edge say "Permission denied by system".
// Firefox and Safari use one sentence for both. But where the page has its permission, it must be the system. In a
// frame, the page around it has a word in it too.

const PAGE = 'The microphone is blocked for this page. Allow it in the browser’s site settings (the icon beside the address).';

const PLACES = {
  windows:
    'In Windows open Settings, Privacy & security, Microphone. Switch on “Microphone access” and “Let desktop apps access your microphone”.',
  mac: 'On a Mac open System Settings, Privacy & Security, Microphone. Switch on your browser, then quit it and open it again.',
  android:
    'On Android open Settings, Apps, your browser, Permissions, Microphone, and allow it. Check too that “Microphone access” is on in the quick settings.',
  ios: 'On an iPhone or iPad open Settings, Privacy & Security, Microphone, and switch on your browser. For Safari open Settings, Apps, Safari, Microphone.',
  chromeos: 'On a Chromebook open Settings, Privacy and security, Privacy controls, and switch on “Microphone access”.',
  linux:
    'On Linux look in the privacy settings of the desktop (in GNOME: Settings, Privacy, Microphone). If the browser is a Flatpak or a Snap, allow it the microphone there too.',
  other: 'Open the settings of this device, look for privacy or permissions, and allow your browser the microphone.',
};

const FRAME =
  'This page is shown inside another one, which has to pass the microphone on (allow="microphone" on its frame). Ask its owner, or open this page by itself.';

/** @returns {keyof typeof PLACES} */
function system() {
  const named = `${navigator.userAgentData?.platform ?? ''} ${navigator.platform} ${navigator.userAgent}`;
  if (/android|armv81/i.test(named)) return 'android'; // the second: one that asks for pages as a computer does
  // An iPad calls itself a Mac, but no Mac has a touch screen.
  const mac = /\bmac|darwin/i.test(named);
  if (/iphone|ipad|ipod/i.test(named) || (mac && navigator.maxTouchPoints > 1)) return 'ios';
  if (/\bCrOS\b|chrom(e|ium) ?os/i.test(named)) return 'chromeos';
  if (mac) return 'mac';
  if (/\bwin(dows|32|64|\b)/i.test(named)) return 'windows';
  return /linux/i.test(named) && !/tizen|web0s/i.test(named) ? 'linux' : 'other';
}

/** @returns {string} where the system lets a browser use the microphone */
export function placeWords() {
  return PLACES[system()];
}

/** @param {DOMException} error
 *  @returns {boolean} the microphone is there, and may not be used */
export function isBlocked(error) {
  return error.name === 'NotAllowedError' || /denied by (the )?system/i.test(error.message ?? '');
}

/** @param {DOMException} error one of these
 *  @returns {Promise<string>} a few sentences */
export async function blockedWords(error) {
  const place = placeWords();
  const said = error.message ?? '';
  if (/system|operating|\bOS\b/i.test(said) || (await allowed())) {
    return `The microphone is blocked by the system, not by this page. ${place}`;
  }
  if (globalThis.top !== globalThis.self) return framedWords();
  if (/platform/i.test(said)) return `${PAGE} If it is allowed there, the system does not let this browser use it. ${place}`;
  return PAGE;
}

/** In a frame. Some browsers tell whether the page around it is what keeps the microphone from this one. */
function framedWords() {
  const policy = document.permissionsPolicy ?? document.featurePolicy;
  if (policy?.allowsFeature('microphone')) return PAGE;
  return policy ? `The microphone is blocked for this page. ${FRAME}` : `${PAGE} ${FRAME}`;
}

/** Whether the page has the permission, as far as the browser tells. */
async function allowed() {
  const found = await navigator.permissions?.query({ name: 'microphone' }).catch(() => null);
  return found?.state === 'granted';
}
