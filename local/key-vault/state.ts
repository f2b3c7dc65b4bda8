import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { loadInto, snapshotOf, type Vault, type VaultSnapshot } from './vault.ts';

/** Everything in some vaults, by name. Ids are not in it, so it can be loaded under any URL. */
export type State = {
  readonly format: 2;
  readonly vaults: Readonly<Record<string, VaultSnapshot>>;
};

const Seconds = z.int().min(0);
const Version = z.looseObject({
  version: z.string().regex(/^[0-9a-f]{32}$/),
  enabled: z.boolean(),
  nbf: Seconds.optional(),
  exp: Seconds.optional(),
  created: Seconds,
  updated: Seconds,
  tags: z.record(z.string(), z.string()).optional(),
});
const SecretVersion = Version.extend({ value: z.string(), contentType: z.string().optional() });
const KeyVersion = Version.extend({ material: z.looseObject({ kty: z.string() }) });

const Policy = z.looseObject({
  lifetime_actions: z.array(
    z.looseObject({ trigger: z.looseObject({}), action: z.looseObject({}) }),
  ),
  issuer: z.looseObject({ name: z.string() }),
  attributes: z.looseObject({ enabled: z.boolean() }),
});

/** What only some objects have is not looked at: it was written by an emulator. */
function storeSchema(version: z.ZodType, ofType: z.ZodRawShape = {}) {
  const object = z.looseObject({
    name: z.string().regex(/^[0-9a-zA-Z-]{1,127}$/),
    versions: z.array(version).min(1),
    ...ofType,
  });
  return z.strictObject({
    live: z.array(object),
    deleted: z.array(object.extend({ deletedDate: Seconds, scheduledPurgeDate: Seconds })),
  });
}

const StateDocument = z.strictObject({
  format: z.literal(2),
  vaults: z.record(
    z.string(),
    z.strictObject({
      secrets: storeSchema(SecretVersion),
      keys: storeSchema(KeyVersion),
      certificates: storeSchema(Version, { policy: Policy }),
      certificateSettings: z.looseObject({}).optional(),
    }),
  ),
});

export function stateOf(vaults: readonly Vault[]): State {
  const entries = vaults.map((vault) => [vault.name, snapshotOf(vault)] as const);
  return { format: 2, vaults: Object.fromEntries(entries) };
}

/** @throws Error that says with its path what is wrong */
export function parseState(json: unknown): State {
  const parsed = StateDocument.safeParse(json);
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  // The schema looks at less than the type promises; see above.
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
 * @throws Error when it names a vault that is not there; then nothing is replaced
 */
export function applyState(vaults: readonly Vault[], state: State): Vault[] {
  const named = Object.entries(state.vaults).map(([name, snapshot]) => {
    const vault = vaults.find((one) => one.name.toLowerCase() === name.toLowerCase());
    if (vault === undefined) throw new Error(`✖ There is no such vault\n  → at vaults.${name}`);
    return { vault, snapshot };
  });
  for (const { vault, snapshot } of named) loadInto(vault, snapshot);
  return named.map(({ vault }) => vault);
}
