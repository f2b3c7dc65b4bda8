import { isIPv4 } from 'node:net';
import type { CertificatePolicy } from '../vault/certificates.ts';
import { context, elementsIn, encode, oid, readOid, sequence, tags } from './der.ts';

// Subject alternative names (RFC 5280 4.2.1.6).

export type AlternativeNames = Pick<
  CertificatePolicy,
  'dnsNames' | 'emails' | 'userPrincipalNames' | 'uris' | 'ipAddresses'
>;

const emailTag = context(1, 'primitive');
const dnsTag = context(2, 'primitive');
const uriTag = context(6, 'primitive');
const ipTag = context(7, 'primitive');
const otherTag = context(0);
/** Microsoft's name for an account, which RFC 5280 does not know. */
const userPrincipalName = '1.3.6.1.4.1.311.20.2.3';

/** The value of the extension; null when there are no names. */
export function encodeAlternativeNames(names: AlternativeNames): Buffer | null {
  const texts = (tag: number, list: readonly string[]) =>
    list.map((text) => encode(tag, Buffer.from(text)));
  const encoded = [
    ...texts(dnsTag, names.dnsNames),
    ...texts(emailTag, names.emails),
    ...names.userPrincipalNames.map((name) =>
      encode(
        otherTag,
        oid(userPrincipalName),
        encode(context(0), encode(tags.utf8String, Buffer.from(name))),
      ),
    ),
    ...texts(uriTag, names.uris),
    ...names.ipAddresses.map((address) => encode(ipTag, addressBytes(address))),
  ];
  return encoded.length === 0 ? null : sequence(...encoded);
}

/** @param value of the extension; null when there is none */
export function readAlternativeNames(value: Buffer | null): AlternativeNames {
  const names = elementsIn(value ?? sequence()).flatMap(({ content }) => elementsIn(content));
  const texts = (wanted: number) =>
    names.filter(({ tag }) => tag === wanted).map(({ content }) => content.toString('utf8'));
  const others = names.filter(({ tag }) => tag === otherTag);
  return {
    dnsNames: texts(dnsTag),
    emails: texts(emailTag),
    userPrincipalNames: others.flatMap(({ content }) => readPrincipal(content)),
    uris: texts(uriTag),
    ipAddresses: names
      .filter(({ tag }) => tag === ipTag)
      .map(({ content }) => readAddress(content)),
  };
}

function readPrincipal(other: Buffer): string[] {
  const [type, explicit] = elementsIn(other);
  if (readOid(type?.content ?? Buffer.alloc(0)) !== userPrincipalName) return [];
  return elementsIn(explicit?.content ?? Buffer.alloc(0)).map(({ content }) => content.toString());
}

function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  // Without zones, and with an end in IPv4's notation turned into hexadecimal.
  const plain = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = plain.split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':'));
  const known = [groups(head), groups(tail ?? '')] as const;
  const missing = 8 - known[0].length - known[1].length;
  const all = [...known[0], ...Array<string>(missing).fill('0'), ...known[1]];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

function readAddress(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join('.');
  const groups = bytes.toString('hex').match(/.{4}/g) ?? [];
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
