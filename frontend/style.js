// The style. As style sheets in index.html they would hold back all that is painted, however slow the network is. The page
// is hidden until they are there, or cannot be had.

function add({ href }) {
  const sheet = Object.assign(document.createElement('link'), { rel: 'stylesheet', href });
  document.head.append(sheet);
  return new Promise((resolve) => (sheet.onload = sheet.onerror = resolve));
}

const sheets = [...document.querySelectorAll('[as=style]')].map(add); // fetched already

/** The page is shown. */
export const styled = Promise.all(sheets).then(() => (document.documentElement.hidden = false));
