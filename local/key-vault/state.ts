import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { StateDocument } from './state-schema.ts';
import { loadInto, snapshotOf, type Vault, type VaultSnapshot } from './vault.ts';

/** Everything in some vaults, by name. Ids are not in it, so it can be loaded under any URL. */
export type State = {
  readonly format: 2;
  readonly vaults: Readonly<Record<string, VaultSnapshot>>;
};

export function stateOf(vaults: readonly Vault[]): State {
  const entries = vaults.map((vault) => [vault.name, snapshotOf(vault)] as const);
  return { format: 2, vaults: Object.fromEntries(entries) };
}

/** @throws Error that says with its path what is wrong */
export function parseState(json: unknown): State {
  const parsed = StateDocument.safeParse(json);
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  // The schema lets members through that it does not know, and its strings are the narrower ones of the type.
  return parsed.data as unknown as State;
}

/** @throws Error when the file cannot be read or holds no state */
export async function readStateFile(file: string): Promise<State> {
  const text = await readFile(file, 'utf8');
  try {
    return parseState(JSON.parse(text));
  } catch (cause) {
    throw new Error(`${file} is no emulator state: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Replaces what is in the vaults that the state names.
 *
 * @returns those vaults
 * @throws Error when it names a vault that is not there, or one twice; then nothing is replaced
 */
export function applyState(vaults: readonly Vault[], state: State): Vault[] {
  const named = Object.entries(state.vaults).map(([name, snapshot]) => {
    const vault = vaults.find((one) => one.name.toLowerCase() === name.toLowerCase());
    if (vault === undefined) throw new Error(`✖ There is no such vault\n  → at vaults.${name}`);
    return { name, vault, snapshot };
  });
  const twice = named.find(
    ({ vault }, index) => named.findIndex((one) => one.vault === vault) < index,
  );
  if (twice !== undefined)
    throw new Error(`✖ The vault is named twice\n  → at vaults.${twice.name}`);
  for (const { vault, snapshot } of named) loadInto(vault, snapshot);
  return named.map(({ vault }) => vault);
}
