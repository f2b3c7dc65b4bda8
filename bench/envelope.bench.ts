import { createCipheriv, randomBytes } from 'node:crypto';
import { createEnvelope } from '../src/core/crypto/envelope.ts';
import { localWrappingKey } from '../src/core/crypto/local-wrapping-key.ts';
import { type Bench, inTurn } from './bench.ts';

/** A round is a millisecond long: longer ones fall in step with the garbage collector. */
const times = 40;
const plaintext = randomBytes(64 * 1024);
const associatedData = Buffer.from('main/secret/orders-db');
const key = randomBytes(32);

/**
 * Messages sealed a second, under a cached data key, against nothing but AES-256-GCM with a random
 * nonce. Neither joins what it made: a copy of 64 KiB costs more than sealing it.
 */
export const bench: Bench = {
  name: 'sealing 64 KiB ÷ raw AES-256-GCM, rate',
  goal: 0.9,
  better: 'higher',
  async measure() {
    const envelope = createEnvelope({ wrappingKey: localWrappingKey('bench') });
    const milliseconds = await inTurn(
      async () => {
        for (let index = 0; index < times; index++) {
          await envelope.seal(plaintext, { associatedData });
        }
      },
      () => {
        for (let index = 0; index < times; index++) sealRaw();
      },
      1500,
    );
    envelope.forget();
    return { ours: times / milliseconds.ours, theirs: times / milliseconds.theirs };
  },
};

function sealRaw() {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(associatedData);
  const ciphertext = cipher.update(plaintext);
  cipher.final();
  return { nonce, ciphertext, tag: cipher.getAuthTag() };
}
