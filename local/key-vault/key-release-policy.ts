import { z } from 'zod';
import { base64urlToBytes } from './base64url.ts';
import { errors } from './errors.ts';
import type { KeyMaterial } from './key-material.ts';
import { isHsm } from './key-material.ts';
import type { KeyVersion } from './keys.ts';

// Under which conditions an exportable key may be released, and to whom.

/** As requests and answers have it; `data` is a policy document, as JSON in base64url. */
export type ReleasePolicy = {
  readonly contentType: string;
  readonly data: string;
  readonly immutable: boolean;
};

export const ReleasePolicyInput = z
  .object({
    contentType: z.string().max(255).nullish(),
    data: z.string().nullish(),
    immutable: z.boolean().nullish(),
  })
  .nullish();
type ReleasePolicyInput = z.output<typeof ReleasePolicyInput>;

export type PolicyDocument = {
  readonly version: string;
  readonly anyOf: readonly (Group & { readonly authority: string })[];
};
type Group = { readonly anyOf: readonly Condition[] } | { readonly allOf: readonly Condition[] };
type Condition = Group | ClaimTest;

const comparisons = [
  'equals',
  'notEquals',
  'less',
  'lessOrEquals',
  'greater',
  'greaterOrEquals',
  'exists',
] as const;
const Text = z.string().min(1).max(1024);
const Scalar = z.union([z.string(), z.number(), z.boolean()]);
type Scalar = z.output<typeof Scalar>;
const Wanted = Scalar.optional();
const ClaimTest = z.object({
  claim: Text,
  equals: Wanted,
  notEquals: Wanted,
  less: Wanted,
  lessOrEquals: Wanted,
  greater: Wanted,
  greaterOrEquals: Wanted,
  exists: Wanted,
});
type ClaimTest = z.output<typeof ClaimTest>;
const defaultContentType = 'application/json; charset=utf-8';
const maxDepth = 10;

type Wish = {
  readonly exportable: boolean | null | undefined;
  readonly policy: ReleasePolicyInput;
  readonly kty: KeyMaterial['kty'];
};

/**
 * Whether a new version may leave the vault, and how. What the request does not say is as in the earlier version.
 *
 * @throws VaultError 400 for terms that contradict each other, or the earlier version
 */
export function releaseTerms(
  { exportable, policy, kty }: Wish,
  earlier: KeyVersion | null,
): Pick<KeyVersion, 'exportable' | 'releasePolicy'> {
  const was = earlier?.exportable ?? false;
  const isExportable = exportable ?? was;
  if (earlier !== null && isExportable !== was) {
    throw errors.badParameter(
      'AKV.SKR.1003: The exportable attribute of an existing key cannot be changed.',
    );
  }
  if (!isExportable) {
    if (policy) throw nonExportable();
    return {};
  }
  if (!isHsm({ kty })) {
    throw errors.badParameter('AKV.SKR.1006: Exportable keys must be protected by an HSM.');
  }
  const releasePolicy = policy ? releasePolicyFrom(policy) : earlier?.releasePolicy;
  if (releasePolicy === undefined) {
    throw errors.badParameter('AKV.SKR.1004: Exportable keys must have release policy.');
  }
  return { exportable: true, releasePolicy };
}

/** The policy that a PATCH sets; `null` when it says nothing of it. @throws VaultError 400 */
export function changedReleasePolicy(
  input: ReleasePolicyInput,
  version: KeyVersion,
  versionInPath: string,
): ReleasePolicy | null {
  if (!input) return null;
  if (!version.exportable) throw nonExportable();
  if (version.releasePolicy?.immutable) {
    throw errors.badParameter('AKV.SKR.1020: Immutable Key Release Policy cannot be modified.');
  }
  if (versionInPath !== '') {
    throw errors.badParameter(
      'AKV.SKR.1016: Key Release Policy can only be set on versionless key',
    );
  }
  return releasePolicyFrom(input);
}

export function documentOf({ data }: ReleasePolicy): PolicyDocument {
  // Written by `releasePolicyFrom`.
  return JSON.parse(Buffer.from(data, 'base64url').toString('utf8')) as PolicyDocument;
}

