// RC2 (RFC 2268), which is in no provider that Node loads, but in most PFX files written before 2022: decryption only.

/** Digits of pi, as the RFC has them. */
const piTable = Buffer.from(
  'd978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2179a59f587b34f1361456d8d09817d32' +
    'bd8f40eb86b77b0bf09521225c6b4e8254d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626' +
    '6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed708e8eade8052eef784aa72ac354d6a2a' +
    '961ad2715a1549744b9fd05e0418a4ecc2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731' +
    '2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a90d38341bab33ffb0bb480c5fb9b1cd2e' +
    'c5f3db47e5a59c770aa62068fe7fc1ad',
  'hex',
);
const rotations = [1, 2, 3, 5] as const;

/**
 * CBC with PKCS#7 padding; the effective key length is the key's.
 *
 * @throws Error when the padding is wrong
 */
export function decryptRc2(key: Uint8Array, iv: Uint8Array, data: Uint8Array): Buffer {
  if (data.length === 0 || data.length % 8 !== 0) throw new Error('RC2: not whole blocks');
  const words = expandKey(key);
  const clear = Buffer.alloc(data.length);
  let previous = iv;
  for (let at = 0; at < data.length; at += 8) {
    const block = data.subarray(at, at + 8);
    const decrypted = decryptBlock(words, block);
    for (let index = 0; index < 8; index += 1) {
      clear[at + index] = (decrypted[index] ?? 0) ^ (previous[index] ?? 0);
    }
    previous = block;
  }
  return unpadded(clear);
}

function expandKey(key: Uint8Array): Uint16Array {
  const bytes = Buffer.alloc(128);
  bytes.set(key);
  const pi = (index: number): number => piTable[index & 0xff] ?? 0;
  const at = (index: number): number => bytes[index] ?? 0;
  for (let index = key.length; index < 128; index += 1) {
    bytes[index] = pi(at(index - 1) + at(index - key.length));
  }
  bytes[128 - key.length] = pi(at(128 - key.length));
  for (let index = 127 - key.length; index >= 0; index -= 1) {
    bytes[index] = pi(at(index + 1) ^ at(index + key.length));
  }
  return Uint16Array.from({ length: 64 }, (_, index) => bytes.readUInt16LE(index * 2));
}

function decryptBlock(key: Uint16Array, block: Uint8Array): Buffer {
  const input = Buffer.from(block);
  const words = Uint16Array.from({ length: 4 }, (_, index) => input.readUInt16LE(index * 2));
  const word = (index: number): number => words[index & 3] ?? 0;
  const keyAt = (index: number): number => key[index] ?? 0;
  for (let round = 15; round >= 0; round -= 1) {
    for (let index = 3; index >= 0; index -= 1) {
      const shift = rotations[index] ?? 0;
      const rotated = (word(index) >>> shift) | (word(index) << (16 - shift));
      const mixed =
        (word(index - 1) & word(index - 2)) + (~word(index - 1) & word(index - 3) & 0xffff);
      words[index] = rotated - keyAt(round * 4 + index) - mixed;
    }
    if (round !== 5 && round !== 11) continue;
    for (let index = 3; index >= 0; index -= 1) {
      words[index] = word(index) - keyAt(word(index - 1) & 63);
    }
  }
  const output = Buffer.alloc(8);
  for (const [index, value] of words.entries()) output.writeUInt16LE(value, index * 2);
  return output;
}

function unpadded(clear: Buffer): Buffer {
  const padding = clear.at(-1) ?? 0;
  const isPadded = padding >= 1 && padding <= 8;
  if (!isPadded || clear.subarray(-padding).some((byte) => byte !== padding)) {
    throw new Error('RC2: wrong padding');
  }
  return clear.subarray(0, -padding);
}
