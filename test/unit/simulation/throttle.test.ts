import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/core/clock.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { createThrottle, limitedCalls } from '../../../src/core/simulation/throttle.ts';
import { simulatedVaults } from '../../../src/core/simulation/vault.ts';
import { handClock } from '../vault/support.ts';

describe('the limit of a simulated vault', () => {
  it('answers what the service allows in any 10 s, and no more', async () => {
    const asked = fc.array(
      fc.record({ waitMs: fc.nat({ max: 3_000 }), weight: fc.constantFrom(1, 4, 40 / 3) }),
      { maxLength: 200 },
    );
    await fc.assert(
      fc.asyncProperty(asked, async (requests) => {
        const clock = handClock();
        const throttle = createThrottle(60, clock.now);
        const answered: { at: number; weight: number }[] = [];
        for (const { waitMs, weight } of requests) {
          clock.pass(waitMs);
          const at = clock.now();
          const recent = answered.filter((one) => one.at > at - 10_000);
          const used = recent.reduce((sum, one) => sum + one.weight, 0);
          const isAnswered = throttle.admits('main', weight);
          expect(isAnswered).toBe(used + weight <= 60 + 1e-6);
          if (isAnswered) answered.push({ at, weight });
        }
      }),
    );
  });

  it("is five vaults' worth for all vaults together", () => {
    const throttle = createThrottle(10, () => 0);
    const admitted = Array.from({ length: 60 }, (_, index) => throttle.admits(`v${index % 6}`, 1));
    expect(admitted.filter(Boolean)).toHaveLength(50);
  });

  it('refuses calls to simulated vaults as the service does', async () => {
    const clock = handClock();
    const vaults = simulatedVaults([{ alias: 'main', purpose: 'main' }], systemClock);
    vaults.onCall(limitedCalls(createThrottle(20, clock.now)));
    const { secrets } = vaults.get('main');
    // A set weighs 13.3 reads.
    await secrets.set('orders-db', { value: new SecretString('a value') });
    for (let read = 0; read < 6; read++) await secrets.get('orders-db');
    const refused = expect.objectContaining({ code: 'vault_throttled' });
    await expect(secrets.get('orders-db')).rejects.toEqual(refused);
    clock.pass(10_000);
    await expect(secrets.get('orders-db')).resolves.toBeDefined();
  });
});
