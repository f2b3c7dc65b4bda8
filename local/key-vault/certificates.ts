import type { Operation } from './operation.ts';
import type { StoredObject, Version } from './store.ts';

export type CertificateVersion = Version;
export type Certificate = StoredObject<CertificateVersion>;

export const certificateOperations: readonly Operation[] = [];
