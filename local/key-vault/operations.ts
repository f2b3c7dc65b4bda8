import { certificateOperations } from './certificates.ts';
import { keyCryptoOperations } from './key-crypto.ts';
import { randomOperations } from './key-random.ts';
import { keyReleaseOperations } from './key-release.ts';
import { keyRotationOperations } from './key-rotation.ts';
import { keyOperations } from './keys.ts';
import type { Operation } from './operation.ts';
import { secretOperations } from './secrets.ts';

/** Everything the data plane can do. */
export const operations: readonly Operation[] = [
  ...secretOperations,
  ...keyOperations,
  ...keyCryptoOperations,
  ...keyRotationOperations,
  ...keyReleaseOperations,
  ...randomOperations,
  ...certificateOperations,
];
