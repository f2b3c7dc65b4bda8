import { elementsIn, encode, oid, readOid, sequence, tags } from './der.ts';

// Subjects as policies write them: `CN=example.org, O="Example, Inc."`. The last written is the first encoded.

/** The first name is the one that is written; all are understood, in any case. */
const attributeTypes: readonly (readonly [oid: string, ...names: string[]])[] = [
  ['2.5.4.3', 'CN'],
  ['2.5.4.5', 'SERIALNUMBER'],
  ['2.5.4.6', 'C'],
  ['2.5.4.7', 'L'],
  ['2.5.4.8', 'S', 'ST'],
  ['2.5.4.9', 'STREET'],
  ['2.5.4.10', 'O'],
  ['2.5.4.11', 'OU'],
  ['2.5.4.17', 'POSTALCODE'],
  ['1.2.840.113549.1.9.1', 'E', 'EMAIL', 'EMAILADDRESS'],
  ['0.9.2342.19200300.100.1.25', 'DC'],
  ['0.9.2342.19200300.100.1.1', 'UID'],
];
const oids = new Map(attributeTypes.flatMap(([id, ...names]) => names.map((name) => [name, id])));
const shortNames = new Map(attributeTypes.map(([id, name]) => [id, name]));
const asciiOnly = [oids.get('E'), oids.get('DC')];

/** `TYPE=value`: quoted with doubled quotation marks inside, or with backslashes before what would end it. */
const part =
  /\s*([A-Za-z]+|(?:OID\.)?\d+(?:\.\d+)+)\s*=\s*(?:"((?:[^"]|"")*)"|((?:[^,;+"\\]|\\.)*?))\s*([,;+]|$)/iy;

/** DER of the name; null for what is none. The empty text is the empty name. */
export function encodeName(text: string): Buffer | null {
  const sets: Buffer[][] = [[]];
  part.lastIndex = 0;
  while (text.trim() !== '') {
    const [, type = '', quoted, plain = '', separator] = part.exec(text) ?? [];
    const value = quoted?.replaceAll('""', '"') ?? plain.replaceAll(/\\(.)/g, '$1');
    const attribute = encodeAttribute(type.toUpperCase(), value);
    if (attribute === null) return null;
    sets.at(-1)?.push(attribute);
    if (separator === '') break;
    if (separator !== '+') sets.push([]);
  }
  return sequence(...sets.reverse().flatMap((set) => (set.length > 0 ? [encodeSet(set)] : [])));
}

function encodeSet(attributes: Buffer[]): Buffer {
  return encode(tags.set, ...attributes.sort(Buffer.compare));
}

function encodeAttribute(type: string, value: string): Buffer | null {
  const id = /\d/.test(type) ? type.replace('OID.', '') : oids.get(type);
  if (id === undefined || value === '') return null;
  return sequence(oid(id), encode(stringTag(id, value), Buffer.from(value)));
}

function stringTag(id: string, value: string): number {
  if (asciiOnly.includes(id) && /^[\x20-\x7e]*$/.test(value)) return tags.ia5String;
  return /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(value) ? tags.printableString : tags.utf8String;
}

/** @param content of the SEQUENCE */
export function formatName(content: Buffer): string {
  const sets = elementsIn(content).map((set) =>
    elementsIn(set.content).map(({ content: attribute }) => formatAttribute(attribute)),
  );
  return sets
    .reverse()
    .map((attributes) => attributes.join(' + '))
    .join(', ');
}

function formatAttribute(content: Buffer): string {
  const [type, value] = elementsIn(content);
  const id = readOid(type?.content ?? Buffer.alloc(0));
  const text = value?.content.toString('utf8') ?? '';
  const written = /[,+="<>#;\\\n]|^\s|\s$|^$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  return `${shortNames.get(id) ?? `OID.${id}`}=${written}`;
}
