import { errors } from './errors.ts';
import type { VaultEventKind } from './events.ts';
import type { ObjectType, Stored } from './store.ts';
import type { Vault } from './vault.ts';

/** An authenticated, routed request. */
export type Call = {
  readonly vault: Vault;
  /** Values of the template's braces, decoded. An absent or empty `{version}` is the empty string. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: unknown;
  /** Seconds since 1970. */
  readonly now: number;
  /**
   * Something was written: it is saved, watched and, for a new version, announced. Without an argument: something of
   * the vault as a whole.
   */
  readonly changed: (change?: Change) => void;
};

export type Change = {
  readonly type: ObjectType;
  readonly object: Stored;
  /** The event it causes at once. */
  readonly event?: VaultEventKind;
};

export type Answer = {
  /** Default 200. */
  readonly status?: number;
  /** Absent: no content. */
  readonly body?: unknown;
  /** Beside those of every answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The version it was about, for the audit rows. */
  readonly version?: string;
};

/** One operation of the data plane. To add one: write it, and list it in operations.ts. */
export type Operation = {
  /** Named in fault rules and audit rows. */
  readonly id: string;
  /** Its name in the real service's logs and messages. */
  readonly serviceName: string;
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  /** Lower-case words and `{name}`, `{version}`. An empty or missing last `{version}` matches. */
  readonly template: string;
  /** The data action it needs, after `Microsoft.KeyVault/vaults/`: `secrets/getSecret/action`. */
  readonly action: string;
  /** Whether a vault in read-only mode refuses it. */
  readonly effect: 'read' | 'write';
  readonly run: (call: Call) => Answer | Promise<Answer>;
};

/** The object name of the path. @throws VaultError 400 */
export function nameOf(call: Call): string {
  const name = call.params['name'] ?? '';
  if (!/^[0-9a-zA-Z-]{1,127}$/.test(name)) throw errors.invalidName(name);
  return name;
}

export function versionOf(call: Call): string {
  return call.params['version'] ?? '';
}
