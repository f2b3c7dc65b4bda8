import type { Authority } from './certificate-authority.ts';
import type { Contact } from './certificate-contacts.ts';
import type { Issuer } from './certificate-issuers.ts';

/** What a vault keeps for its certificates as a whole. */
export type CertificateSettings = {
  readonly issuers: Issuer[];
  contacts: readonly Contact[];
  /** Stands in for the providers of all issuers; made when it is first needed. */
  authority: Authority | null;
};

export function noCertificateSettings(): CertificateSettings {
  return { issuers: [], contacts: [], authority: null };
}
