import type { Operation } from './operation.ts';
import { secretOperations } from './secrets.ts';

/** Everything the data plane can do; an object type adds a line. */
export const operations: readonly Operation[] = [...secretOperations];
