import {
  AttributeTypeAndValue,
  AttributeValue,
  Name,
  RelativeDistinguishedName,
} from '@peculiar/asn1-x509';

// Names as the service reads and writes them: as Windows does, that is RFC 4514's order (the last written is the first
// encoded), its own short names (`S` for the state) and quotation marks around what would need an escape.

/** The first name is the one that is written; all are understood, in any case. */
const attributeTypes: readonly (readonly [oid: string, ...names: string[]])[] = [
  ['2.5.4.3', 'CN', 'COMMONNAME'],
  ['2.5.4.4', 'SN', 'SURNAME'],
  ['2.5.4.5', 'SERIALNUMBER'],
  ['2.5.4.6', 'C', 'COUNTRY'],
  ['2.5.4.7', 'L', 'LOCALITY'],
  ['2.5.4.8', 'S', 'ST', 'STATE'],
  ['2.5.4.9', 'STREET'],
  ['2.5.4.10', 'O', 'ORGANIZATION'],
  ['2.5.4.11', 'OU', 'ORGANIZATIONALUNIT'],
  ['2.5.4.12', 'T', 'TITLE'],
  ['2.5.4.13', 'DESCRIPTION'],
  ['2.5.4.42', 'G', 'GN', 'GIVENNAME'],
  ['2.5.4.43', 'I', 'INITIALS'],
  ['2.5.4.17', 'POSTALCODE'],
  ['1.2.840.113549.1.9.1', 'E', 'EMAIL', 'EMAILADDRESS'],
  ['0.9.2342.19200300.100.1.25', 'DC', 'DOMAINCOMPONENT'],
  ['0.9.2342.19200300.100.1.1', 'UID', 'USERID'],
];
const oids = new Map(attributeTypes.flatMap(([oid, ...names]) => names.map((name) => [name, oid])));
const shortNames = new Map(attributeTypes.map(([oid, name]) => [oid, name]));

const emailOid = '1.2.840.113549.1.9.1';
const domainOid = '0.9.2342.19200300.100.1.25';
const countryOid = '2.5.4.6';

type Token = { readonly type: string; readonly value: string; readonly isLastOfSet: boolean };

/** @returns `null` for what is no X.500 name; the empty name for an empty text */
export function parseX500Name(text: string): Name | null {
  const tokens = text.trim() === '' ? [] : tokensOf(text);
  if (tokens === null) return null;
  const sets: AttributeTypeAndValue[][] = [[]];
  for (const { type, value, isLastOfSet } of tokens) {
    const attribute = attributeOf(type, value);
    if (attribute === null) return null;
    sets.at(-1)?.push(attribute);
    if (isLastOfSet) sets.push([]);
  }
  const used = sets.filter((set) => set.length > 0);
  return new Name(used.reverse().map((set) => new RelativeDistinguishedName(set)));
}

export function formatX500Name(name: Name): string {
  return [...name]
    .reverse()
    .map((set) => [...set].map(({ type, value }) => formatAttribute(type, value)).join(' + '))
    .join(', ');
}

/** Reads one `TYPE=value` after the other; one position of the text is looked at once. */
function tokensOf(text: string): Token[] | null {
  const tokens: Token[] = [];
  let rest = text;
  while (rest !== '') {
    const type = /^\s*([A-Za-z][A-Za-z0-9-]*|(?:[Oo][Ii][Dd]\.)?\d+(?:\.\d+)+)\s*=\s*/.exec(rest);
    if (type === null) return null;
    const value = valueAt(rest.slice(type[0].length));
    if (value === null) return null;
    const separator = value.rest.slice(0, 1);
    tokens.push({ type: type[1] ?? '', value: value.text, isLastOfSet: separator !== '+' });
    rest = value.rest.slice(1);
    if (separator !== '' && rest.trim() === '') return null;
  }
  return tokens;
}

/** The value in front of the next separator: quoted (a doubled quotation mark is one), or with RFC 4514's escapes. */
function valueAt(text: string): { readonly text: string; readonly rest: string } | null {
  const quoted = /^"((?:[^"\\]|""|\\[\s\S])*)"\s*(?=[,;+]|$)/.exec(text);
  if (quoted !== null) {
    const inner = (quoted[1] ?? '').replaceAll('""', '"');
    return { text: unescaped(inner), rest: text.slice(quoted[0].length) };
  }
  const plain = /^((?:[^,;+"\\<>]|\\[\s\S])*)(?=[,;+]|$)/.exec(text);
  if (plain === null) return null;
  // A blank at the end counts when it is escaped.
  const trimmed = (plain[1] ?? '').replace(/(?<!\\) +$/, '');
  return { text: unescaped(trimmed), rest: text.slice(plain[0].length) };
}

/** `\2C` and `\,`; several hexadecimal pairs are the bytes of one UTF-8 text. */
function unescaped(text: string): string {
  return text.replace(/(?:\\[0-9a-fA-F]{2})+|\\([\s\S])/g, (escaped, character?: string) =>
    character === undefined
      ? Buffer.from(escaped.replaceAll('\\', ''), 'hex').toString('utf8')
      : character,
  );
}

function attributeOf(type: string, value: string): AttributeTypeAndValue | null {
  const name = type.toUpperCase();
  const oid = /^(OID\.)?\d/.test(name) ? name.replace('OID.', '') : oids.get(name);
  if (oid === undefined || value === '' || !isOid(oid)) return null;
  if (oid === countryOid && !/^[A-Za-z]{2}$/.test(value)) return null;
  return new AttributeTypeAndValue({ type: oid, value: new AttributeValue(stringOf(oid, value)) });
}

function stringOf(oid: string, value: string): Partial<AttributeValue> {
  const isAscii = /^[\x20-\x7e]*$/.test(value);
  if ((oid === emailOid || oid === domainOid) && isAscii) return { ia5String: value };
  return /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(value)
    ? { printableString: value }
    : { utf8String: value };
}

export function isOid(text: string): boolean {
  return /^(?:[01]\.[1-3]?\d|2\.\d{1,9})(?:\.(?:0|[1-9]\d{0,15}))*$/.test(text);
}

function formatAttribute(type: string, value: AttributeValue): string {
  const text = value.anyValue
    ? `#${Buffer.from(value.anyValue).toString('hex')}`
    : value.toString();
  const needsQuotes = /[,+="<>#;\n]|^ | $|^$/.test(text) && value.anyValue === undefined;
  const written = needsQuotes ? `"${text.replaceAll('"', '""')}"` : text;
  return `${shortNames.get(type) ?? `OID.${type}`}=${written}`;
}
