import { testIn } from './test.mjs';

await testIn('Chromium', 2);
