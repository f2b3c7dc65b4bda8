import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { parseAccessEntry } from '../../../src/core/vault/access-entry.ts';
import { createAccessLog } from '../../../src/core/vault/access-log.ts';
import { vaultCache } from '../../../src/core/vault/cache.ts';
import { findOperation, operationNames } from '../../../src/core/vault/operation-names.ts';
import { type Recording, record, slowVault } from './support.ts';

const value = { value: new SecretString('hunter2-canary') };
const minute = 60_000;

describe('the access log', () => {
  let lines: string[];
  let recording: Recording;
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
    lines = [];
    const cache = { ...vaultCache, ttlMs: minute };
    recording = record({ instances: ['api-1'], cache, sink: (line) => lines.push(line) });
    recording.vaults.onCall(slowVault(20));
  });
  afterEach(() => {
    recording.close();
    vi.useRealTimers();
  });
  const entries = () => lines.map(parseAccessEntry);
  const done = async <T>(work: Promise<T>): Promise<T> => {
    work.catch(() => undefined);
    await vi.advanceTimersByTimeAsync(2 * minute);
    return work;
  };

  it('writes one line for a read that misses, and one for a hit', async () => {
    const secrets = recording.secrets(0);
    const { version } = await done(secrets.set('orders-db', value));
    const read = secrets.get('orders-db');
    await vi.advanceTimersByTimeAsync(20);
    await read;
    await secrets.get('orders-db');
    const about = { instance: 'api-1', caller: 'orders-api', vault: 'main', object: 'orders-db' };
    expect(entries()).toMatchObject([
      { ...about, operation: 'setSecret', cache: null, requests: 1, servedVersion: version },
      { ...about, operation: 'getSecret', cache: 'miss', requests: 1, ms: 20, outcome: 'ok' },
      { ...about, operation: 'getSecret', cache: 'hit', requests: 0, ms: 0, version: null },
    ]);
  });

  it('tells a refresh in the background from the hit that set it off', async () => {
    const secrets = recording.secrets(0);
    await done(secrets.set('orders-db', value));
    const read = secrets.get('orders-db');
    await vi.advanceTimersByTimeAsync(0.9 * minute);
    await read;
    await secrets.get('orders-db');
    await vi.advanceTimersByTimeAsync(20);
    expect(entries().map(({ cache, requests }) => [cache, requests])).toEqual([
      ...[
        [null, 1],
        ['miss', 1],
        ['hit', 0],
        ['refresh', 1],
      ],
    ]);
  });

  it('does so, too, when the refresh is over first', async () => {
    const log = createAccessLog({ sink: (line) => lines.push(line), instance: 'b' });
    const call = { vault: 'main', operation: 'getSecret', object: 'orders-db' };
    const get = async () => {
      log.observer.callStarted?.(call).ended({ outcome: 'ok', attempts: 1, ms: 0 });
      log.observer.readEnded?.(call, { source: 'hit', outcome: 'ok', ms: 0 });
    };
    await log.logged({ alias: 'main', secrets: { get }, keys: {} }).secrets.get();
    const sources = entries().map(({ cache, requests }) => [cache, requests]);
    expect(sources).toEqual([
      ['hit', 0],
      ['refresh', 1],
    ]);
  });

  it('counts a thousand first reads as one request', async () => {
    const secrets = recording.secrets(0);
    await done(secrets.set('orders-db', value));
    const reads = Array.from({ length: 1_000 }, () => secrets.get('orders-db'));
    await done(Promise.all(reads));
    const sources = entries().map(({ cache }) => cache);
    expect(sources.filter((cache) => cache === 'shared')).toHaveLength(999);
    expect(entries().reduce((sum, { requests }) => sum + requests, 0)).toBe(2);
  });

  it('counts retries, and those that were 429s', async () => {
    let calls = 0;
    recording.vaults.onCall(async (_, run) => {
      calls++;
      if (calls <= 2) throw new AppError('vault_throttled', { detail: '429' });
      await run();
    });
    const secrets = recording.secrets(0);
    const failure = await done(secrets.get('orders-db')).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'not_found' });
    expect(entries()).toMatchObject([
      { outcome: 'not_found', cache: 'miss', requests: 3, throttled: 2, servedVersion: null },
    ]);
  });

  it('writes a list of many pages as one line, when its reader is done with it', async () => {
    const lists = createAccessLog({ sink: (line) => lines.push(line), instance: 'b' });
    const { secrets } = lists.logged(recording.vaults.get('main'));
    for (let index = 0; index < 30; index++) await done(secrets.set(`s-${index}`, value));
    lines.length = 0;
    const names: string[] = [];
    const list = (async () => {
      for await (const { name } of secrets.list()) names.push(name);
    })();
    await done(list);
    expect(names).toHaveLength(30);
    expect(entries()).toMatchObject([{ operation: 'getSecrets', object: null, ms: 40 }]);
  });

  it('names the caller on whose behalf something is asked', async () => {
    const { logs } = recording;
    const secrets = recording.secrets(0);
    await done(logs[0]!.as('mail-api', () => secrets.set('orders-db', value)));
    await done(secrets.get('orders-db'));
    expect(entries().map(({ caller }) => caller)).toEqual(['mail-api', 'orders-api']);
  });

  it('writes down neither values nor what is no name', async () => {
    const secrets = recording.secrets(0);
    await done(secrets.set('orders-db', value));
    await done(secrets.get('orders-db'));
    const typo = secrets.get('hunter2 canary, "passed as a name"\n');
    await expect(done(typo)).rejects.toMatchObject({ code: 'invalid_input' });
    expect(entries().at(-1)).toMatchObject({ object: null, outcome: 'invalid_input' });
    expect(lines.join()).not.toMatch(/hunter2/);
  });

  it('fails nothing when its sink fails, and counts what is lost', async () => {
    const log = createAccessLog({
      instance: 'b',
      sink: () => {
        throw new Error('disk full');
      },
    });
    const { secrets } = log.logged(recording.vaults.get('main'));
    await done(secrets.set('orders-db', value));
    expect(log.lost()).toBe(1);
  });
});

describe('names of operations', () => {
  it('are each that of one method', () => {
    const names = Object.values(operationNames).flatMap((methods) => Object.values(methods));
    expect(new Set(names).size).toBe(names.length);
    expect(findOperation('getSecretVersions')).toMatchObject({ effect: 'read', isList: true });
    expect(findOperation('recoverDeletedKey')).toMatchObject({ type: 'key', effect: 'write' });
    expect(findOperation('sign')).toMatchObject({ effect: 'use', isList: false });
    expect(findOperation('getFoo')).toBeNull();
  });
});
