import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createEnvelope } from '../../../src/core/crypto/envelope.ts';
import {
  joinEnvelope,
  joinStream,
  splitEnvelope,
  splitStream,
} from '../../../src/core/crypto/joined.ts';
import { localWrappingKey } from '../../../src/core/crypto/local-wrapping-key.ts';
import { AppError } from '../../../src/core/errors.ts';
import { aWorld, collect, cut, frameBytes, pieces, someBytes, text } from './support.ts';

const lengths = [
  0,
  1,
  frameBytes - 1,
  frameBytes,
  frameBytes + 1,
  2 * frameBytes,
  3 * frameBytes + 7,
];

describe('an envelope', () => {
  it.each(lengths)('gives back %i bytes', async (length) => {
    const { envelope } = aWorld();
    const plaintext = someBytes(length);
    const sealed = await envelope.seal(plaintext);
    expect(await envelope.open(sealed)).toEqual(plaintext);
    const frames = Math.max(1, Math.ceil(length / frameBytes));
    expect(Buffer.concat(sealed.payload).length).toBe(length + 16 * frames);
  });

  it.each(lengths)(
    'is the same for %i bytes, sealed and opened at once or as a stream',
    async (length) => {
      const { envelope } = aWorld();
      const plaintext = someBytes(length);
      const stream = await envelope.sealStream(pieces(plaintext, 1000));
      const payload = await collect(stream.payload);
      expect(await envelope.open({ header: stream.header, payload })).toEqual(plaintext);
      const whole = await envelope.seal(plaintext);
      const source = { header: whole.header, payload: pieces(Buffer.concat(whole.payload), 999) };
      expect(Buffer.concat(await collect(envelope.openStream(source)))).toEqual(plaintext);
    },
  );

  it('does not care how a payload is cut', async () => {
    const { envelope } = aWorld();
    const plaintext = someBytes(2 * frameBytes + 5);
    const { header, payload } = await envelope.seal(plaintext);
    const bytes = Buffer.concat(payload);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(bytes.length), { maxLength: 12 }), async (cuts) => {
        const edges = [0, ...cuts.toSorted((a, b) => a - b), bytes.length];
        const chunks = edges.map((edge, index) => bytes.subarray(edges[index - 1] ?? 0, edge));
        expect(await envelope.open({ header, payload: chunks })).toEqual(plaintext);
        const all = await envelope.openAll({ header, payload: chunks }, { maxBytes: 2 ** 20 });
        expect(all).toEqual(plaintext);
      }),
      { numRuns: 100 },
    );
  });

  it('opens in another process that has the same wrapping key', async () => {
    const { envelope, wrappingKey } = aWorld();
    const sealed = await envelope.seal(text('correct horse'));
    const other = createEnvelope({ wrappingKey });
    expect(await other.open(sealed)).toEqual(Buffer.from('correct horse'));
  });

  it('opens under its own associated data only', async () => {
    const { envelope } = aWorld();
    const associatedData = text('main/secret/orders-db');
    const sealed = await envelope.seal(text('x'), { associatedData });
    expect(await envelope.open(sealed, { associatedData })).toEqual(Buffer.from('x'));
    for (const other of [undefined, text(''), text('main/secret/orders-d'), text('Main/…')]) {
      const options = other === undefined ? {} : { associatedData: other };
      await expect(envelope.open(sealed, options)).rejects.toMatchObject({ code: 'corrupt' });
    }
  });

  it('takes associated data of any length', async () => {
    const { envelope } = aWorld();
    for (const length of [900, 1000, 100_000]) {
      const associatedData = someBytes(length);
      const sealed = await envelope.seal(text('x'), { associatedData });
      expect(await envelope.open(sealed, { associatedData })).toEqual(Buffer.from('x'));
      associatedData[length - 1] = 0x55;
      await expect(envelope.open(sealed, { associatedData })).rejects.toMatchObject({
        code: 'corrupt',
      });
    }
  });

  it('does not open with another wrapping key', async () => {
    const sealed = await aWorld().envelope.seal(text('x'));
    const { envelope } = aWorld();
    await expect(envelope.open(sealed)).rejects.toMatchObject({ code: 'corrupt' });
  });

  it('never seals two messages to the same bytes', async () => {
    const { envelope } = aWorld();
    const seen = new Set<string>();
    for (let count = 0; count < 300; count++) {
      const { header, payload } = await envelope.seal(text('same'));
      seen.add(Buffer.from(header.subarray(7, 39)).toString('hex'));
      seen.add(Buffer.concat(payload).toString('hex'));
    }
    expect(seen.size).toBe(600);
  });

  it('refuses a message that is too long, whichever way it comes', async () => {
    const { envelope } = aWorld({ maxMessageBytes: frameBytes + 1 });
    const generous = aWorld().wrappingKey;
    const fits = await envelope.seal(someBytes(frameBytes + 1));
    expect(await envelope.openAll(fits, { maxBytes: frameBytes + 1 })).toHaveLength(frameBytes + 1);
    const tooLong = { code: 'invalid_input' };
    await expect(envelope.seal(someBytes(frameBytes + 2))).rejects.toMatchObject(tooLong);
    const stream = await envelope.sealStream([someBytes(frameBytes + 2)]);
    await expect(collect(joinStream(stream))).rejects.toMatchObject(tooLong);
    const options = { wrappingKey: generous, frameBytes };
    const longer = await createEnvelope(options).seal(someBytes(2 * frameBytes));
    const strict = createEnvelope({ ...options, maxMessageBytes: frameBytes });
    await expect(collect(strict.openStream(longer))).rejects.toMatchObject(tooLong);
  });

  it.each([
    ['a frame size that is no power of two', { frameBytes: 5000 }],
    ['a frame size that is too small', { frameBytes: 2048 }],
    ['a frame size that is too large', { frameBytes: 2 ** 21 }],
    ['no time', { sealing: { maxAgeSeconds: 0 } }],
    ['more time than a timer can wait', { opening: { maxAgeSeconds: 90_000 } }],
    ['no messages', { sealing: { maxMessages: 0 } }],
    ['half a byte', { sealing: { maxBytes: 0.5 } }],
    ['no keys', { opening: { maxKeys: 0 } }],
    ['more bytes than frames can be numbered', { maxMessageBytes: 2 ** 44 + 1 }],
    ['nothing of a number', { maxMessageBytes: Number.NaN }],
  ])('cannot be made with %s', (_, limits) => {
    const wrappingKey = localWrappingKey('k');
    expect(() => createEnvelope({ wrappingKey, ...limits })).toThrow('bad_configuration');
  });

  it('shows no key when it is printed', async () => {
    const { envelope } = aWorld();
    let seen = '';
    const key = localWrappingKey('k');
    const printed = createEnvelope({
      wrappingKey: {
        ...key,
        wrap(dataKey) {
          seen = Buffer.from(dataKey).toString('hex');
          return key.wrap(dataKey);
        },
      },
    });
    const sealed = await printed.seal(text('x'));
    const shown = inspect({ printed, envelope, sealed }, { depth: 20, showHidden: true });
    expect(shown.replaceAll(' ', '')).not.toContain(seen.slice(0, 16));
    expect(Buffer.from(joinEnvelope(sealed)).toString('hex')).not.toContain(seen);
  });
});

