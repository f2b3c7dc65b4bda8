import { constants, generateKeyPairSync, publicEncrypt, randomBytes } from 'node:crypto';
import { systemClock } from '../src/core/clock.ts';
import { simulatedVaults } from '../src/core/simulation/vault.ts';
import { localKeys } from '../src/core/vault/local-keys.ts';
import { type Bench, inTurn } from './bench.ts';

const times = 2000;
const plaintext = randomBytes(32);

/** A data key encrypted with the public key of a vault, every check included, against the bare cipher. */
export const bench: Bench = {
  name: 'local RSA-OAEP-256 encrypt ÷ publicEncrypt',
  goal: 1.3,
  better: 'lower',
  async measure() {
    const vaults = simulatedVaults([{ alias: 'main', purpose: 'main' }], systemClock);
    const remote = vaults.get('main').keys;
    const known = await remote.create('orders', { type: 'RSA' });
    const keys = localKeys(remote, { read: async () => known, clock: systemClock });
    const { publicKey: key } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    return inTurn(
      async () => {
        for (let index = 0; index < times; index++) {
          await keys.encrypt('orders', { algorithm: 'RSA-OAEP-256', plaintext });
        }
      },
      () => {
        for (let index = 0; index < times; index++) {
          publicEncrypt({ key, padding, oaepHash: 'sha256' }, plaintext);
        }
      },
      15,
    );
  },
};
