import { testIn } from './test.mjs';

await testIn('Firefox', 1);