describe('an envelope as a stream', () => {
  it('goes through files and pipelines', async () => {
    const { envelope } = aWorld();
    const folder = await mkdtemp(join(tmpdir(), 'keyturn-envelope-'));
    const file = join(folder, 'plain');
    const plaintext = someBytes(200_000);
    await writeFile(file, plaintext);
    const sealed = new PassThrough();
    const opened = new PassThrough();
    const writing = pipeline(joinStream(await envelope.sealStream(createReadStream(file))), sealed);
    const reading = pipeline(envelope.openStream(await splitStream(sealed)), opened);
    const [chunks] = await Promise.all([collect(opened), writing, reading]);
    expect(Buffer.concat(chunks)).toEqual(await readFile(file));
    await rm(folder, { recursive: true });
  });

  it('gives a frame as soon as it is proven, before the end has come', async () => {
    const { envelope } = aWorld();
    const { header, payload } = await envelope.seal(someBytes(3 * frameBytes));
    const source = new PassThrough();
    const bytes = Buffer.concat(payload);
    source.write(bytes.subarray(0, frameBytes + 17));
    const opened = envelope.openStream({ header, payload: source });
    expect((await opened.next()).value).toEqual(someBytes(3 * frameBytes).subarray(0, frameBytes));
    source.end(bytes.subarray(frameBytes + 17));
    expect(Buffer.concat(await collect(opened))).toHaveLength(2 * frameBytes);
  });

  it('reads no more of its source than a frame ahead', async () => {
    const { envelope } = aWorld();
    let given = 0;
    async function* endless() {
      for (;;) {
        given++;
        yield someBytes(1024);
      }
    }
    const { payload } = await envelope.sealStream(endless());
    expect(given).toBe(0);
    for (let frame = 1; frame <= 50; frame++) {
      await payload.next(); // ciphertext
      await payload.next(); // tag
      expect(given).toBe(4 * frame + 1);
    }
    await payload.return();
  });

  it('ends its source when its reader stops', async () => {
    const { envelope } = aWorld();
    const source = Readable.from(cut(someBytes(10 * frameBytes), 1000));
    for await (const _ of joinStream(await envelope.sealStream(source))) {
      if (_.length === frameBytes) break;
    }
    expect(source.destroyed).toBe(true);
    const sealed = await envelope.seal(someBytes(10 * frameBytes));
    const again = Readable.from(cut(joinEnvelope(sealed), 1000));
    for await (const _ of envelope.openStream(await splitStream(again))) break;
    expect(again.destroyed).toBe(true);
  });

  it('fails as its source fails', async () => {
    const { envelope } = aWorld();
    const fault = new AppError('storage_unavailable', { detail: 'planted' });
    async function* broken() {
      yield someBytes(frameBytes);
      throw fault;
    }
    const stream = await envelope.sealStream(broken());
    await expect(collect(joinStream(stream))).rejects.toBe(fault);
    const { header } = await envelope.seal(text(''));
    await expect(collect(envelope.openStream({ header, payload: broken() }))).rejects.toBe(fault);
  });

  it('refuses a source of text', async () => {
    const { envelope } = aWorld();
    const source = Readable.from(['text'], { encoding: 'utf8' });
    const stream = await envelope.sealStream(source);
    await expect(collect(joinStream(stream))).rejects.toMatchObject({ code: 'invalid_input' });
  });

  it('stops between frames when its signal fires', async () => {
    const { envelope } = aWorld();
    const controller = new AbortController();
    const { signal } = controller;
    const reason = new Error('enough');
    const sealed = await envelope.sealStream([someBytes(5 * frameBytes)], { signal });
    const sealing = joinStream(sealed);
    await sealing.next();
    await sealing.next();
    const opening = envelope.openStream(await envelope.seal(someBytes(5 * frameBytes)), { signal });
    await opening.next();
    controller.abort(reason);
    await expect(collect(sealing)).rejects.toBe(reason);
    await expect(collect(opening)).rejects.toBe(reason);
  });

  it('is opened as a whole up to a number of bytes', async () => {
    const { envelope } = aWorld();
    const sealed = await envelope.seal(someBytes(2 * frameBytes));
    expect(await envelope.openAll(sealed, { maxBytes: 2 * frameBytes })).toHaveLength(8192);
    await expect(envelope.openAll(sealed, { maxBytes: 2 * frameBytes - 1 })).rejects.toMatchObject({
      code: 'invalid_input',
    });
  });
});

