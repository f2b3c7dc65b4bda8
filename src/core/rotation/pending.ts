import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { AppError, hasCode } from '../errors.ts';
import { SecretString } from '../secret-string.ts';
import type { SecretService } from '../vault/ports.ts';
import type { CandidateRef } from './journal.ts';

/**
 * Where candidates wait between being made and being promoted. Two implementers: a vault of the
 * engine's own, and ciphertext inside the journal.
 */
export interface PendingStore {
  /**
   * Keeps `value`; afterwards `find` gives it, whatever process asks and whatever an earlier run
   * has staged or stages late. `guard` is called as the last thing before something is sent, and
   * throws when it must not be.
   * @returns what the journal keeps
   */
  stage(rotationId: string, value: SecretString, guard: () => void): Promise<CandidateRef>;
  /** The value `ref` stands for, null when there is none (any more). */
  find(rotationId: string, ref: CandidateRef | null): Promise<SecretString | null>;
  /** Erases every trace, soft-deleted copies too; done already when there is none. */
  drop(rotationId: string): Promise<void>;
  /** What lies there, whoever left it; nothing where a candidate is part of its journal. */
  list(): AsyncIterable<{ readonly rotationId: string; readonly stagedAt: Date }>;
}

const prefix = 'wal-';

/** Secrets `wal-<rotationId>` of a vault that nobody but the engine can reach. */
export function vaultPendingStore(secrets: SecretService): PendingStore {
  const nameOf = (rotationId: string) => `${prefix}${rotationId}`;
  const find: PendingStore['find'] = async (rotationId, ref) => {
    if (ref?.kind !== 'vault') return null;
    try {
      return (await secrets.get(nameOf(rotationId), ref.version)).value;
    } catch (error) {
      if (hasCode(error, 'not_found')) return null;
      throw error;
    }
  };
  return {
    async stage(rotationId, value, guard) {
      const name = nameOf(rotationId);
      const { version } = await secrets.set(name, { value }, { guard });
      const ref = { kind: 'vault', name, version } as const;
      if ((await find(rotationId, ref))?.equals(value)) return ref;
      throw new AppError('vault_unavailable', { detail: `read back ${name}` });
    },
    find,
    drop: (rotationId) => secrets.erase(nameOf(rotationId)),
    async *list() {
      for await (const { name, created } of secrets.list()) {
        if (!name.startsWith(prefix)) continue;
        yield { rotationId: name.slice(prefix.length), stagedAt: created };
      }
    },
  };
}

/**
 * AES-256-GCM under a key that is itself a secret (32 bytes in base64) of a configured vault, bound
 * to the rotation's id. For installations that may have one vault only; `drop` has nothing to do,
 * because the engine removes the reference from the journal.
 */
export function sealedPendingStore(secrets: SecretService, keyName: string): PendingStore {
  return {
    async stage(rotationId, value) {
      const held = await secrets.get(keyName);
      const nonce = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', keyBytes(held.value, keyName), nonce);
      cipher.setAAD(Buffer.from(rotationId));
      const body = Buffer.concat([cipher.update(value.expose(), 'utf8'), cipher.final()]);
      return {
        kind: 'sealed',
        key: held.properties.version,
        nonce: nonce.toString('base64'),
        ciphertext: Buffer.concat([body, cipher.getAuthTag()]).toString('base64'),
      };
    },
    async find(rotationId, ref) {
      if (ref?.kind !== 'sealed') return null;
      const held = await secrets.get(keyName, ref.key);
      const bytes = Buffer.from(ref.ciphertext, 'base64');
      const nonce = Buffer.from(ref.nonce, 'base64');
      const key = keyBytes(held.value, keyName);
      try {
        const cipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
        cipher.setAAD(Buffer.from(rotationId));
        cipher.setAuthTag(bytes.subarray(-16));
        const text = Buffer.concat([cipher.update(bytes.subarray(0, -16)), cipher.final()]);
        return new SecretString(text.toString('utf8'));
      } catch (cause) {
        throw new AppError('corrupt', { detail: `sealed candidate of ${rotationId}`, cause });
      }
    },
    drop: async () => undefined,
    list: async function* () {},
  };
}

function keyBytes(value: SecretString, keyName: string): Buffer {
  const bytes = Buffer.from(value.expose(), 'base64');
  if (bytes.length === 32) return bytes;
  throw new AppError('bad_configuration', {
    detail: `the sealing key ${keyName} must be 32 bytes in base64`,
  });
}