/** Whether an environment with these claims may have the key. */
export function allowsRelease(
  policy: PolicyDocument,
  claims: Readonly<Record<string, unknown>>,
): boolean {
  return policy.anyOf.some((authority) => {
    return sameAuthority(authority.authority, claims['iss']) && holds(authority, claims);
  });
}

function releasePolicyFrom(input: NonNullable<ReleasePolicyInput>): ReleasePolicy {
  const data = base64urlToBytes('data', input.data).toString('utf8');
  const document = JSON.stringify(policyFrom(data));
  return {
    contentType: input.contentType ?? defaultContentType,
    data: Buffer.from(document).toString('base64url'),
    immutable: input.immutable ?? false,
  };
}

const PolicyShape = z.object({
  version: Text,
  anyOf: z.array(z.looseObject({ authority: Text })).min(1),
});
const Groups = z.looseObject({
  anyOf: z.array(z.unknown()).min(1).optional(),
  allOf: z.array(z.unknown()).min(1).optional(),
});

function policyFrom(json: string): PolicyDocument {
  try {
    const { version, anyOf } = PolicyShape.parse(JSON.parse(json));
    return {
      version,
      anyOf: anyOf.map((authority) => ({
        authority: authority.authority,
        ...groupFrom(authority, maxDepth),
      })),
    };
  } catch {
    throw errors.badProperty('release_policy.data');
  }
}

function groupFrom(input: unknown, depth: number): Group {
  if (depth === 0) throw new Error('nested too deeply');
  const { anyOf, allOf } = Groups.parse(input);
  if ((anyOf === undefined) === (allOf === undefined)) throw new Error('one of anyOf and allOf');
  const conditions = (anyOf ?? allOf ?? []).map((condition) => conditionFrom(condition, depth));
  return anyOf === undefined ? { allOf: conditions } : { anyOf: conditions };
}

function conditionFrom(input: unknown, depth: number): Condition {
  const claim = ClaimTest.safeParse(input);
  if (!claim.success) return groupFrom(input, depth - 1);
  const tests = comparisons.filter((name) => claim.data[name] !== undefined);
  if (tests.length !== 1) throw new Error('one comparison a claim');
  return claim.data;
}

function holds(condition: Condition, claims: Readonly<Record<string, unknown>>): boolean {
  if ('anyOf' in condition) return condition.anyOf.some((part) => holds(part, claims));
  if ('allOf' in condition) return condition.allOf.every((part) => holds(part, claims));
  const { claim, ...test } = condition;
  const found = findClaim(claims, claim);
  return comparisons.every((name) => {
    const wanted = test[name];
    return wanted === undefined || compare(name, found, wanted);
  });
}

function compare(name: (typeof comparisons)[number], found: unknown, wanted: Scalar): boolean {
  const exists = found !== undefined;
  // `true` and `"true"` are the same: policies are written with the text, tokens hold the truth value.
  const isEqual = exists && String(found) === String(wanted);
  switch (name) {
    case 'equals':
      return isEqual;
    case 'notEquals':
      return exists && !isEqual;
    case 'less':
      return Number(found) < Number(wanted);
    case 'lessOrEquals':
      return Number(found) <= Number(wanted);
    case 'greater':
      return Number(found) > Number(wanted);
    case 'greaterOrEquals':
      return Number(found) >= Number(wanted);
    case 'exists':
      return exists === (String(wanted) === 'true');
  }
}

/** A claim by its name, or by a path of names with dots between them. */
function findClaim(claims: unknown, path: string): unknown {
  if (typeof claims !== 'object' || claims === null) return undefined;
  if (Object.hasOwn(claims, path)) return (claims as Record<string, unknown>)[path];
  for (let dot = path.indexOf('.'); dot > 0; dot = path.indexOf('.', dot + 1)) {
    const head = path.slice(0, dot);
    if (!Object.hasOwn(claims, head)) continue;
    return findClaim((claims as Record<string, unknown>)[head], path.slice(dot + 1));
  }
  return undefined;
}

function sameAuthority(authority: string, issuer: unknown): boolean {
  const bare = (url: string): string => url.replace(/\/+$/, '').toLowerCase();
  return typeof issuer === 'string' && bare(issuer) === bare(authority);
}

function nonExportable() {
  return errors.badParameter('AKV.SKR.1005: Non-exportable keys must not have release policy.');
}