describe('an envelope in one piece', () => {
  it('is split where it was joined', async () => {
    const { envelope } = aWorld();
    const sealed = await envelope.seal(someBytes(2 * frameBytes));
    const bytes = joinEnvelope(sealed);
    const { header, payload } = splitEnvelope(bytes);
    expect(header).toEqual(sealed.header);
    expect(Buffer.concat(payload)).toEqual(Buffer.concat(sealed.payload));
  });

  it.each([1, 7, 72, 73, 74, 200, 5000])(
    'is split off a stream of %i bytes at a time',
    async (size) => {
      const { envelope } = aWorld();
      const bytes = joinEnvelope(await envelope.seal(someBytes(frameBytes)));
      const stream = await splitStream(pieces(bytes, size));
      expect(Buffer.concat(await collect(envelope.openStream(stream)))).toEqual(
        someBytes(frameBytes),
      );
    },
  );

  it('is no envelope when it ends within the header, or begins with something else', async () => {
    const { envelope } = aWorld();
    const bytes = joinEnvelope(await envelope.seal(text('x')));
    const { header } = splitEnvelope(bytes);
    for (const wrong of [
      ...Array.from({ length: header.length }, (_, length) => bytes.subarray(0, length)),
      text('KTEW and more'),
      text('{"json":true}'),
    ]) {
      expect(() => splitEnvelope(wrong)).toThrow('corrupt');
      const source = Readable.from([wrong]);
      await expect(splitStream(source)).rejects.toMatchObject({ code: 'corrupt' });
      expect(source.destroyed).toBe(true);
    }
  });

  it('is not read on when nobody reads its payload', async () => {
    const { envelope } = aWorld();
    const bytes = joinEnvelope(await envelope.seal(someBytes(9 * frameBytes)));
    const source = Readable.from(cut(bytes, 300));
    const { payload } = await splitStream(source);
    await payload.next();
    await payload.return();
    expect(source.destroyed).toBe(true);
  });
});
