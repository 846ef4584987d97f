// The page's own modules in Node. Node takes a .js file for a module only where a package.json says so, and the
// page has none: so the tests import a copy that has one.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voicelived-page-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
fs.cpSync(fileURLToPath(new URL('../../frontend/', import.meta.url)), folder, { recursive: true });
fs.writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');

/** @param {string} name of a file in `frontend/` @returns {Promise<object>} what it exports */
export function page(name) {
  return import(pathToFileURL(path.join(folder, name)).href);
}
