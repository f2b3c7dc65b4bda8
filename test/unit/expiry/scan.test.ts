import { describe, expect, it } from 'vitest';
import { scanSecrets } from '../../../src/core/expiry/scan.ts';
import { Policy } from '../../../src/core/policies/policy.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { simulatedVaults } from '../../../src/core/simulation/vault.ts';

const now = new Date('2026-03-01T00:00:00Z');
const inDays = (days: number) => new Date(now.getTime() + days * 86_400_000);

function policy(id: string, name: string, changes: object = {}) {
  return Policy.parse({
    id,
    covers: [{ vault: 'main', type: 'secret', name }],
    handler: 'generated',
    schedule: { validFor: 'P90D', leadTime: 'P30D' },
    grace: 'P1D',
    ...changes,
  });
}

function world() {
  const clock = { now: () => now };
  const vaults = simulatedVaults(
    [
      { alias: 'broken', purpose: 'main' },
      { alias: 'main', purpose: 'main' },
      { alias: 'pending', purpose: 'pending' },
      { alias: 'copy', purpose: 'replica' },
    ],
    clock,
  );
  const errors: string[] = [];
  const log = {
    info: () => undefined,
    warn: () => undefined,
    error: (event: string) => void errors.push(event),
  };
  const store = async (name: string, days: number | null, tags: Record<string, string> = {}) => {
    const expiresOn = days === null ? null : inDays(days);
    for (const alias of ['main', 'pending', 'copy']) {
      await vaults.get(alias).secrets.set(name, { value: new SecretString('v'), expiresOn, tags });
    }
  };
  const scanAll = (policies: readonly Policy[]) =>
    Array.fromAsync(scanSecrets({ vaults, policies, clock, log }));
  const scan = async (policies: readonly Policy[]) =>
    (await scanAll(policies)).filter(({ isDue }) => isDue).map(({ ref }) => ref.name);
  return { vaults, errors, store, scan, scanAll };
}

describe('the scan', () => {
  it('finds what expires within the lead time of its policy, in main vaults alone', async () => {
    const { store, scan, scanAll } = world();
    await store('soon', 29);
    await store('gone', -5);
    await store('later', 31);
    await store('never', null);
    expect(await scan([policy('all', '*')])).toEqual(['gone', 'soon']);
    const [found] = await scanAll([policy('all', '*')]);
    expect(found?.ref).toEqual({ vault: 'main', type: 'secret', name: 'gone' });
  });

  it('tells which rotation wrote what, due or not', async () => {
    const { store, scanAll } = world();
    await store('by-hand', 1);
    await store('rotated', 90, { rotationId: 'r1' });
    const found = (await scanAll([policy('all', '*')])).map(({ ref, isDue, rotationId }) => [
      ref.name,
      isDue,
      rotationId,
    ]);
    expect(found).toEqual([
      ['by-hand', true, null],
      ['rotated', false, 'r1'],
    ]);
  });

  it('passes over what no policy lists, several do, or a paused one does', async () => {
    const { store, scan } = world();
    await store('alone', 1);
    await store('both', 1);
    await store('tagged', 1, { policy: 'b' });
    await store('paused', 1);
    const policies = [
      policy('a', 'b*'),
      policy('b', 'both'),
      policy('a2', 't*'),
      policy('b', 'tagged'),
      policy('p', 'paused', { paused: true }),
    ];
    expect(await scan(policies)).toEqual(['tagged']);
  });

  it('passes over what is disabled or belongs to a certificate', async () => {
    const { store, scan, vaults } = world();
    await store('disabled', 1);
    await store('managed', 1);
    vaults.change('main', 'disabled', { enabled: false });
    vaults.change('main', 'managed', { managed: true });
    expect(await scan([policy('all', '*')])).toEqual([]);
  });

  it('reads no value and asks once per 25 secrets', async () => {
    const { store, scan, vaults } = world();
    for (let i = 0; i < 60; i++) await store(`s-${i}`, 1);
    const before = vaults.accesses.length;
    expect(await scan([policy('all', '*')])).toHaveLength(60);
    const made = vaults.accesses.slice(before);
    expect(new Set(made.map(({ operation }) => operation))).toEqual(new Set(['list']));
    expect(made.filter(({ vault }) => vault === 'main')).toHaveLength(3);
  });

  it('goes on with the next vault when one does not answer, and says so', async () => {
    const { store, scan, vaults, errors } = world();
    await store('soon', 1);
    vaults.onCall(async ({ vault }, run) => {
      if (vault === 'broken') throw new Error('down');
      await run();
    });
    expect(await scan([policy('all', '*')])).toEqual(['soon']);
    expect(errors).toEqual(['scan.vault_failed']);
  });
});
