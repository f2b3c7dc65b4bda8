import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { TokenCredential } from '@azure/identity';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FaultRule } from '../../local/key-vault/faults.ts';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { processCredential } from '../../src/core/azure/credential.ts';
import { createVaults, type VaultOptions } from '../../src/core/azure/key-vault.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import { vaultBreaker } from '../../src/core/vault/breaker.ts';
import { vaultBudget } from '../../src/core/vault/budget.ts';
import { ObjectCache, vaultCache } from '../../src/core/vault/cache.ts';
import { clientVaults } from '../../src/core/vault/clients.ts';
import { vaultConcurrency } from '../../src/core/vault/concurrency.ts';
import type { Limits } from '../../src/core/vault/pipeline.ts';
import { VaultError } from '../../src/core/vault/vault-error.ts';
import { handClock, recorder } from '../unit/vault/support.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { control, patient } from './vault-subjects.ts';

const minute = 60_000;
const value = (text: string) => ({ value: new SecretString(text) });
const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });
/** For calls that are to fail: each with one try. */
const once: Limits = { perTryMs: 1_000, overallMs: 1_000, firstDelayMs: 5_000, maxDelayMs: 5_000 };

let ground: Ground;
let emulator: KeyVaultEmulator;
let names = 0;
let name = '';
beforeAll(async () => {
  ground = await prepareGround();
  setDefaultCACertificates([...getCACertificates('default'), ground.ca.caPem]);
  emulator = await ground.startVaults({ vaults: [{ name: 'main' }, { name: 'second' }] });
});
afterAll(() => ground?.stop());
beforeEach(async () => {
  await control(emulator, 'DELETE', '/faults');
  name = `guarded-${++names}`;
  await direct('main').set(name, value('primary'));
  await direct('second').set(name, value('secondary'));
  await control(emulator, 'DELETE', '/audit');
});

const urlOf = (vault: string) => emulator.vaults.find((one) => one.name === vault)?.url ?? '';
const fault = (operation: string, kind: FaultRule['fault'], more: Partial<FaultRule> = {}) =>
  control(emulator, 'POST', '/faults', { vault: 'main', operation, fault: kind, ...more });
const down = (times = 0) => fault('*', { kind: 'status', status: 503 }, { times });

function direct(vault: string, options: VaultOptions = { limits: patient }) {
  const address = { alias: vault, purpose: 'main', url: urlOf(vault) } as const;
  return createVaults([address], processCredential(), options).get(vault).secrets;
}

/** Everything on, as a user of the client has it, on a clock that is moved by hand. */
function guarded({ limits = once, staleOnErrorMs = 0, credential = processCredential() } = {}) {
  const clock = handClock();
  const observer = recorder();
  const address = {
    ...({ alias: 'main', purpose: 'main' } as const),
    ...{ url: urlOf('main'), secondaryUrl: urlOf('second') },
  };
  const options: VaultOptions = {
    ...{ limits, observer, clock: clock.now, breaker: vaultBreaker },
    ...{ budget: vaultBudget, concurrency: vaultConcurrency },
  };
  const vaults = createVaults([address], credential, options);
  const cache = new ObjectCache({ ...vaultCache, staleOnErrorMs }, clock.now);
  const vault = clientVaults(vaults, { cache, observer }).get('main');
  const read = async (of = name) => {
    const { value, served } = await vault.secrets.get(of);
    return [value.expose(), served.servedBy, served.fromCache, served.stale];
  };
  return {
    vault,
    secrets: vault.secrets,
    plain: vaults.get('main').secrets,
    read,
    clock,
    observer,
  };
}

interface Row {
  readonly vault: string;
  readonly operation: string;
  readonly status: number | null;
}

/** What reached a vault, but for the first request of a client, which only asks for the challenge. */
async function arrived(vault = 'main'): Promise<Row[]> {
  const { value: rows } = await control<{ value: Row[] }>(emulator, 'GET', '/audit');
  return rows.filter((row) => row.vault === vault && row.status !== 401);
}

