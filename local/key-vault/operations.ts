import { certificateOperations } from './certificates.ts';
import { keyOperations } from './keys.ts';
import type { Operation } from './operation.ts';
import { secretOperations } from './secrets.ts';

/** Everything the data plane can do. */
export const operations: readonly Operation[] = [
  ...secretOperations,
  ...keyOperations,
  ...certificateOperations,
];
