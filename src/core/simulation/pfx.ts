import type { KeyObject } from 'node:crypto';
import { context, encode, integer, octetString, oid, sequence } from './der.ts';

// PKCS #12 (RFC 7292) as the secret of a certificate holds it. The password would be empty, so nothing is encrypted
// and there is no MAC: what is in memory needs neither.

const data = '1.2.840.113549.1.7.1';
const keyBag = '1.2.840.113549.1.12.10.1.1';
const certificateBag = '1.2.840.113549.1.12.10.1.3';
const x509 = '1.2.840.113549.1.9.22.1';

/** @param key null when it is not to be shown */
export function writePfx(chain: readonly Uint8Array[], key: KeyObject | null): Buffer {
  const certificates = chain.map((der) =>
    bag(certificateBag, sequence(oid(x509), encode(context(0), octetString(der)))),
  );
  const keys = key === null ? [] : [bag(keyBag, key.export({ type: 'pkcs8', format: 'der' }))];
  const contents = sequence(...certificates, ...keys);
  const safe = sequence(dataOf(contents));
  return sequence(integer(3), dataOf(safe));
}

function dataOf(content: Uint8Array): Buffer {
  return sequence(oid(data), encode(context(0), octetString(content)));
}

function bag(id: string, value: Uint8Array): Buffer {
  return sequence(oid(id), encode(context(0), value));
}
