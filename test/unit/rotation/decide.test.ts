import { describe, expect, it } from 'vitest';
import { Policy } from '../../../src/core/policies/policy.ts';
import {
  decide,
  type Situation,
  type SkipReason,
  skipReasons,
} from '../../../src/core/rotation/decide.ts';
import type { SecretProperties } from '../../../src/core/vault/ports.ts';

const now = new Date('2026-03-01T00:00:00Z');
const inDays = (days: number) => new Date(now.getTime() + days * 86_400_000);

const latest: SecretProperties = {
  name: 'orders-db',
  version: 'v2',
  enabled: true,
  created: inDays(-60),
  updated: inDays(-60),
  notBefore: null,
  expiresOn: inDays(29),
  contentType: null,
  tags: {},
  managed: false,
};

const policy = Policy.parse({
  id: 'orders',
  covers: [{ vault: 'main', type: 'secret', name: 'orders-db' }],
  handler: 'generated',
  schedule: { validFor: 'P90D', leadTime: 'P30D', minimumAge: 'P7D' },
  grace: 'P1D',
});

const rollback = { toVersion: 'v1', wanted: { ...latest, version: 'v1' }, grace: null };
const asRollback = { reason: 'rollback' as const };

function situation(changes: {
  readonly request?: Partial<Situation['request']>;
  readonly latest?: Situation['latest'] | Partial<SecretProperties>;
  readonly choice?: Situation['choice'];
  readonly paused?: boolean;
  readonly record?: Partial<Situation['record']>;
  readonly rollback?: Situation['rollback'];
}): Situation {
  const { request, record, paused = false, choice, rollback = null } = changes;
  const given = changes.latest ?? {};
  return {
    request: { reason: 'near-expiry', expectedBaseVersion: null, type: 'secret', ...request },
    now,
    latest: typeof given === 'string' ? given : { ...latest, ...given },
    choice: choice ?? { kind: 'one', policy: { ...policy, paused } },
    record: { active: null, quarantined: false, circuitOpenUntil: null, ...record },
    rollback,
  };
}

/** Each reason with the least that makes it hold, in the order in which they are told. */
const reasons: readonly [SkipReason, Parameters<typeof situation>[0]][] = [
  ['unknown_vault', { latest: 'unknown_vault' }],
  ['unsupported_type', { request: { type: 'key' } }],
  ['object_missing', { latest: 'missing' }],
  ['object_disabled', { latest: 'disabled' }],
  ['managed_by_certificate', { latest: { managed: true } }],
  ['no_policy', { choice: { kind: 'none' } }],
  ['ambiguous_policy', { choice: { kind: 'ambiguous', detail: 'two list it' } }],
  ['policy_paused', { paused: true }],
  ['quarantined', { record: { quarantined: true } }],
  ['in_progress', { record: { active: 'another' } }],
  ['superseded', { request: { expectedBaseVersion: 'v1' } }],
  ['version_missing', { request: asRollback, rollback: { ...rollback, wanted: 'missing' } }],
  ['version_disabled', { request: asRollback, rollback: { ...rollback, wanted: 'disabled' } }],
  ['already_latest', { request: asRollback, rollback: { ...rollback, wanted: latest } }],
  ['circuit_open', { record: { circuitOpenUntil: inDays(1) } }],
  ['minimum_age', { latest: { created: inDays(-6) } }],
  ['not_due', { latest: { expiresOn: inDays(31) } }],
];

describe('decide', () => {
  it.each(reasons)('skips as %s', (reason, changes) => {
    expect(decide(situation(changes))).toMatchObject({ kind: 'skip', reason });
  });

  it('is tested for every reason there is', () => {
    expect(reasons.map(([reason]) => reason)).toEqual(skipReasons);
  });

  it.each(reasons.slice(0, -1).map(([reason, changes], i) => [reason, changes, i] as const))(
    'tells %s before whatever follows it',
    (reason, changes, index) => {
      for (const [, later] of reasons.slice(index + 1)) {
        const both = {
          ...later,
          ...changes,
          request: { ...later.request, ...changes.request },
          record: { ...later.record, ...changes.record },
          latest: merged(changes.latest, later.latest),
        };
        expect(decide(situation(both))).toMatchObject({ kind: 'skip', reason });
      }
    },
  );

  function merged(first: unknown, second: unknown): NonNullable<Situation['latest']> {
    if (typeof first === 'string') return first as Situation['latest'];
    if (typeof second === 'string') {
      // A secret that is missing has no type, policy or age: the two cannot hold together.
      return (first === undefined ? {} : first) as SecretProperties;
    }
    return { ...Object(second), ...Object(first) };
  }

  it.each([
    ['the version expires within the lead time', {}],
    [
      'the version expires this very moment before the lead time',
      { latest: { expiresOn: inDays(30) } },
    ],
    [
      'it has expired',
      { request: { reason: 'expired' as const }, latest: { expiresOn: inDays(-1) } },
    ],
    ['the trigger means the latest version', { request: { expectedBaseVersion: 'v2' } }],
    ['it is exactly old enough', { latest: { created: inDays(-7) } }],
    ['the circuit has closed', { record: { circuitOpenUntil: now } }],
  ])('starts when %s', (_what, changes) => {
    expect(decide(situation(changes))).toEqual({ kind: 'start' });
  });

  it.each([
    ['circuit_open', { record: { circuitOpenUntil: inDays(1) } }],
    ['minimum_age', { latest: { created: inDays(-1) } }],
    ['not_due', { latest: { expiresOn: null } }],
  ])('lets a person go past %s', (reason, changes) => {
    expect(decide(situation(changes))).toMatchObject({ kind: 'skip', reason });
    const asked = { ...changes, request: { reason: 'on-demand' as const } };
    expect(decide(situation(asked))).toEqual({ kind: 'start' });
  });

  it.each([
    ['circuit_open', { record: { circuitOpenUntil: inDays(1) } }],
    ['minimum_age', { latest: { created: inDays(-1) } }],
    ['not_due', { latest: { expiresOn: null } }],
  ])('lets a rollback go past %s', (_reason, changes) => {
    const asked = { ...changes, request: asRollback, rollback };
    expect(decide(situation(asked))).toEqual({ kind: 'start' });
  });

  it.each([
    ['is not the one to roll back', null, 'rotation r1 is under way'],
    [
      'replaced another version',
      { id: 'r1', baseVersion: 'v0' },
      'only version v0 can be gone back to',
    ],
    ['replaced none', { id: 'r1', baseVersion: null }, 'in its grace period'],
  ])('keeps a rollback out while the active rotation %s', (_what, grace, message) => {
    const asked = {
      request: asRollback,
      record: { active: 'r1' },
      rollback: { ...rollback, grace },
    };
    expect(decide(situation(asked))).toMatchObject({
      kind: 'skip',
      reason: 'in_progress',
      message: expect.stringContaining(message),
    });
  });

  it('lets a rollback take the place of the rotation that replaced the version', () => {
    const grace = { id: 'r1', baseVersion: 'v1' };
    const asked = {
      request: asRollback,
      record: { active: 'r1' },
      rollback: { ...rollback, grace },
    };
    expect(decide(situation(asked))).toEqual({ kind: 'start' });
  });

  it('says which policies to choose among', () => {
    const choice = { kind: 'ambiguous', detail: 'a, b' } as const;
    expect(decide(situation({ choice }))).toMatchObject({
      message: expect.stringContaining('a, b'),
    });
  });
});
