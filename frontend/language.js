// The page's words in the language that the browser prefers. English is always there, and takes the place of what
// cannot be fetched. Each language is one file, `words.NAME.js` (CONTRIBUTING.md, "Add a language").

import english from './words.en.js';

/** The languages besides English, as their files are named. */
export const LANGUAGES = ['de', 'es', 'fr', 'it', 'ja', 'nl', 'pl', 'pt', 'zh'];

// The program embeds a language without its keys, in the order of the English file (build.rs).
const KEYS = Object.keys(english);

// Words of the daemon that the page has one sentence for. The rest of the sentence is the daemon's own, in English.
const SAME = {
  bad_answer: 'service_error',
  bad_request: 'service_error',
  forbidden: 'unauthorized',
  proxy: 'unreachable',
  redirect: 'service_error',
  refused: 'internal',
  service_closed: 'service_lost',
  service_protocol: 'service_error',
  service_trouble: 'service_error',
  session_refused: 'service_error',
  sign_in: 'unauthorized',
  tls: 'unreachable',
};
const QUOTED = ['unauthorized', 'unreachable', 'not_found', 'quota', 'service_lost', 'service_error', 'internal'];
QUOTED.push('response_failed', 'response_incomplete');
// These the page says too, without the daemon.
const OWN = { full: 'busy', stopping: 'stopping', not_ready: 'notSent', not_configured: 'notSetUp' };

let words = english;
let name = 'en';

/** The lookup of RFC 4647, section 3.4: `zh-Hant-TW` asks for `zh-hant-tw`, `zh-hant` and `zh`, in this order.
 *  @param {readonly string[]} wanted what the browser prefers, the best first
 *  @returns {string} the name of a language that there is */
export function chosen(wanted) {
  for (const tag of wanted) {
    for (const parts = tag.toLowerCase().split('-'); parts.length > 0; parts.pop()) {
      const found = parts.join('-');
      if (found === 'en' || LANGUAGES.includes(found)) return found;
    }
  }
  return 'en';
}

/** Fetches the words, and puts them into the page. @param {readonly string[]} [wanted] */
export async function translate(wanted = navigator.languages ?? []) {
  const best = chosen(wanted);
  const file = best === 'en' ? null : await import(`./words.${best}.js`).catch(() => null);
  if (file) use(best, file.default);
  Object.assign(document.documentElement, { lang: name, dir: say('dir') });
  for (const [data, property] of [['say', 'textContent'], ['label', 'ariaLabel'], ['hint', 'placeholder']]) {
    for (const element of document.querySelectorAll(`[data-${data}]`)) element[property] = say(element.dataset[data]);
  }
}

/** @param {string} language @param {Record<string, string>|string[]} given its words, or without their keys */
export function use(language, given) {
  name = language;
  words = Array.isArray(given) ? Object.fromEntries(KEYS.map((key, at) => [key, given[at]])) : given;
}

/** @param {string} key of words.en.js @param {Record<string, string|number>} [values] for what stands in braces there
 *  @returns {string} */
export function say(key, values = {}) {
  return (words[key] ?? english[key]).replace(/\{(\w+)\}/g, (_, value) => values[value]);
}

/** @param {...string} sentences some of which may be empty @returns {string} */
export function join(...sentences) {
  return sentences.filter(Boolean).join(say('gap'));
}

/** A sentence of the daemon in the user's language, by its fixed word. In English, and for a word that the page does not
 *  know, it is the daemon's own.
 *  @param {string|undefined} code @param {string|undefined} message @returns {string|undefined} */
export function sayFor(code, message) {
  if (name === 'en' || !message) return message;
  if (Object.hasOwn(OWN, code)) return say(OWN[code]);
  const key = Object.hasOwn(SAME, code) ? SAME[code] : code;
  const own = Object.hasOwn(words, `$${key}`) ? words[`$${key}`] : '';
  if (!own) return message;
  return QUOTED.includes(key) ? join(own, `“${message}”`) : own;
}

/** @param {number} count @param {'second'|'minute'} unit @returns {string} */
export function sayTime(count, unit) {
  return new Intl.NumberFormat(name, { style: 'unit', unit, unitDisplay: 'long' }).format(count);
}
