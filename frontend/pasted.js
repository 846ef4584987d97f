// The access token in what somebody typed or pasted: the token itself, a pairing link, or the message around either. Why
// there may be several readings: docs/architecture.md, "The page".

const MOST = 4; // readings: after five wrong tokens the daemon makes everybody at this address wait
const MOST_PIECES = 3; // of a broken link
const LENGTH = [16, 256]; // of a token, as the daemon has it
// A token that the daemon has made is known by its form, so it has one reading.
const MADE = /(?:[2-9a-hjkmnp-z]{4}-){6}[2-9a-hjkmnp-z]{4}/;

const NAME = 't\\s*o\\s*k\\s*e\\s*n\\s*'; // a line may break anywhere
const BEHIND_HASH = new RegExp(`#\\s*(?:[^#]*&\\s*)?${NAME}=`, 'i');
const ANYWHERE = new RegExp(`${NAME}=`, 'i');
const ENCODED = new RegExp(`${NAME}%(?:25)*3d`, 'i'); // a link within a link, as mail programs guard them
const IN_LINK = /^[\w.~%+/=@-]*/; // `+/=@` only if somebody has written the link by hand
const BY_HAND = /^[^\s"'<>“”‘’«»|]*/;

const PAIRS = ['""', "''", '``', '<>', '“”', '„“', '‘’', '«»', '()', '[]'];

/** @param {string} typed
 *  @returns {string[]} the readings, the likeliest first; none if there is no token in it */
export function tokensIn(typed) {
  const text = plain(typed);
  const found = inLink(text);
  return found.length > 0 ? found : chosen(bare(text));
}

/** @param {string} typed @returns {string[]} the same, but only behind `token=` */
export function tokensInLink(typed) {
  return inLink(plain(typed));
}

/** Without what nobody sees, and with the letters that typing programs put in the place of plain ones. */
function plain(typed) {
  return typed.replace(/\p{Cf}/gu, '').normalize('NFKC').replace(/[\u2010-\u2015\u2212]/g, '-').trim();
}

function inLink(text) {
  let whole = text;
  for (let depth = 0; depth < 3 && ENCODED.test(whole); depth++) whole = decoded(whole);
  const found = BEHIND_HASH.exec(whole) ?? ANYWHERE.exec(whole);
  if (!found) return [];
  const pieces = whole.slice(found.index + found[0].length).trim().split(/\s+/);
  const made = MADE.exec(pieces.join(''));
  if (made?.index === 0) return [made[0]];
  const readings = [];
  for (let count = 1; count <= Math.min(MOST_PIECES, pieces.length); count++) {
    const joined = pieces.slice(0, count).join('');
    const [link] = IN_LINK.exec(joined);
    readings.push(decoded(link.replace(/\.+$/, '')));
    if (link !== joined) break; // it ends within this piece
  }
  readings.push(decoded(BY_HAND.exec(pieces[0])[0]));
  return chosen(readings);
}

/** Without a link. */
function bare(text) {
  const words = text.split(/\s+/);
  const joined = words.join('');
  const made = MADE.exec(joined);
  if (made) return [made[0]];
  const long = words.map(unquoted).filter(isToken);
  const ends = long.map((word) => word.replace(/[.,;:!?]+$/, ''));
  return words.length > 1 ? [...ends, ...long, joined] : [unquoted(joined), joined, ...ends];
}

function chosen(readings) {
  const visible = readings.filter((text) => /^[\x21-\x7e]+$/.test(text)); // others cannot be a token, nor leave in a header
  const fit = visible.filter(isToken);
  return [...new Set(fit.length > 0 ? fit : visible)].slice(0, MOST);
}

function isToken({ length }) {
  return length >= LENGTH[0] && length <= LENGTH[1];
}

function unquoted(text) {
  const quoted = text.length > 2 && PAIRS.includes(text[0] + text.at(-1));
  return quoted ? text.slice(1, -1) : text;
}

/** What cannot be decoded stays as it is. */
function decoded(text) {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return escaped;
    }
  });
}