describe('a guarded vault', () => {
  it('gets one request when a thousand want one secret at once', async () => {
    const { read } = guarded({ limits: patient });
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => read()));
    expect(answers).toEqual(answers.map(() => ['primary', 'primary', false, false]));
    expect(await read()).toEqual(['primary', 'primary', true, false]);
    expect(await arrived()).toHaveLength(1);
  });

  it('is asked once for a key, and no more for what needs only its public half', async () => {
    const { vault } = guarded({ limits: patient });
    const { id } = await vault.keys.create(name, { type: 'RSA' });
    await control(emulator, 'DELETE', '/audit');
    const plaintext = Buffer.from('correct horse');
    const encrypt = () => vault.keys.encrypt(name, { algorithm: 'RSA-OAEP-256', plaintext });
    const encrypted = await Promise.all(Array.from({ length: 20 }, encrypt));
    expect(encrypted.map(({ keyId }) => keyId)).toEqual(encrypted.map(() => id));
    expect((await arrived()).map(({ operation }) => operation)).toEqual(['getKey']);
    const ciphertext = encrypted[0]?.result ?? plaintext;
    const decrypted = await vault.keys.decrypt(name, { algorithm: 'RSA-OAEP-256', ciphertext });
    expect(Buffer.from(decrypted.result)).toEqual(plaintext);
    expect((await arrived()).map(({ operation }) => operation)).toEqual(['getKey', 'decrypt']);
  });

  it('gets one request when the time of a secret is nearly over, and none waits for it', async () => {
    const { read, clock } = guarded({ limits: patient });
    await read();
    await direct('main').set(name, value('newer'));
    await control(emulator, 'DELETE', '/audit');
    clock.pass(4 * minute);
    const answers = await Promise.all(Array.from({ length: 100 }, () => read()));
    expect(answers).toEqual(answers.map(() => ['primary', 'primary', true, false]));
    await expect.poll(() => read()).toEqual(['newer', 'primary', true, false]);
    expect(await arrived()).toHaveLength(1);
  });

  it('gets one request for a secret that does not exist', async () => {
    const { secrets } = guarded({ limits: patient });
    for (let n = 0; n < 5; n++) {
      await expect(secrets.get('nowhere')).rejects.toEqual(failure('not_found'));
    }
    expect(await arrived()).toHaveLength(1);
  });

  it.each([
    ['5xx', { kind: 'status', status: 503 }],
    ['resets', { kind: 'reset' }],
    ['silence', { kind: 'hang' }],
  ] as const)(
    'is left alone after five failures by %s, then asked once, then used again',
    async (_, kind) => {
      const { plain, vault, clock } = guarded({
        limits: { ...once, perTryMs: 300, overallMs: 300 },
      });
      await plain.get(name);
      await fault('*', kind, { times: 6 });
      for (let n = 0; n < 5; n++) {
        await expect(plain.get(name)).rejects.toEqual(failure('vault_unavailable'));
      }
      await control(emulator, 'DELETE', '/audit');
      for (let n = 0; n < 5; n++) {
        await expect(plain.get(name)).rejects.toEqual(failure('circuit_open'));
      }
      expect(await arrived()).toEqual([]);
      clock.pass(30_000);
      const probes = await Promise.allSettled(Array.from({ length: 10 }, () => plain.get(name)));
      expect(probes.filter(({ status }) => status === 'fulfilled')).toEqual([]);
      expect(await arrived()).toHaveLength(1);
      clock.pass(30_000);
      await plain.get(name);
      expect(vault.health().circuit).toBe('closed');
    },
  );

  it('is written again only when its circuit has closed', async () => {
    const { secrets, plain, clock } = guarded();
    await down(5);
    for (let n = 0; n < 5; n++) await plain.get(name).catch(() => undefined);
    await expect(secrets.set(name, value('x'))).rejects.toEqual(failure('circuit_open'));
    clock.pass(30_000);
    await secrets.set(name, value('x'));
    expect(await arrived('second')).toEqual([]);
  });

  it('is answered for by the secondary one while its circuit is open', async () => {
    const { read, plain, secrets, clock } = guarded();
    await down();
    for (let n = 0; n < 5; n++) await plain.get(name).catch(() => undefined);
    expect(await read()).toEqual(['secondary', 'secondary', false, false]);
    const listed: unknown[] = [];
    for await (const item of secrets.list()) if (item.name === name) listed.push(item);
    expect(listed).toMatchObject([{ served: { servedBy: 'secondary' } }]);
    await control(emulator, 'DELETE', '/faults');
    clock.pass(30_000);
    expect(await read()).toEqual(['primary', 'primary', false, false]);
  });

  it('has its secrets served stale while it and the secondary one are down', async () => {
    const { read, plain, clock } = guarded({ staleOnErrorMs: 60 * minute });
    await read();
    await control(emulator, 'POST', '/faults', {
      ...{ operation: '*', times: 0, fault: { kind: 'status', status: 500 } },
    });
    for (let n = 0; n < 5; n++) await plain.get(name).catch(() => undefined);
    clock.pass(5 * minute);
    expect(await read()).toEqual(['primary', 'primary', true, true]);
  });

  it('takes no writes but goes on being read when it has failed over', async () => {
    const { vault, secrets, read } = guarded({ limits: patient });
    await control(emulator, 'PUT', '/vaults/main/mode', { readOnly: true });
    try {
      expect(vault.health().readOnlyAt).toBeNull();
      for (let n = 0; n < 10; n++) {
        await expect(secrets.set(name, value('x'))).rejects.toMatchObject({
          ...{ code: 'vault_read_only', refusal: { status: 503 } },
        });
      }
      expect(await read()).toEqual(['primary', 'primary', false, false]);
      expect(vault.health()).toMatchObject({ circuit: 'closed', readOnlyAt: expect.any(Date) });
      expect(await arrived('second')).toEqual([]);
    } finally {
      await control(emulator, 'PUT', '/vaults/main/mode', { readOnly: false });
    }
  });

  it('is asked less often once it has said 429', async () => {
    const { plain, vault } = guarded();
    await fault('getSecret', { kind: 'status', status: 429, code: 'Throttled' });
    const before = vault.health().share;
    await expect(plain.get(name)).rejects.toEqual(failure('vault_throttled'));
    expect(vault.health().share).toBe((before ?? 0) / 2);
  });

  it('has every call told by the names of its own log', async () => {
    const { secrets, read, observer } = guarded({ limits: patient });
    await read();
    await read();
    const { version } = await secrets.set(name, value('x'));
    await secrets.update(name, version, { tags: {} });
    for await (const _ of secrets.list()) break;
    for await (const _ of secrets.listVersions(name)) break;
    await secrets.erase(name);
    expect(observer.lines.filter((line) => !line.startsWith('call '))).toEqual([
      `ended main getSecret ${name} ok 1`,
      `read main getSecret ${name} miss ok`,
      `read main getSecret ${name} hit ok`,
      `ended main setSecret ${name} ok 1`,
      `ended main updateSecret ${name} ok 1`,
      'ended main getSecrets - ok 1',
      `ended main getSecretVersions ${name} ok 1`,
      `ended main deleteSecret ${name} ok 1`,
      `ended main purgeDeletedSecret ${name} ok 1`,
    ]);
  });
});

