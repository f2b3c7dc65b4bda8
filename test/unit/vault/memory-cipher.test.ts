import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SecretString } from '../../../src/core/secret-string.ts';
import { answered } from '../../../src/core/vault/answer.ts';
import { createContentKeeper } from '../../../src/core/vault/cache-content.ts';
import { createMemoryCipher } from '../../../src/core/vault/memory-cipher.ts';
import { secret } from './support.ts';

describe('the cipher of a process', () => {
  it('gives back any text, under the context it was sealed for', () => {
    const cipher = createMemoryCipher();
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (text, context) => {
        expect(cipher.open(cipher.seal(text, context), context)).toBe(text);
      }),
    );
  });

  it('shows nothing of it, and never seals alike twice', () => {
    const cipher = createMemoryCipher();
    const sealed = Array.from({ length: 100 }, () => cipher.seal('canary-4711', 'a'));
    expect(sealed.some((one) => one.includes('canary'))).toBe(false);
    expect(new Set(sealed.map((one) => one.toString('hex'))).size).toBe(100);
    expect(new Set(sealed.map((one) => one.subarray(0, 12).toString('hex'))).size).toBe(100);
  });

  it('refuses another context, another process and every changed byte', () => {
    const cipher = createMemoryCipher();
    const sealed = cipher.seal('value', 'a');
    expect(() => cipher.open(sealed, 'b')).toThrow();
    expect(() => createMemoryCipher().open(sealed, 'a')).toThrow();
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => cipher.open(changed, 'a')).toThrow();
    }
    expect(() => cipher.open(sealed.subarray(0, -1), 'a')).toThrow();
  });
});

describe('what is kept', () => {
  const sealing = {
    take: () => ({ rest: { tag: 1 }, secret: 'canary-4711' }),
    give: (rest: object, text: string) => ({ ...rest, value: new SecretString(text) }),
  };

  it('holds no value in clear when it is sealed, and is wiped when it is dropped', () => {
    const contents = createContentKeeper(true);
    const content = contents.keep('k', answered(secret('canary-4711')), sealing);
    if (content.kind !== 'sealed') throw new Error('not sealed');
    expect(JSON.stringify(content)).not.toContain('canary');
    expect(contents.open('k', content)).toMatchObject({ tag: 1 });
    contents.drop(content);
    expect(content.secret.every((byte) => byte === 0)).toBe(true);
  });

  it('is not sealed where there is nothing secret', () => {
    expect(createContentKeeper(true).keep('k', answered({ a: 1 }), null).kind).toBe('open');
  });
});
