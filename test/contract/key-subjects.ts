import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { systemClock } from '../../src/core/clock.ts';
import type { KeyService } from '../../src/core/vault/keys.ts';
import { localKeys } from '../../src/core/vault/local-keys.ts';
import type { Ground } from './emulator-client.ts';
import { adapter, type Subject, simulated } from './vault-subjects.ts';

/** An implementer of KeyService, with what only its keeper can do to it. */
export interface KeySubject extends Pick<Subject, 'setReadOnly'> {
  readonly keys: KeyService;
}

export function simulatedKeySubject(): KeySubject {
  return keysOf(simulated());
}

/** The SDK over an emulator with a vault `main`. */
export function azureKeySubject(ground: Ground, emulator: KeyVaultEmulator): KeySubject {
  return keysOf(adapter(ground, emulator));
}

/** The same, with what needs the public key only done in this process. */
export function localKeySubject({ keys, setReadOnly }: KeySubject): KeySubject {
  return { keys: localKeys(keys, { read: keys.get, clock: systemClock }), setReadOnly };
}

function keysOf({ vaults, setReadOnly }: Subject): KeySubject {
  return { keys: vaults.get('main').keys, setReadOnly };
}
