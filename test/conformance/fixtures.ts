import type { Fixture } from './fixture.ts';
import { postgres } from './postgres-fixture.ts';

const noTarget: Fixture = { name: 'no target', start: null };

/** What each handler is tried at, by its id; one entry at least for every registered handler. */
export const fixtures: Readonly<Record<string, readonly Fixture[]>> = {
  generated: [noTarget],
  postgresql: [postgres.oneLogin, postgres.twoLogins],
};
