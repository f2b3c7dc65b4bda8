import type { IncomingMessage } from 'node:http';
import type { AuditRows } from './audit.ts';
import type { Caller } from './caller.ts';
import type { ChallengeStyle } from './challenges.ts';
import type { VaultError } from './errors.ts';
import type { Fault, FaultRules } from './faults.ts';
import type { Change } from './operation.ts';
import type { Revocations } from './revocations.ts';
import type { Route, Router } from './router.ts';
import type { Throttle } from './throttling.ts';
import type { TokenCheck } from './token-check.ts';
import type { Vault } from './vault.ts';

/** What all vaults of an emulator answer with. */
export type Service = {
  readonly router: Router;
  readonly tenantId: string;
  readonly challenges: { style: ChallengeStyle };
  readonly checkToken: TokenCheck;
  readonly revocations: Revocations;
  readonly throttle: Throttle;
  readonly faults: FaultRules;
  readonly audit: AuditRows;
  /** Without a change: something of the vault as a whole. */
  readonly changed: (vault: Vault, change?: Change) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
};

/** One port of one vault. */
export type DataPlane = {
  readonly service: Service;
  /** Tells the port's URL as its own. */
  readonly vault: Vault;
};

/** A request on its way through the gates, and what they found out. */
export type Exchange = {
  readonly plane: DataPlane;
  readonly request: IncomingMessage;
  readonly requestId: string;
  /** Milliseconds of the system's own count. */
  readonly startedAt: number;
  readonly path: string;
  readonly query: URLSearchParams;
  body: string;
  caller: Caller | null;
  clientAddress: string;
  isAddressAuthorized: boolean;
  route: Route | null;
  /** The role assignment that allowed the call; `null` when access is not controlled. */
  assignmentId: string | null;
  isAllowed: boolean;
  fault: Fault | null;
  /** The version that the answer is about. */
  version: string | null;
  refusal: VaultError | null;
};

export type Reply = {
  readonly status: number;
  /** Absent: no content. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** For so long the body trickles. */
  readonly slowBodyMs?: number;
};

/** `reset` closes the connection, `hang` never answers. */
export type Outcome = Reply | 'reset' | 'hang';

/** One thing a request has to pass. @returns what answers it here and now; `null` lets it pass. @throws VaultError */
export type Gate = (exchange: Exchange) => Outcome | null | Promise<Outcome | null>;

export function refused(error: VaultError): Reply {
  return { status: error.status, body: error.body(), headers: error.headers };
}

/** @throws Error when the gates stand in the wrong order */
export function routeOf({ route }: Exchange): Route {
  if (route === null) throw new Error('no route was found yet');
  return route;
}

/** @throws Error when the gates stand in the wrong order */
export function callerOf({ caller }: Exchange): Caller {
  if (caller === null) throw new Error('no token was checked yet');
  return caller;
}

/** As the service's messages name a vault. */
export function placeOf({ name, location }: Pick<Vault, 'name' | 'location'>): string {
  return `Vault: ${name};location=${location}`;
}
