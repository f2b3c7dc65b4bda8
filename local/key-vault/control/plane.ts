import type { Clock } from '../clock.ts';
import type { VaultEvents } from '../events.ts';
import type { Service } from '../exchange.ts';
import type { State } from '../state.ts';
import type { Switches } from '../switches.ts';
import type { Vault } from '../vault.ts';

/** What the control API works on. */
export type ControlPlane = {
  readonly vaults: readonly Vault[];
  /** URLs of plain http ports by vault name. */
  readonly httpUrls: ReadonlyMap<string, string>;
  /** The switches a vault was started with. */
  readonly initialSwitches: (vault: Vault) => Switches;
  readonly service: Service;
  readonly clock: Clock;
  readonly events: VaultEvents;
  readonly startedAt: Date;
  /** @throws Error that says what is wrong with the state; then nothing is changed */
  readonly loadState: (state: State) => void;
};

export type ControlCall = {
  readonly plane: ControlPlane;
  /** What the path's captures matched; names and ids need no decoding. */
  readonly params: readonly string[];
  readonly query: URLSearchParams;
  /** `undefined` when it is empty or no JSON, which no schema accepts. */
  readonly body: unknown;
};

export type ControlReply = { readonly status: number; readonly body?: unknown };

export type ControlRoute = readonly [
  method: string,
  path: RegExp,
  run: (call: ControlCall) => ControlReply | Promise<ControlReply>,
];

/** A refusal of the control API. */
export class ControlError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** @throws ControlError 404 */
export function vaultNamed(plane: ControlPlane, name = ''): Vault {
  const vault = plane.vaults.find((one) => one.name.toLowerCase() === name.toLowerCase());
  if (vault === undefined) throw new ControlError(404, `There is no vault ${name}.`);
  return vault;
}
