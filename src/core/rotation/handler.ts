import type { z } from 'zod';
import type { HandlerRules } from '../policies/catalog.ts';
import type { Target } from '../policies/target.ts';
import type { Credential } from './value.ts';

/** How old and new live side by side at the target. */
export type Overlap = 'none' | 'users';

/**
 * Proof that this worker may still act. Take it as late as possible: right before the call that
 * changes something, in the connection that will carry it.
 */
export interface Fence {
  /**
   * Milliseconds for which the effect may still take place, from now. Re-reads the epoch.
   * @throws AppError `lease_lost`
   */
  hold(): Promise<number>;
  /** As `hold` without asking storage: for the instant before bytes leave. @throws `lease_lost` */
  guard(): void;
}

/** What every verb is given. */
export interface HandlerContext<Settings> {
  readonly settings: Settings;
  /** The target's admin credential, read from its vault on each call. @throws `bad_configuration` */
  admin(): Promise<Credential>;
}

/**
 * One kind of target whose credentials we choose (class A). Every verb may be repeated after any
 * crash, with the same arguments, and must then do no harm. Verbs throw AppError
 * `target_unreachable` (try again), `target_refused` (a repeat will not help), `lease_lost`.
 */
export interface Handler<Settings> extends HandlerRules {
  readonly id: string;
  readonly credentialClass: 'chosen';
  readonly targetSettings: z.ZodType<Settings> | null;
  overlap(settings: Settings): Overlap;
  /** Names of what must not be touched by two rotations at once; the same for every alias of it. */
  resources(settings: Settings): readonly string[];
  /** The login that gets the candidate, given the one in force. @throws `target_refused` */
  nextLogin(settings: Settings, current: string | null): string | null;
  /** Changes nothing; fails when `apply` could not succeed. */
  preflight(context: HandlerContext<Settings>, login: string | null): Promise<void>;
  /** Makes `candidate` valid at the target. */
  apply(context: HandlerContext<Settings>, candidate: Credential, fence: Fence): Promise<void>;
  /** Logs in afresh. False means a definite no; not to know is `target_unreachable`. */
  verify(context: HandlerContext<Settings>, credential: Credential): Promise<boolean>;
  /** Makes whatever `login` accepted until now useless. */
  retire(context: HandlerContext<Settings>, login: string | null, fence: Fence): Promise<void>;
  /** Puts the earlier credential back in force after a rotation that must be undone. */
  restore(context: HandlerContext<Settings>, base: Credential, fence: Fence): Promise<void>;
}

/** A handler whose settings type is closed over, so that different ones can stand in one registry. */
export type AnyHandler = Handler<unknown>;

/** Types are checked against `Settings`; at run time each target was parsed by `targetSettings`. */
export function defineHandler<Settings>(handler: Handler<Settings>): AnyHandler {
  return handler as AnyHandler;
}

/** The parsed settings of `target` for `handler`. */
export function settingsOf(handler: AnyHandler, target: Target | null): unknown {
  return target && handler.targetSettings ? handler.targetSettings.parse(target.settings) : null;
}