describe('what a vault answers', () => {
  it.each([
    [408, 'vault_unavailable', true],
    [429, 'vault_throttled', true],
    [500, 'vault_unavailable', true],
    [502, 'vault_unavailable', true],
    [503, 'vault_unavailable', true],
    [504, 'vault_unavailable', true],
    [501, 'vault_unavailable', true],
    [505, 'vault_unavailable', true],
    [400, 'vault_rejected', false],
    [403, 'vault_denied', false],
    [404, 'vault_rejected', false],
    [409, 'vault_unavailable', true],
  ] as const)(
    'is what it is, and is asked for again or not: %i',
    async (status, code, isRepeated) => {
      const limits = { perTryMs: 1_000, overallMs: 2_000, firstDelayMs: 20, maxDelayMs: 20 };
      const { plain } = guarded({ limits });
      await fault('getSecret', { kind: 'status', status, code: 'Said' }, { times: 2 });
      const outcome = await plain.get(name).then(
        () => 'ok',
        (error: unknown) => error,
      );
      const refusal = { status, code: 'Said', innerCode: null };
      const call = { vault: 'main', operation: 'getSecret', object: name };
      if (isRepeated) expect(outcome).toBe('ok');
      else expect(outcome).toMatchObject({ code, refusal, call, retryable: false });
      expect(await arrived()).toHaveLength(isRepeated ? 3 : 1);
      await fault('setSecret', { kind: 'status', status, code: 'Said' });
      const error = await plain.set(name, value('x')).catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(VaultError);
      expect(error).toMatchObject({ code, refusal, call: { ...call, operation: 'setSecret' } });
    },
  );

  it('has an inner code, too', async () => {
    const { plain } = guarded({ limits: patient });
    const { properties } = await plain.get(name);
    await plain.update(name, properties.version, { enabled: false });
    await expect(plain.get(name)).rejects.toMatchObject({
      code: 'object_disabled',
      refusal: { status: 403, code: 'Forbidden', innerCode: 'SecretDisabled' },
    });
  });

  it.each([
    ['1', 1_000],
    ['3600', 3_600_000],
    ['0', 0],
    ['not a number', null],
    ['', null],
    [new Date(Date.now() + 3_600_000).toUTCString(), 3_600_000],
  ])('may name a delay: Retry-After: %s', async (retryAfter, ms) => {
    const { plain } = guarded();
    await fault('getSecret', { kind: 'status', status: 429, code: 'Throttled', retryAfter });
    const error = (await plain.get(name).catch((cause: unknown) => cause)) as VaultError;
    expect(error.code).toBe('vault_throttled');
    if (ms === null || ms < 100_000) expect(error.retryAfterMs).toBe(ms);
    else expect(Math.abs((error.retryAfterMs ?? 0) - ms)).toBeLessThan(60_000);
  });

  it('is waited for no longer than a try may take, however slowly it comes', async () => {
    const { plain } = guarded({ limits: { ...once, perTryMs: 300, overallMs: 300 } });
    await plain.get(name);
    await fault('getSecret', { kind: 'slow-body', ms: 20_000 });
    await expect(plain.get(name)).rejects.toEqual(failure('vault_unavailable'));
    expect((await plain.get(name)).value.expose()).toBe('primary');
  });

  it('is an outage when it has no body', async () => {
    const { plain } = guarded();
    await fault('getSecret', { kind: 'empty-body', status: 404 });
    await expect(plain.get(name)).rejects.toEqual(failure('vault_unavailable'));
  });
});

