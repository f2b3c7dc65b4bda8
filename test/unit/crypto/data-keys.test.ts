import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createEnvelope } from '../../../src/core/crypto/envelope.ts';
import { parseHeader } from '../../../src/core/crypto/header.ts';
import { envelopeLimits } from '../../../src/core/crypto/limits.ts';
import { openingKeys } from '../../../src/core/crypto/opening-keys.ts';
import { sealingKeys } from '../../../src/core/crypto/sealing-keys.ts';
import type { WrappingKey } from '../../../src/core/crypto/wrapping-key.ts';
import { AppError } from '../../../src/core/errors.ts';
import { aWorld, collect, recordingKey, someBytes, text } from './support.ts';

const isWiped = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);

/** A wrapping key that answers when it is told to. */
function heldKey() {
  const inner = recordingKey();
  const waiting: ((fault?: AppError) => void)[] = [];
  const signals: AbortSignal[] = [];
  const hold = async (signal?: AbortSignal) => {
    if (signal) signals.push(signal);
    await new Promise<void>((resolve, reject) =>
      waiting.push((fault) => (fault === undefined ? resolve() : reject(fault))),
    );
  };
  const key: WrappingKey = {
    async wrap(dataKey, signal) {
      const wrapped = await inner.wrap(dataKey);
      await hold(signal);
      return wrapped;
    },
    async unwrap(wrapped, signal) {
      await hold(signal);
      return await inner.unwrap(wrapped);
    },
  };
  const release = () => {
    for (const go of waiting.splice(0)) go();
  };
  return { ...inner, ...key, release, signals, waiting };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('the data key for sealing', () => {
  it('is wrapped once for all messages, however many wait for it', async () => {
    const { envelope, wrappingKey } = aWorld();
    await Promise.all(Array.from({ length: 1000 }, () => envelope.seal(text('x'))));
    await envelope.seal(text('x'));
    expect(wrappingKey.wraps).toHaveLength(1);
    expect(wrappingKey.unwraps).toHaveLength(0);
  });

  it('is wiped, where the wrapping key saw it, as soon as it is wrapped', async () => {
    const { envelope, wrappingKey } = aWorld();
    await envelope.seal(text('x'));
    expect(wrappingKey.wraps.map(isWiped)).toEqual([true]);
  });

  it('seals so many messages and no more', async () => {
    const { envelope, wrappingKey } = aWorld({ sealing: { maxMessages: 3 } });
    const sealed = await Promise.all(Array.from({ length: 10 }, () => envelope.seal(text('x'))));
    expect(wrappingKey.wraps).toHaveLength(4);
    const uses = Object.values(Object.groupBy(sealed, ({ header }) => wrapSectionOf(header)));
    expect(uses.map((messages) => messages?.length)).toEqual([3, 3, 3, 1]);
  });

  it('seals so many bytes and no more, but one message whatever its length', async () => {
    const { envelope, wrappingKey } = aWorld({ sealing: { maxBytes: 100 } });
    for (const length of [60, 40, 1, 99, 1, 500, 1]) await envelope.seal(someBytes(length));
    // 60 + 40 | 1 + 99 | 1 | 500 | 1
    expect(wrappingKey.wraps).toHaveLength(5);
  });

  it('counts the bytes of a stream as they go by', async () => {
    const { envelope, wrappingKey } = aWorld({ sealing: { maxBytes: 100 } });
    const stream = await envelope.sealStream([someBytes(99)]);
    await envelope.seal(someBytes(1));
    await collect(stream.payload);
    expect(wrappingKey.wraps).toHaveLength(1);
    await envelope.seal(someBytes(1));
    expect(wrappingKey.wraps).toHaveLength(2);
  });

  it('seals for so long and no longer', async () => {
    const { envelope, wrappingKey, clock } = aWorld({ sealing: { maxAgeSeconds: 60 } });
    await envelope.seal(text('x'));
    clock.advance(59.999);
    await envelope.seal(text('x'));
    expect(wrappingKey.wraps).toHaveLength(1);
    clock.advance(0.001);
    await envelope.seal(text('x'));
    expect(wrappingKey.wraps).toHaveLength(2);
  });

  it('is given up when the clock is set to before it was made', async () => {
    const { envelope, wrappingKey, clock } = aWorld();
    await envelope.seal(text('x'));
    clock.advance(-3600);
    await envelope.seal(text('x'));
    expect(wrappingKey.wraps).toHaveLength(2);
  });

  it('is a new one after `forget`, even when that is called while the old one is being wrapped', async () => {
    const wrappingKey = heldKey();
    const envelope = createEnvelope({ wrappingKey });
    const sealing = envelope.seal(text('x'));
    await settled();
    const newest = wrappingKey.rotate();
    envelope.forget();
    wrappingKey.release();
    await settled();
    wrappingKey.release();
    const { header } = await sealing;
    expect(parseHeader(header).wrap.key.keyId).toBe(newest);
  });

  it('is what was wrapped, whatever the wrapping key does with what it was given', async () => {
    const { wrappingKey } = aWorld();
    const envelope = createEnvelope({
      wrappingKey: {
        ...wrappingKey,
        async wrap(dataKey) {
          const wrapped = await wrappingKey.wrap(dataKey);
          dataKey.fill(0);
          return wrapped;
        },
      },
    });
    const { header, payload } = await envelope.seal(text('x'));
    expect(String(await envelope.open({ header, payload }))).toBe('x');
    const rewrapped = await envelope.rewrap(header);
    expect(String(await envelope.open({ header: rewrapped, payload }))).toBe('x');
  });

  it('does not keep a failure', async () => {
    const { wrappingKey } = aWorld();
    const fault = new AppError('vault_unavailable', { detail: 'planted' });
    let isDown = true;
    const envelope = createEnvelope({
      wrappingKey: {
        ...wrappingKey,
        wrap: async (dataKey) => {
          if (isDown) throw fault;
          return await wrappingKey.wrap(dataKey);
        },
      },
    });
    const failed = await Promise.allSettled([envelope.seal(text('x')), envelope.seal(text('y'))]);
    expect(failed).toEqual([
      { status: 'rejected', reason: fault },
      { status: 'rejected', reason: fault },
    ]);
    isDown = false;
    expect((await envelope.seal(text('x'))).payload).toBeDefined();
  });

  it.each([
    ['a key id with a space', { keyId: 'a b' }],
    ['a key id with a line break', { keyId: 'a\nb' }],
    ['no key id', { keyId: '' }],
    ['a key id that is too long', { keyId: 'k'.repeat(513) }],
    ['no algorithm', { algorithm: '' }],
    ['an algorithm that is too long', { algorithm: 'A'.repeat(33) }],
    ['nothing wrapped', { wrapped: new Uint8Array() }],
    ['too much wrapped', { wrapped: new Uint8Array(1025) }],
  ])('is not used when the wrapping key gives %s', async (_, wrong) => {
    const wrappingKey: WrappingKey = {
      wrap: async () => ({ keyId: 'k', algorithm: 'A', wrapped: new Uint8Array(1), ...wrong }),
      unwrap: async () => new Uint8Array(32),
    };
    const envelope = createEnvelope({ wrappingKey });
    await expect(envelope.seal(text('x'))).rejects.toMatchObject({ code: 'internal' });
  });

  it('makes an AppError of whatever the wrapping key throws', async () => {
    const fault = new TypeError('planted');
    const wrap = async () => {
      throw fault;
    };
    const unwrap = wrap;
    const envelope = createEnvelope({ wrappingKey: { wrap, unwrap } });
    const expected = { name: 'AppError', code: 'internal', cause: fault };
    await expect(envelope.seal(text('x'))).rejects.toMatchObject(expected);
    const sealed = await aWorld().envelope.seal(text('x'));
    await expect(envelope.open(sealed)).rejects.toMatchObject(expected);
    await expect(envelope.rewrap(sealed.header)).rejects.toMatchObject(expected);
  });
});

describe('the data keys for opening', () => {
  /** Headers of `count` messages, each under a data key of its own. */
  async function aWorldOf(count: number, options: Parameters<typeof aWorld>[0] = {}) {
    const world = aWorld(options);
    const sealed = [];
    for (let index = 0; index < count; index++) {
      world.envelope.forget();
      sealed.push(await world.envelope.seal(text(`message ${index}`)));
    }
    return { ...world, sealed };
  }

  it('are unwrapped once each, however many messages wait for them', async () => {
    const { envelope, wrappingKey, sealed } = await aWorldOf(3);
    const all = Array.from({ length: 999 }, (_, index) => sealed[index % 3]!);
    const opened = await Promise.all(all.map((one) => envelope.open(one)));
    expect(new Set(opened.map(String)).size).toBe(3);
    expect(wrappingKey.unwraps).toHaveLength(3);
    expect(wrappingKey.unwraps.map(isWiped)).toEqual([true, true, true]);
  });

  it('are kept up to a number; the one not used for longest goes first', async () => {
    const { envelope, wrappingKey, sealed } = await aWorldOf(3, { opening: { maxKeys: 2 } });
    const [a, b, c] = sealed;
    for (const one of [a, b, a, c, a]) await envelope.open(one!);
    expect(wrappingKey.unwraps).toHaveLength(3);
    await envelope.open(b!);
    expect(wrappingKey.unwraps).toHaveLength(4);
  });

  it('open all that wait, even when there is room for one', async () => {
    const { envelope, sealed } = await aWorldOf(20, { opening: { maxKeys: 1 } });
    const opened = await Promise.all([...sealed, ...sealed].map((one) => envelope.open(one)));
    expect(new Set(opened.map(String)).size).toBe(20);
  });

  it('are kept for so long and no longer', async () => {
    const { envelope, wrappingKey, sealed, clock } = await aWorldOf(1, {
      opening: { maxAgeSeconds: 60 },
    });
    const [one] = sealed;
    await envelope.open(one!);
    wrappingKey.disable('local/vault-key/1');
    clock.advance(59.999);
    await envelope.open(one!);
    clock.advance(0.001);
    await expect(envelope.open(one!)).rejects.toMatchObject({ code: 'object_disabled' });
  });

  it('are gone after `forget`, even the one that is being unwrapped', async () => {
    const wrappingKey = heldKey();
    const envelope = createEnvelope({ wrappingKey });
    const sealing = envelope.seal(text('x'));
    await settled();
    wrappingKey.release();
    const sealed = await sealing;
    const opening = envelope.open(sealed);
    await settled();
    envelope.forget();
    wrappingKey.release();
    await settled();
    expect(wrappingKey.unwraps).toHaveLength(1);
    wrappingKey.release();
    expect(String(await opening)).toBe('x');
    expect(wrappingKey.unwraps).toHaveLength(2);
  });

  it('are asked of the vault again after a failure', async () => {
    const { envelope, wrappingKey, sealed } = await aWorldOf(1);
    const [one] = sealed;
    let isDown = true;
    const fault = new AppError('vault_throttled', { detail: 'planted' });
    const other = createEnvelope({
      wrappingKey: {
        ...wrappingKey,
        unwrap: async (key) => {
          if (isDown) throw fault;
          return await wrappingKey.unwrap(key);
        },
      },
    });
    await expect(other.open(one!)).rejects.toBe(fault);
    isDown = false;
    expect(await other.open(one!)).toEqual(await envelope.open(one!));
  });

  it('must be 32 bytes', async () => {
    const { sealed, wrappingKey } = await aWorldOf(1);
    for (const length of [0, 16, 31, 33, 64]) {
      const unwrap: WrappingKey['unwrap'] = async (key) =>
        Buffer.concat([await wrappingKey.unwrap(key), Buffer.alloc(32)]).subarray(0, length);
      const envelope = createEnvelope({ wrappingKey: { ...recordingKey(), unwrap } });
      await expect(envelope.open(sealed[0]!)).rejects.toMatchObject({ code: 'corrupt' });
    }
  });
});

describe('waiting for a wrapping key', () => {
  it('ends for the one whose signal fires, and goes on for the others', async () => {
    const wrappingKey = heldKey();
    const envelope = createEnvelope({ wrappingKey });
    const controller = new AbortController();
    const impatient = envelope.seal(text('x'), { signal: controller.signal });
    const patient = envelope.seal(text('x'), { signal: new AbortController().signal });
    await settled();
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(impatient).rejects.toBe(reason);
    expect(wrappingKey.signals.map(({ aborted }) => aborted)).toEqual([false]);
    wrappingKey.release();
    expect((await patient).header).toBeDefined();
  });

  it('tells the wrapping key when nobody waits any more, and then starts anew', async () => {
    const wrappingKey = heldKey();
    const envelope = createEnvelope({ wrappingKey });
    const controller = new AbortController();
    const { signal } = controller;
    const calls = [envelope.seal(text('x'), { signal }), envelope.seal(text('x'), { signal })];
    await settled();
    controller.abort();
    expect((await Promise.allSettled(calls)).map(({ status }) => status)).toEqual([
      'rejected',
      'rejected',
    ]);
    expect(wrappingKey.signals.map(({ aborted }) => aborted)).toEqual([true]);
    const next = envelope.seal(text('x'));
    await settled();
    expect(wrappingKey.waiting).toHaveLength(2);
    wrappingKey.release();
    expect((await next).header).toBeDefined();
  });

  it('is shared by all who come after one that nobody waits for any more', async () => {
    const wrappingKey = heldKey();
    const envelope = createEnvelope({ wrappingKey });
    const controller = new AbortController();
    const given = envelope.seal(text('x'), { signal: controller.signal });
    const up = expect(given).rejects.toThrow();
    await settled();
    controller.abort();
    await up;
    const second = envelope.seal(text('x'));
    await settled();
    wrappingKey.waiting.shift()?.(new AppError('vault_unavailable', { detail: 'planted' }));
    await settled();
    const third = envelope.seal(text('x'));
    await settled();
    expect(wrappingKey.signals).toHaveLength(2);
    wrappingKey.release();
    await Promise.all([second, third]);
  });

  it('does not begin with a signal that has fired', async () => {
    const { envelope, wrappingKey } = aWorld();
    const signal = AbortSignal.abort(new Error('too late'));
    await expect(envelope.seal(text('x'), { signal })).rejects.toThrow('too late');
    expect(wrappingKey.wraps).toHaveLength(0);
  });
});

describe('keys in memory', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const clock = { now: () => new Date() };

  it('are wiped when their time is over, also when nobody asks', async () => {
    const wrappingKey = recordingKey();
    const limits = envelopeLimits({ sealing: { maxAgeSeconds: 60 } });
    const sealers = sealingKeys(wrappingKey, limits, clock);
    const openers = openingKeys(wrappingKey, { maxAgeSeconds: 30, maxKeys: 10 }, clock);
    const sealed = await createEnvelope({ wrappingKey }).seal(text('x'));
    const sealing = await sealers.use(1, ({ dataKey }) => dataKey);
    const opening = await openers.use(parseHeader(sealed.header).wrap, (dataKey) => dataKey);
    vi.advanceTimersByTime(29_999);
    expect([sealing, opening].map(isWiped)).toEqual([false, false]);
    vi.advanceTimersByTime(1);
    expect([sealing, opening].map(isWiped)).toEqual([false, true]);
    vi.advanceTimersByTime(30_000);
    expect([sealing, opening].map(isWiped)).toEqual([true, true]);
  });

  it('are wiped when they are used up, thrown out or to be forgotten', async () => {
    const wrappingKey = recordingKey();
    const limits = envelopeLimits({ sealing: { maxMessages: 1 } });
    const sealers = sealingKeys(wrappingKey, limits, clock);
    const openers = openingKeys(wrappingKey, { maxAgeSeconds: 60, maxKeys: 1 }, clock);
    const envelope = createEnvelope({ wrappingKey, sealing: { maxMessages: 1 } });
    const sealed = [await envelope.seal(text('x')), await envelope.seal(text('y'))];
    const keys: Uint8Array[] = [];
    for (const { header } of sealed) {
      keys.push(await openers.use(parseHeader(header).wrap, (dataKey) => dataKey));
      keys.push(await sealers.use(1, ({ dataKey }) => dataKey));
    }
    expect(keys.map(isWiped)).toEqual([true, true, false, false]);
    sealers.forget();
    openers.forget();
    expect(keys.map(isWiped)).toEqual([true, true, true, true]);
    expect(vi.getTimerCount()).toBe(1); // the envelope's own
  });

  it('are wiped when they are used up, although there is no other yet', async () => {
    const wrappingKey = heldKey();
    const limits = envelopeLimits({ sealing: { maxMessages: 1 } });
    const sealers = sealingKeys(wrappingKey, limits, clock);
    const first = sealers.use(1, ({ dataKey }) => dataKey);
    await vi.advanceTimersByTimeAsync(0);
    wrappingKey.release();
    const dataKey = await first;
    expect(isWiped(dataKey)).toBe(false);
    const second = sealers.use(1, () => null);
    await vi.advanceTimersByTimeAsync(0);
    expect(isWiped(dataKey)).toBe(true);
    wrappingKey.release();
    await second;
  });

  it('are held once, even when a call that was given up brings them too', async () => {
    const wrappingKey = heldKey();
    const sealing = createEnvelope({ wrappingKey }).seal(text('x'));
    await vi.advanceTimersByTimeAsync(0);
    wrappingKey.release();
    const { wrap } = parseHeader((await sealing).header);
    vi.clearAllTimers();
    const openers = openingKeys(wrappingKey, { maxAgeSeconds: 60, maxKeys: 10 }, clock);
    const controller = new AbortController();
    const given = openers.use(wrap, () => null, controller.signal);
    const up = expect(given).rejects.toThrow();
    await vi.advanceTimersByTimeAsync(0);
    controller.abort();
    await up;
    const second = openers.use(wrap, () => null);
    await vi.advanceTimersByTimeAsync(0);
    wrappingKey.release();
    await second;
    await vi.advanceTimersByTimeAsync(0);
    expect(wrappingKey.unwraps).toHaveLength(2);
    expect(vi.getTimerCount()).toBe(1);
  });

  it('do not keep a process alive', async () => {
    vi.useRealTimers();
    const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const { envelope } = aWorld();
    await envelope.open(await envelope.seal(text('x')));
    const after = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    expect(after).toBe(before);
  });
});

function wrapSectionOf(header: Uint8Array): string {
  return Buffer.from(header.subarray(71)).toString('hex');
}
