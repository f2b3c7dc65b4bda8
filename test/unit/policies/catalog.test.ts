import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  type HandlerRules,
  type RawDocument,
  readCatalog,
} from '../../../src/core/policies/catalog.ts';

const database: HandlerRules = {
  targetSettings: z.strictObject({ host: z.string().min(1, 'write a host') }),
  check: (policy) => (policy.value.shape === 'raw' ? [] : ['value: must be raw here']),
};
const handlers = new Map<string, HandlerRules>([
  ['database', database],
  ['queue', { ...database, check: () => [] }],
  ['generated', { targetSettings: null, check: () => [] }],
]);

const policyBody = {
  id: 'orders',
  covers: [{ vault: 'main', type: 'secret', name: 'orders-db' }],
  handler: 'database',
  target: 'orders',
  schedule: { validFor: 'P90D', leadTime: 'P30D' },
  grace: 'P1D',
};
const targetBody = {
  id: 'orders',
  handler: 'database',
  objects: [{ vault: 'main', type: 'secret', name: 'orders-db' }],
  admin: { vault: 'main', name: 'db-admin', username: 'admin' },
  settings: { host: 'db' },
};

function read(given: {
  readonly policies?: readonly object[];
  readonly targets?: readonly unknown[];
}) {
  const raw = (kind: string, bodies: readonly unknown[]): RawDocument[] =>
    bodies.map((body, index) => ({ where: `${kind}-${index}.json`, body }));
  const documents = {
    policies: raw('policy', given.policies ?? [policyBody]),
    targets: raw('target', given.targets ?? [targetBody]),
  };
  return readCatalog(documents, handlers);
}
const policy = (changes: object) => ({ ...policyBody, ...changes });
const target = (changes: object) => ({ ...targetBody, ...changes });

describe('the catalog', () => {
  it('holds what is in order', () => {
    const catalog = read({});
    expect(catalog.faults).toEqual([]);
    expect(catalog.policies.map(({ id }) => id)).toEqual(['orders']);
    expect([...catalog.targets.keys()]).toEqual(['orders']);
  });

  it.each([
    [
      'an unknown handler',
      { policies: [policy({ handler: 'oracle' })] },
      /^policy-0\.json: handler: oracle is unknown.*known: database, queue, generated/,
    ],
    [
      'an unknown target',
      { policies: [policy({ target: 'nowhere' })] },
      /^policy-0\.json: target: there is no target nowhere/,
    ],
    [
      'no target where one is needed',
      { policies: [policy({ target: null })] },
      /^policy-0\.json: target: name the target/,
    ],
    [
      'a target where none is taken',
      { policies: [policy({ handler: 'generated' })] },
      /^policy-0\.json: target: generated takes none/,
    ],
    [
      'the target of another handler',
      { policies: [policy({ handler: 'queue' })] },
      /^policy-0\.json: target: orders belongs to handler database/,
    ],
    [
      'what its handler does not like',
      { policies: [policy({ value: { shape: 'json', template: { p: '{{password}}' } } })] },
      /^policy-0\.json: value: must be raw/,
    ],
    [
      'the admin secret of a target',
      { policies: [policy({ covers: [{ vault: 'main', type: 'secret', name: 'db-*' }] })] },
      /^policy-0\.json: covers: includes db-admin, the admin secret of a target \(target-0\.json\)/,
    ],
  ])('leaves out a policy with %s', (_what, given, fault) => {
    const catalog = read(given);
    expect(catalog.policies).toEqual([]);
    expect(catalog.faults).toEqual([expect.stringMatching(fault)]);
  });

  it.each([
    [
      'a handler that takes no targets',
      target({ handler: 'generated' }),
      /^target-0\.json: handler: generated is unknown or has no target/,
    ],
    [
      'settings its handler does not know',
      target({ settings: { host: '', port: 1 } }),
      /^target-0\.json: settings: host: write a host/,
    ],
    ['nothing in it', null, /^target-0\.json: /],
  ])('leaves out a target with %s, and the policy that needs it', (_what, body, fault) => {
    const catalog = read({ targets: [body] });
    expect(catalog.targets.size).toBe(0);
    expect(catalog.policies).toEqual([]);
    expect(catalog.faults[0]).toMatch(fault);
    expect(catalog.faults.at(-1)).toBe('policy-0.json: target: there is no target orders');
  });

  it('protects an admin secret also when its target is at fault', () => {
    const greedy = policy({
      handler: 'generated',
      target: null,
      covers: [{ vault: 'main', type: 'secret', name: '*' }],
    });
    for (const broken of [{ settings: {} }, { handler: 'oracle' }, { id: '!' }, { objects: [] }]) {
      const catalog = read({ policies: [greedy], targets: [target(broken)] });
      expect(catalog.policies).toEqual([]);
      expect(catalog.faults.some((fault) => fault.includes('db-admin'))).toBe(true);
    }
  });

  it('keeps the first of two documents with one id, and tells of the second', () => {
    const catalog = read({
      policies: [policyBody, policyBody],
      targets: [targetBody, target({ settings: { host: 'elsewhere' } })],
    });
    expect(catalog.policies).toHaveLength(1);
    expect(catalog.targets.get('orders')?.settings).toEqual({ host: 'db' });
    expect(catalog.faults).toEqual([
      'target-1.json: id: orders is taken already',
      'policy-1.json: id: orders is taken already',
    ]);
  });

  it('is not brought down by a document made to', () => {
    const bomb = JSON.parse('{"length":{"toString":null,"valueOf":null}}');
    const catalog = read({
      policies: [policy({ covers: bomb }), policyBody],
      targets: [target({ objects: bomb }), target({ settings: { host: bomb } }), targetBody],
    });
    expect(catalog.policies).toHaveLength(1);
    expect(catalog.faults).toEqual([
      'target-0.json: cannot be read as a document',
      'target-1.json: settings: cannot be read as a document',
      'policy-0.json: cannot be read as a document',
    ]);
  });

  it('tells every fault of every document at once', () => {
    const catalog = read({
      policies: [policy({ id: 'A', grace: 'x' }), policy({ handler: 'oracle' })],
      targets: [target({ objects: [] }), target({ settings: {} })],
    });
    const told = catalog.faults.map((fault) => fault.split(': ').slice(0, 2).join(': '));
    expect(told).toEqual(
      expect.arrayContaining([
        'target-0.json: objects',
        'target-1.json: settings',
        'policy-0.json: id',
        'policy-0.json: grace',
        'policy-1.json: handler',
      ]),
    );
  });
});
