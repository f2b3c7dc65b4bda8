import { expect, it } from 'vitest';
import { handlers } from '../../src/core/rotation/handlers/index.ts';
import { fixtures } from './fixtures.ts';
import { conformance } from './kit.ts';

const chosen = (process.env['CONFORMANCE_HANDLERS'] ?? [...handlers.keys()].join(',')).split(',');

it('has a fixture for every registered handler, and no other', () => {
  expect(Object.keys(fixtures).toSorted()).toEqual([...handlers.keys()].toSorted());
  expect(Object.values(fixtures).filter(({ length }) => length === 0)).toEqual([]);
});

for (const id of chosen) {
  const handler = handlers.get(id);
  it(`${id} is registered under its own id`, () => expect(handler?.id).toBe(id));
  if (handler) for (const fixture of fixtures[id] ?? []) conformance(handler, fixture);
}
