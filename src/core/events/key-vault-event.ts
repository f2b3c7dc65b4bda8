import { z } from 'zod';
import type { ObjectType } from '../vault/ports.ts';

const kinds = {
  'microsoft.keyvault.secretnearexpiry': { type: 'secret', fact: 'near-expiry' },
  'microsoft.keyvault.secretexpired': { type: 'secret', fact: 'expired' },
  'microsoft.keyvault.secretnewversioncreated': { type: 'secret', fact: 'new-version' },
  'microsoft.keyvault.keynearexpiry': { type: 'key', fact: 'near-expiry' },
  'microsoft.keyvault.keyexpired': { type: 'key', fact: 'expired' },
  'microsoft.keyvault.keynewversioncreated': { type: 'key', fact: 'new-version' },
  'microsoft.keyvault.certificatenearexpiry': { type: 'certificate', fact: 'near-expiry' },
  'microsoft.keyvault.certificateexpired': { type: 'certificate', fact: 'expired' },
  'microsoft.keyvault.certificatenewversioncreated': { type: 'certificate', fact: 'new-version' },
} as const satisfies Record<string, { type: ObjectType; fact: string }>;

export interface KeyVaultEvent {
  readonly id: string;
  readonly fact: 'near-expiry' | 'expired' | 'new-version';
  /** Origin of the object's id, such as `https://prod.vault.azure.net`. */
  readonly vaultUrl: string;
  readonly type: ObjectType;
  readonly name: string;
  readonly version: string;
  readonly expiresOn: Date | null;
}

export type ParsedEvent =
  | { readonly kind: 'event'; readonly event: KeyVaultEvent }
  | { readonly kind: 'invalid'; readonly faults: readonly string[] };

const namePattern = /^[0-9a-zA-Z-]{1,127}$/;
const versionPattern = /^[0-9a-f]{32}$/i;
// Not `min`: zod compares the length of whatever came, and a crafted object can make that throw.
const text = z.string('is missing or empty').trim().regex(/./su, 'is missing or empty');
const Envelope = z.object({ id: text, type: text, origin: text, subject: text });
const Data = z.object({
  id: z.url({ protocol: /^https$/, error: 'must be the https id of a version' }),
  vaultname: text,
  objecttype: text,
  objectname: text,
  version: text,
  exp: z.union([z.number(), z.string()]).nullish(),
});

/**
 * An Event Grid event of a vault, in Event Grid schema or CloudEvents 1.0. Members of `data` are
 * read without regard to case, numbers may be strings: the service's samples, documents and SDKs
 * disagree. Vault and name are taken from the object's id and must agree with the other members.
 */
export function parseKeyVaultEvent(input: unknown): ParsedEvent {
  const outer = lowerKeys(input);
  const envelope = Envelope.safeParse({
    id: outer['id'],
    type: outer['eventtype'] ?? outer['type'],
    origin: outer['topic'] ?? outer['source'],
    subject: outer['subject'],
  });
  const data = Data.safeParse(lowerKeys(outer['data']));
  if (!envelope.success || !data.success) {
    return { kind: 'invalid', faults: [...faultsOf(envelope), ...faultsOf(data, 'data.')] };
  }
  return assemble(envelope.data, data.data);
}

function assemble(envelope: z.output<typeof Envelope>, data: z.output<typeof Data>): ParsedEvent {
  const known = kindOf(envelope.type);
  if (!known) return invalid(`eventType: ${envelope.type} is not a Key Vault event we know`);
  const url = new URL(data.id);
  const [collection, name, version, ...rest] = url.pathname
    .split('/')
    .filter((part) => part !== '');
  const isId = namePattern.test(name ?? '') && versionPattern.test(version ?? '');
  if (!name || !version || !isId || rest.length > 0 || collection !== `${known.type}s`) {
    return invalid(`data.Id: must be {vault}/${known.type}s/{name}/{version}`);
  }
  const faults = [
    ...disagreement('data.ObjectName', data.objectname, name),
    ...disagreement('data.Version', data.version, version),
    ...disagreement('data.ObjectType', data.objecttype, known.type),
    ...disagreement('subject', envelope.subject, name),
    ...disagreement('topic', envelope.origin.split('/').at(-1) ?? '', data.vaultname),
  ];
  const isAbsent = data.exp === null || data.exp === undefined || data.exp === '';
  const expiresOn = isAbsent ? null : new Date(Number(data.exp) * 1000);
  // A number no date can hold makes an invalid date too.
  if (expiresOn !== null && Number.isNaN(expiresOn.getTime())) {
    faults.push('data.EXP: must be seconds since 1970');
  }
  if (faults.length > 0) return { kind: 'invalid', faults };
  const event = { id: envelope.id, fact: known.fact, type: known.type, expiresOn };
  return { kind: 'event', event: { ...event, vaultUrl: url.origin, name, version } };
}

/** Own members only: a type called `constructor` is not one of ours. */
function kindOf(type: string) {
  const key = type.toLowerCase();
  return Object.hasOwn(kinds, key) ? kinds[key as keyof typeof kinds] : null;
}

function invalid(fault: string): ParsedEvent {
  return { kind: 'invalid', faults: [fault] };
}

function disagreement(field: string, given: string, expected: string): string[] {
  if (given.toLowerCase() === expected.toLowerCase()) return [];
  return [`${field}: does not agree with data.Id`];
}

function lowerKeys(input: unknown): Record<string, unknown> {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return {};
  return Object.fromEntries(
    Object.entries(input).map(([key, value]) => [key.toLowerCase(), value]),
  );
}

function faultsOf(parsed: z.ZodSafeParseResult<unknown>, prefix = ''): string[] {
  if (parsed.success) return [];
  return parsed.error.issues.map((issue) => `${prefix}${issue.path.join('.')}: ${issue.message}`);
}
