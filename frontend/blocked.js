// What to do when the microphone is blocked: for this page, or for the whole browser by the system.
//
// Browsers tell the two apart in different ways, or not at all. Chrome and Edge say "Permission denied by system".
// Firefox and Safari use one sentence for both. But where the page has its permission, it must be the system. In a
// frame, the page around it has a word in it too.

import { join, say } from './language.js';

/** @returns {string} the key of the words for this one */
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
  return say(system());
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
    return join(say('blockedBySystem'), place);
  }
  if (globalThis.top !== globalThis.self) return framedWords();
  return /platform/i.test(said) ? join(siteWords(), say('ifAllowed'), place) : siteWords();
}

function siteWords() {
  return join(say('blockedHere'), say('allowHere'));
}

/** In a frame. Some browsers tell whether the page around it is what keeps the microphone from this one. */
function framedWords() {
  const policy = document.permissionsPolicy ?? document.featurePolicy;
  if (policy?.allowsFeature('microphone')) return siteWords();
  return join(policy ? say('blockedHere') : siteWords(), say('framed'));
}

/** Whether the page has the permission, as far as the browser tells. */
async function allowed() {
  const found = await navigator.permissions?.query({ name: 'microphone' }).catch(() => null);
  return found?.state === 'granted';
}
