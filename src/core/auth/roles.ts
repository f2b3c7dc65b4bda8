import type { Caller } from './tokens.ts';

/** The application roles that tokens may carry; a token's other roles mean nothing here. */
export const roles = [
  'Keyturn.Rotations.Read',
  'Keyturn.Rotations.Operate',
  'Keyturn.Health.Read',
] as const;

export type Role = (typeof roles)[number];

/** What each role opens. Who may start and cancel rotations may also see them; nothing else is implied. */
const opens: { readonly [R in Role]: readonly Role[] } = {
  'Keyturn.Rotations.Read': ['Keyturn.Rotations.Read'],
  'Keyturn.Rotations.Operate': ['Keyturn.Rotations.Operate', 'Keyturn.Rotations.Read'],
  'Keyturn.Health.Read': ['Keyturn.Health.Read'],
};

/** True when one of the caller's roles opens what `role` guards. */
export function allows(caller: Caller, role: Role): boolean {
  return roles.some((held) => caller.roles.includes(held) && opens[held].includes(role));
}
