import { describe, expect, it } from 'vitest';
import type { Fence } from '../../../src/core/rotation/handler.ts';
import { handlers } from '../../../src/core/rotation/handlers/index.ts';
import { SecretString } from '../../../src/core/secret-string.ts';

const free: Fence = { hold: async () => 60_000, guard: () => undefined };

describe('the registry of handlers', () => {
  it('knows each by its own id', () => {
    expect([...handlers.keys()]).toEqual(['generated', 'postgresql']);
    for (const [id, handler] of handlers) expect(handler.id).toBe(id);
  });
});

describe('a generated value', () => {
  it('has no target: nothing to reach, to change, to retire or to restore', async () => {
    const generated = handlers.get('generated');
    if (!generated) throw new Error('there is no handler generated');
    const context = {
      settings: null,
      admin: () => Promise.reject(new Error('nobody has an admin here')),
    };
    const value = { username: null, password: new SecretString('x') };
    expect(generated.targetSettings).toBeNull();
    expect(generated.resources(null)).toEqual([]);
    expect(generated.nextLogin(null, 'anybody')).toBeNull();
    await generated.preflight(context, null);
    await generated.apply(context, value, free);
    await generated.retire(context, null, free);
    await generated.restore(context, value, free);
    expect(await generated.verify(context, value)).toBe(true);
  });
});
