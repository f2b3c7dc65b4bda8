/** A secret to look for, by a name for people. */
export interface Canary {
  readonly name: string;
  readonly value: string;
}

/** A place where something could have been left behind. */
export interface Sink {
  readonly name: string;
  read(): Promise<Buffer> | Buffer;
}

/** Spellings of a text as it may stand in other text. */
const textForms: Readonly<Record<string, (text: string) => string>> = {
  'as it is': (text) => text,
  'escaped for JSON': escapeJson,
  'escaped for JSON twice': (text) => escapeJson(escapeJson(text)),
  'escaped for JSON in ASCII': (text) => toAscii(escapeJson(text)),
  'escaped for JSON in ASCII twice': (text) => escapeJson(toAscii(escapeJson(text))),
  'escaped for JSON thrice, in ASCII': (text) => escapeJson(toAscii(escapeJson(escapeJson(text)))),
  'escaped for JSON twice, in ASCII': (text) => toAscii(escapeJson(escapeJson(text))),
  'escaped for URLs': encodeURIComponent,
  'escaped for URLs, lower case': (text) =>
    encodeURIComponent(text).replace(/%../g, (byte) => byte.toLowerCase()),
  'escaped for forms': (text) => new URLSearchParams([['', text]]).toString().slice(1),
};

function escapeJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function toAscii(text: string): string {
  return text.replace(
    /[^ -~]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Spellings of bytes; for base64 one for each place in a group of three at which they may begin. */
const byteForms: Readonly<Record<string, (bytes: Buffer) => string | Buffer>> = {
  plain: (bytes) => bytes,
  'UTF-16': (bytes) => Buffer.from(bytes.toString('utf8'), 'utf16le'),
  hex: (bytes) => bytes.toString('hex'),
  HEX: (bytes) => bytes.toString('hex').toUpperCase(),
  'base64 at 0': (bytes) => certainBase64(bytes, 0),
  'base64 at 1': (bytes) => certainBase64(bytes, 1),
  'base64 at 2': (bytes) => certainBase64(bytes, 2),
  'base64url at 0': (bytes) => toUrlAlphabet(certainBase64(bytes, 0)),
  'base64url at 1': (bytes) => toUrlAlphabet(certainBase64(bytes, 1)),
  'base64url at 2': (bytes) => toUrlAlphabet(certainBase64(bytes, 2)),
};

/** Those characters of the encoding that do not depend on what stands before and after the bytes. */
function certainBase64(bytes: Buffer, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64');
  const first = Math.ceil((offset * 8) / 6);
  const end = Math.floor(((offset + bytes.length) * 8) / 6);
  return text.slice(first, end);
}

function toUrlAlphabet(base64: string): string {
  return base64.replaceAll('+', '-').replaceAll('/', '_');
}

/** A message may have been cut: of long values both ends are looked for as well. */
const endLength = 24;

function partsOf(value: string): readonly string[] {
  if (value.length <= endLength * 2) return [value];
  return [value, value.slice(0, endLength), value.slice(-endLength)];
}

interface Needle {
  readonly how: string;
  readonly bytes: Buffer;
}

function needlesOf(value: string): readonly Needle[] {
  const needles = new Map<string, Needle>();
  for (const part of partsOf(value)) {
    for (const [textForm, spell] of Object.entries(textForms)) {
      for (const [byteForm, encode] of Object.entries(byteForms)) {
        const encoded = encode(Buffer.from(spell(part)));
        const bytes = typeof encoded === 'string' ? Buffer.from(encoded) : encoded;
        const key = bytes.toString('latin1');
        if (!needles.has(key)) needles.set(key, { how: `${byteForm}, ${textForm}`, bytes });
      }
    }
  }
  return [...needles.values()];
}

/** One line for each canary that `bytes` hold in any spelling. */
export function findCanaries(canaries: readonly Canary[], bytes: Buffer): readonly string[] {
  return canaries.flatMap(({ name, value }) => {
    if (value.length < 12) throw new Error(`${name} is too short to be a canary`);
    const found = needlesOf(value).find((needle) => bytes.includes(needle.bytes));
    return found ? [`${name} (${found.how})`] : [];
  });
}

/** Ways in which a leak may spell a text, made without the forms above: what the search is tried on. */
export const disguises: Readonly<Record<string, (text: string) => string>> = {
  raw: (text) => text,
  'base64 after 0 bytes': (text) => Buffer.from(`${text}!`).toString('base64'),
  'base64 after 1 byte': (text) => Buffer.from(`x${text}!`).toString('base64'),
  'base64 after 2 bytes': (text) => Buffer.from(`xy${text}!`).toString('base64'),
  'base64url after 0 bytes': (text) => Buffer.from(`${text}!`).toString('base64url'),
  'base64url after 1 byte': (text) => Buffer.from(`x${text}!`).toString('base64url'),
  'base64url after 2 bytes': (text) => Buffer.from(`xy${text}!`).toString('base64url'),
  hex: (text) => Buffer.from(`x${text}`).toString('hex'),
  'upper-case hex': (text) => Buffer.from(`x${text}`).toString('hex').toUpperCase(),
  URL: (text) => `?p=${encodeURIComponent(text)}`,
  form: (text) => new URLSearchParams({ p: text }).toString(),
  JSON: (text) => JSON.stringify({ p: text }),
};
