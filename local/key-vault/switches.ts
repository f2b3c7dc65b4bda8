import { z } from 'zod';
import { AccessControl } from './access-control.ts';
import { Firewall } from './firewall.ts';
import { Issuance } from './issuance.ts';
import { Latency } from './latency.ts';
import { Throttling } from './throttling.ts';

const DelaySeconds = z.number().min(0).max(86_400).default(0);

/** Everything about one vault that can be changed while the emulator runs. */
export const Switches = z.strictObject({
  /** Refuses writes, as after a failover to the paired region. */
  readOnly: z.boolean(),
  purgeProtection: z.boolean(),
  /** A backup made under one subscription or geography cannot be restored under another. */
  subscriptionId: z.string().min(1).max(100),
  geography: z.string().min(1).max(100),
  access: AccessControl,
  firewall: Firewall,
  throttling: Throttling,
  latency: Latency,
  /** For so long the deletion, recovery or purge of an object is under way. */
  delays: z.strictObject({
    deleteSeconds: DelaySeconds,
    recoverSeconds: DelaySeconds,
    purgeSeconds: DelaySeconds,
  }),
  issuance: Issuance,
  /** How many empty pages with a link come before every page of a list. */
  emptyPages: z.int().min(0).max(50),
});
export type Switches = z.output<typeof Switches>;

/** Some of the switches; those not named stay as they are. */
export type SwitchChanges = Partial<Switches>;
// JSON knows no undefined.
export const SwitchChanges = Switches.partial().transform((changes) => changes as SwitchChanges);

/** As the service behaves towards a caller who may do everything. */
export const defaultSwitches: Switches = {
  readOnly: false,
  purgeProtection: false,
  subscriptionId: '00000000-0000-0000-0000-000000000000',
  geography: 'local',
  access: { enforced: false, assignments: [] },
  firewall: Firewall.parse({}),
  throttling: Throttling.parse({ enabled: false }),
  latency: { kind: 'none' },
  delays: { deleteSeconds: 0, recoverSeconds: 0, purgeSeconds: 0 },
  issuance: Issuance.parse({}),
  emptyPages: 0,
};

export function switchesOf(holder: Switches): Switches {
  const names = Object.keys(defaultSwitches) as (keyof Switches)[];
  return Object.fromEntries(names.map((name) => [name, holder[name]])) as Switches;
}
