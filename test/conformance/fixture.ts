import type { Credential } from '../../src/core/rotation/value.ts';
import type { Address } from './cutting-proxy.ts';

/** How the kit gets something to rotate at for one handler; see docs/adding-a-handler.md. */
export interface Fixture {
  /** What tells it from the handler's other fixtures. */
  readonly name: string;
  /** Starts a real target; null for a handler that has none. */
  readonly start: (() => Promise<TestTarget>) | null;
}

/** A running target. */
export interface TestTarget {
  readonly address: Address;
  readonly admin: Credential;
  /** Whether the target can refuse a change that arrives after its deadline. */
  readonly hasClock: boolean;
  /** The longest any verb may take, whatever the target does. A tenth of it makes a late message. */
  readonly patienceMs: number;
  /** What no error may hold besides the passwords: hashes, keys derived from them. */
  readonly alsoSecret: readonly RegExp[];
  /** A login nobody else uses. */
  freshLogin(): Promise<FreshLogin>;
  /** Ways in which `apply` could not make a candidate log in; `preflight` must see each. */
  hopeless(): Promise<readonly Hopeless[]>;
  stop(): Promise<void>;
}

export interface FreshLogin {
  /** What logs in at present; the name as the stored value has it. */
  readonly base: Credential;
  /** The target document's settings, not parsed, with the target at `address`. */
  settingsAt(address: Address): Record<string, unknown>;
  /** Whether the target takes `credential`, asked without the handler. */
  logsIn(credential: Credential): Promise<boolean>;
  /** All that the target keeps of this login, to be compared. */
  state(): Promise<string>;
}

export interface Hopeless {
  /** `with …` or `for …` */
  readonly name: string;
  readonly login: FreshLogin;
  readonly admin: Credential;
}