describe('a token that the vault no longer takes', () => {
  /** Gives a token that is over until it is asked for one by claims, as is a credential that remembers. */
  const remembering = async (fresh: 'valid' | 'over' = 'valid') => {
    const audience = 'https://vault.azure.net';
    const over = await ground.identity.issueToken({ audience, expiresInSeconds: -600 });
    const valid = await ground.identity.issueToken({ audience });
    const asked: (string | undefined)[] = [];
    const credential: TokenCredential = {
      getToken: async (_, options) => {
        asked.push(options?.claims);
        const token = options?.claims !== undefined && fresh === 'valid' ? valid : over;
        return { token, expiresOnTimestamp: Date.now() + 3_600_000 };
      },
    };
    return { credential, asked };
  };

  it('is replaced by a new one, with which the call is made once more', async () => {
    const { credential, asked } = await remembering();
    const { plain } = guarded({ credential, limits: patient });
    expect((await plain.get(name)).value.expose()).toBe('primary');
    await plain.set(name, value('written'));
    expect((await plain.get(name)).value.expose()).toBe('written');
    expect(asked.filter((claims) => claims !== undefined)).toHaveLength(1);
  });

  it('is replaced for a write, which is done once', async () => {
    const { credential } = await remembering();
    const { plain } = guarded({ credential, limits: patient });
    await plain.set(name, value('written'));
    const versions: string[] = [];
    for await (const { version } of plain.listVersions(name)) versions.push(version);
    expect(versions).toHaveLength(2);
  });

  it('is a refusal when the new one is not taken either, and is not replaced all the time', async () => {
    const { credential, asked } = await remembering('over');
    const { plain, vault } = guarded({ credential, limits: patient });
    for (let n = 0; n < 10; n++) {
      await expect(plain.get(name)).rejects.toMatchObject({
        ...{ code: 'vault_denied', refusal: { status: 401 } },
      });
    }
    expect(asked.filter((claims) => claims !== undefined)).toHaveLength(1);
    expect(vault.health().circuit).toBe('closed');
  });

  it('is replaced once for all calls that meet it', async () => {
    const { credential, asked } = await remembering();
    const { plain } = guarded({ credential, limits: patient });
    const found = await Promise.all(Array.from({ length: 20 }, () => plain.get(name)));
    expect(found.every((one) => one.value.expose() === 'primary')).toBe(true);
    expect(asked.filter((claims) => claims !== undefined)).toHaveLength(1);
  });
});
