import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createClock } from '../../local/key-vault/clock.ts';
import { nextDue, watchExpiry } from '../../local/key-vault/expiry-watch.ts';
import type { Version } from '../../local/key-vault/store.ts';
import { createVault, type Vault } from '../../local/key-vault/vault.ts';

const daySeconds = 86_400;
const start = Date.parse('2027-01-01T00:00:00Z');
const startSeconds = start / 1000;
const real = { leadSeconds: 30 * daySeconds, delaySeconds: 900 };

function aVersion(expiresInSeconds: number, over: Partial<Version> = {}): Version {
  return {
    version: '0'.repeat(32),
    enabled: true,
    created: startSeconds,
    updated: startSeconds,
    exp: startSeconds + expiresInSeconds,
    ...over,
  };
}

function aVault(): Vault {
  return createVault({
    name: 'main',
    retentionDays: 90,
    purgeProtection: false,
    location: 'local',
    subscriptionId: 'here',
    geography: 'local',
  });
}

describe('nextDue', () => {
  it.each([
    ['30 days before the end', 90 * daySeconds, 60 * daySeconds],
    ['after the delay when the end is nearer', 10 * daySeconds, 900],
    ['at the end when even the delay is too long', 60, 60],
  ])('is near expiry %s', (_, expiresIn, at) => {
    const due = nextDue(aVersion(expiresIn), real);
    expect(due).toEqual({ kind: 'near-expiry', at: start + at * 1000 });
  });

  it('is expiry at the end', () => {
    const due = nextDue(aVersion(60, { announced: ['near-expiry'] }), real);
    expect(due).toEqual({ kind: 'expired', at: start + 60_000 });
  });

  it('is nothing for what never expires or was announced in full', () => {
    const { exp: _, ...endless } = aVersion(0);
    expect(nextDue(endless, real)).toBeNull();
    expect(nextDue(aVersion(60, { announced: ['near-expiry', 'expired'] }), real)).toBeNull();
  });
});

describe('watchExpiry', () => {
  beforeEach(() => vi.useFakeTimers({ now: start }));
  afterEach(() => vi.useRealTimers());

  it('waits longer than a timer can, and announces each event once', () => {
    const announced: [string, number][] = [];
    const watch = watchExpiry(createClock(), real, (kind) => {
      announced.push([kind, (Date.now() - start) / 1000 / daySeconds]);
    });
    const vault = aVault();
    const object = vault.secrets.put({
      name: 'slow',
      versions: [{ ...aVersion(120 * daySeconds), value: 'v' }],
    });
    watch.watch({ vault, type: 'Secret', object });
    vi.advanceTimersByTime(365 * daySeconds * 1000);
    expect(announced).toEqual([
      ['near-expiry', 90],
      ['expired', 120],
    ]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('forgets what is no longer live, and everything when stopped', () => {
    const announce = vi.fn();
    const clock = createClock();
    const watch = watchExpiry(clock, real, announce);
    const vault = aVault();
    const object = vault.secrets.put({
      name: 'gone',
      versions: [{ ...aVersion(60), value: 'v' }],
    });
    watch.watch({ vault, type: 'Secret', object });
    expect(vi.getTimerCount()).toBe(1);
    const deleted = vault.secrets.delete(object, startSeconds, 90);
    watch.watch({ vault, type: 'Secret', object });
    expect(vi.getTimerCount()).toBe(0);
    watch.watch({ vault, type: 'Secret', object: vault.secrets.recover(deleted) });
    expect(vi.getTimerCount()).toBe(1);
    clock.stop();
    expect(vi.getTimerCount()).toBe(0);
    expect(announce).not.toHaveBeenCalled();
  });
});
