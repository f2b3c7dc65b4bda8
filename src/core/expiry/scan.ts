import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { errorFields } from '../log.ts';
import { choosePolicy, type Policy } from '../policies/policy.ts';
import { isDue } from '../policies/schedule.ts';
import type { ObjectRef, Vaults } from '../vault/ports.ts';

/** What a list says of a secret that a policy looks after. */
export interface Scanned {
  readonly ref: ObjectRef;
  /** It expires within the lead time of its policy. */
  readonly isDue: boolean;
  /** The rotation that wrote its latest version, as the tag has it; null when it names none. */
  readonly rotationId: string | null;
}

/**
 * Secrets of the main vaults that a policy lists: one list call per 25 secrets and no value read.
 * Heals whatever event was lost or never sent. A vault that does not answer is logged and passed
 * over; the next scan sees it again.
 */
export async function* scanSecrets(services: {
  readonly vaults: Vaults;
  readonly policies: readonly Policy[];
  readonly clock: Clock;
  readonly log: Log;
}): AsyncGenerator<Scanned> {
  const { vaults, policies, clock, log } = services;
  for (const vault of vaults.all().filter((one) => one.purpose === 'main')) {
    try {
      for await (const secret of vault.secrets.list()) {
        const ref: ObjectRef = { vault: vault.alias, type: 'secret', name: secret.name };
        const choice = choosePolicy(policies, ref, secret.tags);
        if (!secret.enabled || secret.managed || choice.kind !== 'one' || choice.policy.paused) {
          continue;
        }
        yield {
          ref,
          isDue: isDue(secret.expiresOn, choice.policy.schedule.leadTime, clock.now()),
          rotationId: secret.tags['rotationId'] ?? null,
        };
      }
    } catch (error) {
      log.error('scan.vault_failed', { vault: vault.alias, ...errorFields(error) });
    }
  }
}
