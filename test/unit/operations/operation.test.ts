import { describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import type { Caller } from '../../../src/core/auth/tokens.ts';
import { operations } from '../../../src/core/operations/index.ts';
import {
  type CallContext,
  operation,
  routeParameters,
} from '../../../src/core/operations/operation.ts';

function defined(id: string, route: string, params = z.object({})) {
  return operation({
    id,
    summary: 'x',
    method: 'GET',
    route,
    allow: 'public',
    audit: 'none',
    params,
    returns: z.null(),
    errors: [],
    run: async () => null,
  });
}

describe('operation', () => {
  it.each(['', 'Start', '1x', 'a b', 'a/b', 'host', 'x'.repeat(129)])('refuses the id %j', (id) => {
    expect(() => defined(id, 'x')).toThrow('operation id');
  });

  it.each(['/x', 'x/', 'admin/x', 'Runtime', 'administrators'])('refuses the route %j', (route) => {
    expect(() => defined('x', route)).toThrow(`route ${route}`);
  });

  it('refuses parameters that are not those of the route', () => {
    const id = z.object({ id: z.string() });
    expect(() => defined('x', 'x', id)).toThrow('with its parameters');
    expect(() => defined('x', 'x/{id}')).toThrow('with its parameters');
    expect(() => defined('x', 'x/{name}', id)).toThrow('with its parameters');
    expect(defined('x', 'x/{id:guid}', id).route).toBe('x/{id:guid}');
  });

  it('reads the names of a route', () => {
    expect(routeParameters('a/{b}/c/{d:length(2,4)}/{e?}/{*rest}')).toEqual([
      'b',
      'd',
      'e',
      'rest',
    ]);
  });

  it('knows the types of what its schemas read, and of who calls', () => {
    operation({
      id: 'typed',
      summary: 'x',
      method: 'PUT',
      route: 'x/{id}',
      allow: 'Keyturn.Health.Read',
      audit: 'none',
      params: z.object({ id: z.string() }),
      query: z.object({ limit: z.coerce.number().optional() }),
      body: z.strictObject({ on: z.iso.datetime().transform((text) => new Date(text)) }),
      returns: z.object({ n: z.number() }),
      errors: [],
      run: async (input, { services, caller }: CallContext<{ readonly n: number }>) => {
        expectTypeOf(input.params).toEqualTypeOf<{ id: string }>();
        expectTypeOf(input.query).toEqualTypeOf<{ limit?: number | undefined }>();
        expectTypeOf(input.body).toEqualTypeOf<{ on: Date }>();
        expectTypeOf(caller).toEqualTypeOf<Caller>();
        return { n: services.n };
      },
    });
    operation({
      id: 'typed-public',
      summary: 'x',
      method: 'GET',
      route: 'x',
      allow: 'public',
      audit: 'none',
      returns: z.null(),
      errors: [],
      run: async (input, { caller }) => {
        expectTypeOf(caller).toEqualTypeOf<null>();
        expectTypeOf(input.body).toEqualTypeOf<undefined>();
        return null;
      },
    });
  });
});

describe('operations', () => {
  it('have names and places of their own', () => {
    const names = operations.map(({ id }) => id);
    const places = operations.map(({ method, route }) => `${method} ${route.toLowerCase()}`);
    expect(names.length).toBeGreaterThan(0);
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(places).size).toBe(places.length);
  });

  it('are open to anyone only where that is meant', () => {
    const open = operations.filter(({ allow }) => allow === 'public').map(({ id }) => id);
    expect(open).toEqual(['health']);
  });
});
