import { z } from 'zod';
import { type ObjectRef, objectId } from '../vault/ports.ts';
import { Consumer } from './consumer.ts';
import { Duration } from './duration.ts';

export const DocumentId = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,62}$/,
    'use 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit',
  );

/** Which objects: an exact name, or a glob in which `*` stands for any run of characters. */
export const Cover = z.strictObject({
  vault: DocumentId,
  type: z.enum(['secret', 'key', 'certificate']),
  name: z.string().regex(/^[0-9a-zA-Z*-]{1,127}$/, 'use the characters of an object name, and *'),
});

export const Generator = z
  .strictObject({
    length: z.int().min(16, 'ask for 16 characters at least').max(256).default(32),
    classes: z
      .array(z.enum(['lower', 'upper', 'digit', 'symbol']))
      .min(1, 'name at least one class')
      .default(['lower', 'upper', 'digit']),
    exclude: z.string().max(64).default(''),
  })
  .prefault({});

/** The text of a version: the secret alone, or JSON whose `{{username}}` and `{{password}}` are filled in. */
const ValueShape = z
  .discriminatedUnion('shape', [
    z.strictObject({ shape: z.literal('raw') }),
    z.strictObject({
      shape: z.literal('json'),
      template: z
        .record(z.string().min(1), z.union([z.string(), z.number(), z.boolean()]))
        .refine((template) => Object.values(template).includes('{{password}}'), {
          message: 'one member must be "{{password}}"',
        }),
    }),
  ])
  .prefault({ shape: 'raw' });

/** The periods of a policy, once each was parsed. */
const Periods = z.object({
  schedule: z.object({ validFor: z.number(), leadTime: z.number() }),
  grace: z.number(),
});

/**
 * A policy document: which objects, by which handler, how often, and who is told. It names a target
 * by id only; hosts and admin secrets lie in target documents, under another role.
 */
export const Policy = z
  .strictObject({
    id: DocumentId,
    covers: z.array(Cover).min(1, 'list at least one object'),
    handler: DocumentId,
    target: DocumentId.nullable().default(null),
    schedule: z.strictObject({
      validFor: Duration,
      leadTime: Duration,
      minimumAge: Duration.prefault('PT0S'),
    }),
    grace: Duration,
    generator: Generator,
    value: ValueShape,
    consumers: z
      .array(Consumer)
      .max(20)
      .refine((list) => new Set(list.map(({ id }) => id)).size === list.length, 'ids must differ')
      .default([]),
    paused: z.boolean().default(false),
  })
  .superRefine(
    ({ schedule, grace }, context) => {
      if (schedule.validFor > schedule.leadTime + grace) return;
      context.addIssue({
        code: 'custom',
        path: ['schedule', 'validFor'],
        message: `must be longer than leadTime plus grace (${schedule.leadTime + grace} s), else every new version is due at birth`,
      });
    },
    // Also when other members are at fault: all faults are told at once.
    { when: ({ value }) => Periods.safeParse(value).success },
  );
export type Policy = z.output<typeof Policy>;
export type ValueShape = Policy['value'];
export type Generator = Policy['generator'];

/** Whether `policy` lists `ref`; names are compared without case, as Key Vault does. */
export function covers(covered: Policy['covers'], ref: ObjectRef): boolean {
  return covered.some(
    (cover) =>
      cover.vault === ref.vault && cover.type === ref.type && matchesGlob(cover.name, ref.name),
  );
}

/** Leftmost fits one after the other: no pattern takes longer than its length times the name's. */
function matchesGlob(glob: string, name: string): boolean {
  const text = name.toLowerCase();
  const [start = '', ...rest] = glob.toLowerCase().split('*');
  const end = rest.pop();
  if (end === undefined) return text === start;
  if (!text.startsWith(start)) return false;
  let at = start.length;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.length - end.length >= at && text.endsWith(end);
}

export type PolicyChoice =
  | { readonly kind: 'one'; readonly policy: Policy }
  | { readonly kind: 'none' }
  | { readonly kind: 'ambiguous'; readonly detail: string };

/** The policy for `ref`. The object's `policy` tag may only choose among those that list it. */
export function choosePolicy(
  policies: readonly Policy[],
  ref: ObjectRef,
  tags: Readonly<Record<string, string>>,
): PolicyChoice {
  const matching = policies.filter((policy) => covers(policy.covers, ref));
  const tagged = matching.find((policy) => policy.id === tags['policy']);
  const [first, second] = matching;
  if (tagged) return { kind: 'one', policy: tagged };
  if (!first) return { kind: 'none' };
  if (!second) return { kind: 'one', policy: first };
  const ids = matching.map((policy) => policy.id).join(', ');
  return { kind: 'ambiguous', detail: `${objectId(ref)} is listed by ${ids}` };
}
