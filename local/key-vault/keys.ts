import type { Operation } from './operation.ts';
import type { StoredObject, Version } from './store.ts';

export type KeyVersion = Version;
export type Key = StoredObject<KeyVersion>;

export const keyOperations: readonly Operation[] = [];
