import { describe, expect, it } from 'vitest';
import { allows, type Role, roles } from '../../../src/core/auth/roles.ts';

function opened(...held: string[]): Role[] {
  const caller = { subject: 's', appId: null, objectId: null, roles: held };
  return roles.filter((role) => allows(caller, role));
}

describe('allows', () => {
  it.each<[string[], Role[]]>([
    [[], []],
    [['Keyturn.Rotations.Read'], ['Keyturn.Rotations.Read']],
    [['Keyturn.Rotations.Operate'], ['Keyturn.Rotations.Read', 'Keyturn.Rotations.Operate']],
    [['Keyturn.Health.Read'], ['Keyturn.Health.Read']],
    [['keyturn.health.read', 'Keyturn', 'constructor', '__proto__', 'public'], []],
  ])('opens with %j just %j', (held, expected) => expect(opened(...held)).toEqual(expected));
});
