import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KeyRotationPolicyProperties } from '@azure/keyvault-keys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nominalDays, parseDuration, shift } from '../../local/key-vault/iso-duration.ts';
import { eventually } from './emulator-client.ts';
import { collect, type KeyGround, prepareKeyGround, refusal, serveKeys } from './key-ground.ts';

const day = 86_400;
let at: KeyGround;

beforeAll(async () => {
  at = await prepareKeyGround();
});
afterAll(() => at.ground.stop());

const notify = { trigger: { timeBeforeExpiry: 'P30D' }, action: { type: 'Notify' } };

async function advance(seconds: number): Promise<void> {
  const { status } = await at.control('POST', '/clock/advance', { seconds });
  expect(status).toBe(200);
}

/** Seconds since 1970 on the emulator's clock. */
async function now(): Promise<number> {
  const { json } = await at.control('GET', '/clock');
  return Math.floor(Date.parse(json.now) / 1000);
}

async function versionsOf(name: string) {
  const versions = await collect(at.client.listPropertiesOfKeyVersions(name));
  return versions.toSorted((a, b) => a.createdOn!.getTime() - b.createdOn!.getTime());
}

function eventsOf(name: string): string[] {
  return at.events
    .filter(({ subject }) => subject === name)
    .map(({ eventType }) => eventType.replace('Microsoft.KeyVault.', ''));
}

function seconds(date: Date | undefined): number {
  return date!.getTime() / 1000;
}

describe('rotating a key by hand', () => {
  it.each([
    { kty: 'RSA', key_size: 2048 },
    { kty: 'RSA-HSM', key_size: 2048, public_exponent: 3 },
    { kty: 'EC', crv: 'P-521' },
    { kty: 'EC-HSM', crv: 'P-256K' },
    { kty: 'oct-HSM', key_size: 192 },
  ])('gives %o new material, and keeps what it is for', async (body) => {
    const name = `by-hand-${body.kty}`;
    const key_ops = body.kty === 'oct-HSM' ? ['wrapKey'] : ['verify'];
    const tags = { owner: 'ops' };
    const made = await at.send('POST', `/keys/${name}/create`, { ...body, key_ops, tags });
    const rotated = await at.send('POST', `/keys/${name}/rotate`);
    expect(rotated.status).toBe(200);
    const { key, attributes } = rotated.json;
    expect(key.kid).not.toBe(made.json.key.kid);
    expect(rotated.json.tags).toEqual(tags);
    expect(key).toMatchObject({ kty: body.kty, key_ops });
    expect([key.crv, key.e]).toEqual([made.json.key.crv, made.json.key.e]);
    expect(key.n?.length).toBe(made.json.key.n?.length);
    if (body.kty !== 'oct-HSM') {
      expect(key.n ?? key.x).not.toBe(made.json.key.n ?? made.json.key.x);
    }
    expect(attributes).not.toHaveProperty('exp');
    const latest = await at.send('GET', `/keys/${name}`);
    expect(latest.json).toEqual(rotated.json);
    const created = 'KeyNewVersionCreated';
    await eventually(() => (eventsOf(name).length === 2 ? true : undefined));
    expect(eventsOf(name)).toEqual([created, created]);
  });

  it('lets the new version end as the policy says, by the calendar', async () => {
    const made = await at.client.createEcKey('ending');
    await at.client.updateKeyRotationPolicy('ending', { expiresIn: 'P2Y6M' });
    const { properties } = await at.client.rotateKey('ending');
    const expected = new Date(properties.createdOn!);
    expected.setUTCMonth(expected.getUTCMonth() + 30);
    expect(properties.expiresOn).toEqual(expected);
    expect(properties.enabled).toBe(true);
    const { version } = made.properties;
    const first = await at.client.getKey('ending', { version: version! });
    expect(first.properties.expiresOn).toBeUndefined();
  });

  it('refuses what is not there', async () => {
    expect(await refusal(at.client.rotateKey('nowhere'))).toMatchObject({
      code: 'KeyNotFound',
      statusCode: 404,
    });
  });

  it('does not bring back a key that is deleted while the material is made', async () => {
    await at.client.createRsaKey('vanishing', { keySize: 4096 });
    const rotating = refusal(at.client.rotateKey('vanishing'));
    await at.send('DELETE', '/keys/vanishing');
    expect(await rotating).toMatchObject({ code: 'KeyNotFound', statusCode: 404 });
    expect((await at.send('GET', '/keys/vanishing')).status).toBe(404);
  });
});

describe('a rotation policy', () => {
  beforeAll(async () => {
    await at.client.createEcKey('ruled');
  });
  const put = (body: unknown) => at.send('PUT', '/keys/ruled/rotationpolicy', body);

  it('is the service’s own until one is set, and has no id then', async () => {
    await at.client.createEcKey('unruled');
    const { status, json } = await at.send('GET', '/keys/unruled/rotationpolicy');
    expect([status, json]).toEqual([200, { lifetimeActions: [notify], attributes: null }]);
    expect(await at.client.getKeyRotationPolicy('unruled')).toMatchObject({
      lifetimeActions: [{ action: 'Notify', timeBeforeExpiry: 'P30D' }],
    });
  });

  it('is there for keys only', async () => {
    const expected = { code: 'KeyNotFound', statusCode: 404 };
    expect(await refusal(at.client.getKeyRotationPolicy('nowhere'))).toMatchObject(expected);
    const setting = at.client.updateKeyRotationPolicy('nowhere', { expiresIn: 'P90D' });
    expect(await refusal(setting)).toMatchObject(expected);
  });

  it('gets a Notify action when it has none', async () => {
    const rotate = { trigger: { timeAfterCreate: 'P2M' }, action: { type: 'Rotate' } };
    const { status, json } = await put({ lifetimeActions: [rotate], attributes: {} });
    expect([status, json]).toEqual([
      200,
      {
        id: `${at.url}/keys/ruled/rotationpolicy`,
        lifetimeActions: [rotate, notify],
        attributes: { created: expect.any(Number), updated: expect.any(Number) },
      },
    ]);
    expect((await at.send('GET', '/keys/ruled/rotationpolicy')).json).toEqual(json);
  });

  const accepted: readonly KeyRotationPolicyProperties[] = [
    {
      lifetimeActions: [
        { action: 'Rotate', timeBeforeExpiry: 'P30D' },
        { action: 'Notify', timeBeforeExpiry: 'P7D' },
      ],
      expiresIn: 'P90D',
    },
    { lifetimeActions: [{ action: 'Rotate', timeAfterCreate: 'P7D' }], expiresIn: 'P28D' },
    { lifetimeActions: [{ action: 'Rotate', timeBeforeExpiry: 'P21D' }], expiresIn: 'P28D' },
    { lifetimeActions: [{ action: 'Rotate', timeAfterCreate: 'P1Y' }], expiresIn: 'P2Y' },
    { lifetimeActions: [{ action: 'Rotate', timeAfterCreate: 'P1W' }] },
    { lifetimeActions: [{ action: 'Notify', timeBeforeExpiry: 'P10D' }], expiresIn: 'P1M' },
    { expiresIn: 'P1Y2M3D' },
  ];
  it.each(accepted)('may be %o', async (policy) => {
    const set = await at.client.updateKeyRotationPolicy('ruled', policy);
    expect(set.expiresIn).toBe(policy.expiresIn);
    expect(set.lifetimeActions).toEqual(
      expect.arrayContaining(
        (policy.lifetimeActions ?? []).map((action) => expect.objectContaining(action)),
      ),
    );
    expect(set.lifetimeActions!.filter(({ action }) => action === 'Notify')).toHaveLength(1);
  });

  const rotate = (trigger: unknown, type: unknown = 'Rotate') => ({ trigger, action: { type } });
  const actions = (...lifetimeActions: unknown[]) => ({ lifetimeActions });
  const living = (expiryTime: unknown, ...lifetimeActions: unknown[]) => ({
    lifetimeActions,
    attributes: { expiryTime },
  });
  it('takes null for a trigger that is not used, and types in any case', async () => {
    const trigger = { timeAfterCreate: 'P1Y', timeBeforeExpiry: null };
    const { json } = await put(living('P2Y', rotate(trigger, 'rotate')));
    expect(json.lifetimeActions[0]).toEqual(rotate({ timeAfterCreate: 'P1Y' }));
  });

  it.each([
    ['no body', undefined, 'Property  has invalid value\r\n'],
    [
      'days too few after creation',
      actions(rotate({ timeAfterCreate: 'P6D' })),
      'A trigger must be at least 7 days.',
    ],
    [
      'days too few before expiry',
      living('P90D', rotate({ timeBeforeExpiry: 'P6D' })),
      'A trigger must be at least 7 days.',
    ],
    [
      'a notice too short before expiry',
      living('P90D', rotate({ timeBeforeExpiry: 'P1D' }, 'Notify')),
      'A trigger must be at least 7 days.',
    ],
    ['a short life', living('P27D'), 'The expiry time must be at least 28 days.'],
    [
      'a rotation before no expiry',
      actions(rotate({ timeBeforeExpiry: 'P30D' })),
      'A rotation before expiry needs an expiry time.',
    ],
    [
      'a rotation within a week of the end',
      living('P28D', rotate({ timeAfterCreate: 'P22D' })),
      'A rotation must be at least 7 days after creation and before expiry.',
    ],
    [
      'a rotation within a week of creation',
      living('P28D', rotate({ timeBeforeExpiry: 'P22D' })),
      'A rotation must be at least 7 days after creation and before expiry.',
    ],
    [
      'two rotations',
      actions(rotate({ timeAfterCreate: 'P7D' }), rotate({ timeAfterCreate: 'P8D' })),
      'A rotation policy has at most one Rotate action.',
    ],
    [
      'two notices',
      living('P90D', notify, notify),
      'A rotation policy has at most one Notify action.',
    ],
    [
      'a notice after creation',
      actions(rotate({ timeAfterCreate: 'P7D' }, 'Notify')),
      'A Notify action is triggered by timeBeforeExpiry only.',
    ],
    ['no trigger', actions(rotate({})), 'A lifetime action has one trigger.'],
    [
      'two triggers',
      living('P90D', rotate({ timeAfterCreate: 'P7D', timeBeforeExpiry: 'P7D' })),
      'A lifetime action has one trigger.',
    ],
    [
      'another action',
      actions(rotate({ timeAfterCreate: 'P7D' }, 'Destroy')),
      'Property lifetimeActions.action.type has invalid value\r\n',
    ],
    [
      'no duration',
      actions(rotate({ timeAfterCreate: '90' })),
      'Property lifetimeActions.trigger has invalid value\r\n',
    ],
    ['hours', living('PT1000H'), 'Property attributes.expiryTime has invalid value\r\n'],
    ['nothing', living('P'), 'Property attributes.expiryTime has invalid value\r\n'],
    ['a huge life', living('P99999Y'), 'Property attributes.expiryTime has invalid value\r\n'],
    ['a number', living(90), 'Property attributes.expiryTime has invalid value\r\n'],
    [
      'actions that are no list',
      { lifetimeActions: {} },
      'Property lifetimeActions has invalid value\r\n',
    ],
  ])('is refused with %s, and the old one stays', async (_, body, message) => {
    const before = (await at.send('GET', '/keys/ruled/rotationpolicy')).json;
    const { status, json } = await put(body);
    expect([status, json]).toEqual([400, { error: { code: 'BadParameter', message } }]);
    expect((await at.send('GET', '/keys/ruled/rotationpolicy')).json).toEqual(before);
  });

  it('goes with the key into its backup, and through deletion', async () => {
    await at.client.createEcKey('carried');
    const policy = await at.client.updateKeyRotationPolicy('carried', { expiresIn: 'P90D' });
    const backup = (await at.client.backupKey('carried'))!;
    await (await at.client.beginDeleteKey('carried')).pollUntilDone();
    await (await at.client.beginRecoverDeletedKey('carried')).pollUntilDone();
    expect(await at.client.getKeyRotationPolicy('carried')).toEqual(policy);
    await (await at.client.beginDeleteKey('carried')).pollUntilDone();
    await at.client.purgeDeletedKey('carried');
    await at.client.restoreKeyBackup(backup);
    expect(await at.client.getKeyRotationPolicy('carried')).toEqual(policy);
  });
});

describe('a key that rotates by itself', () => {
  it('does so after its creation, again and again', async () => {
    const made = await at.client.createEcKey('after', { tags: { kept: 'yes' } });
    const lifetimeActions = [{ action: 'Rotate', timeAfterCreate: 'P10D' }] as const;
    await at.client.updateKeyRotationPolicy('after', {
      lifetimeActions: [...lifetimeActions],
      expiresIn: 'P60D',
    });
    await advance(10 * day - 5);
    expect(await versionsOf('after')).toHaveLength(1);
    await advance(35 * day);
    const versions = await versionsOf('after');
    expect(versions).toHaveLength(5);
    const first = seconds(made.properties.createdOn);
    expect(versions.map(({ createdOn }) => seconds(createdOn) - first)).toEqual(
      [0, 10, 20, 30, 40].map((days) => days * day),
    );
    const latest = await at.client.getKey('after');
    expect(latest.properties).toMatchObject({
      version: versions[4]!.version,
      tags: { kept: 'yes' },
    });
    expect(seconds(latest.properties.expiresOn) - seconds(latest.properties.createdOn)).toBe(
      60 * day,
    );
    await eventually(() => (eventsOf('after').length >= 5 ? true : undefined));
    expect(eventsOf('after')).toEqual(Array(5).fill('KeyNewVersionCreated'));
  });

  it('does so before its end, once it has one', async () => {
    await at.client.createEcKey('before');
    await at.client.updateKeyRotationPolicy('before', {
      lifetimeActions: [{ action: 'Rotate', timeBeforeExpiry: 'P20D' }],
      expiresIn: 'P90D',
    });
    await advance(100 * day);
    expect(await versionsOf('before')).toHaveLength(1);
    const expiresOn = new Date(((await now()) + 50 * day) * 1000);
    await at.client.updateKeyProperties('before', { expiresOn });
    await advance(30 * day - 5);
    expect(await versionsOf('before')).toHaveLength(1);
    await advance(10);
    expect(await versionsOf('before')).toHaveLength(2);
    await advance(70 * day);
    expect(await versionsOf('before')).toHaveLength(3);
  });

  it('does so soon when it is late already, and at once when the policy says less', async () => {
    await at.client.createEcKey('late');
    await advance(30 * day);
    await at.client.updateKeyRotationPolicy('late', {
      lifetimeActions: [{ action: 'Rotate', timeAfterCreate: 'P29D' }],
    });
    await expect.poll(async () => (await versionsOf('late')).length).toBe(2);
  });

  it('no more when the policy is taken back or the key is deleted, and again when it is recovered', async () => {
    const policy = { lifetimeActions: [{ action: 'Rotate', timeAfterCreate: 'P10D' }] } as const;
    const rules = { lifetimeActions: [...policy.lifetimeActions] };
    for (const name of ['calm', 'gone']) {
      await at.client.createEcKey(name);
      await at.client.updateKeyRotationPolicy(name, rules);
    }
    await at.client.updateKeyRotationPolicy('calm', {});
    await (await at.client.beginDeleteKey('gone')).pollUntilDone();
    await advance(20 * day);
    expect(await versionsOf('calm')).toHaveLength(1);
    await (await at.client.beginRecoverDeletedKey('gone')).pollUntilDone();
    await expect.poll(async () => (await versionsOf('gone')).length).toBe(2);
  });
});

it('keys, their policies and what is due outlive the process', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'keys-'));
  const dataFile = join(directory, 'state.json');
  const before = await serveKeys(at.ground, { dataFile });
  const made = await before.client.createRsaKey('kept');
  const policy = await before.client.updateKeyRotationPolicy('kept', {
    lifetimeActions: [{ action: 'Rotate', timeAfterCreate: 'P7D' }],
  });
  const { result } = await before.cryptoOf(made).encrypt('RSA-OAEP', Buffer.from('before'));
  await before.emulator.stop();

  const after = await serveKeys(at.ground, { dataFile });
  const versionId = made.properties.version!;
  const kept = await after.client.getKey('kept', { version: versionId });
  const opened = await after.cryptoOf(kept).decrypt('RSA-OAEP', result);
  expect(Buffer.from(opened.result).toString()).toBe('before');
  expect((await after.client.getKeyRotationPolicy('kept')).lifetimeActions).toEqual(
    policy.lifetimeActions,
  );
  await after.control('POST', '/clock/advance', { seconds: 8 * day });
  expect(await collect(after.client.listPropertiesOfKeyVersions('kept'))).toHaveLength(2);
  await after.emulator.stop();
  await rm(directory, { recursive: true });
});

describe('the notice that a key comes to its end', () => {
  async function expiring(name: string, days: number, policy?: KeyRotationPolicyProperties) {
    await at.client.createEcKey(name);
    if (policy !== undefined) await at.client.updateKeyRotationPolicy(name, policy);
    const expiresOn = new Date(((await now()) + days * day) * 1000);
    await at.client.updateKeyProperties(name, { expiresOn });
  }
  async function noticed(name: string): Promise<boolean> {
    // Events are handed over after the call that caused them.
    await new Promise((resolve) => setTimeout(resolve, 20));
    return eventsOf(name).includes('KeyNearExpiry');
  }

  it.each([
    ['30 days before it without a policy', 'plain', undefined, 30],
    [
      'as long before it as the policy says',
      'longer',
      {
        lifetimeActions: [{ action: 'Notify', timeBeforeExpiry: 'P50D' }],
        expiresIn: 'P1Y',
      } satisfies KeyRotationPolicyProperties,
      50,
    ],
    [
      'a week before it when the policy says so',
      'shorter',
      {
        lifetimeActions: [{ action: 'Notify', timeBeforeExpiry: 'P7D' }],
        expiresIn: 'P1Y',
      } satisfies KeyRotationPolicyProperties,
      7,
    ],
    [
      '30 days before it when the policy has no expiry time',
      'timeless',
      {
        lifetimeActions: [{ action: 'Notify', timeBeforeExpiry: 'P7D' }],
      } satisfies KeyRotationPolicyProperties,
      30,
    ],
  ] as const)('comes %s', async (_, name, policy, lead) => {
    await expiring(name, 80, policy);
    await advance((80 - lead) * day - 10);
    expect(await noticed(name)).toBe(false);
    await advance(20);
    expect(await noticed(name)).toBe(true);
    await advance(lead * day);
    await eventually(() => (eventsOf(name).length >= 3 ? true : undefined));
    expect(eventsOf(name)).toEqual(['KeyNewVersionCreated', 'KeyNearExpiry', 'KeyExpired']);
    const event = at.events.find(({ subject, eventType }) => {
      return subject === name && eventType.endsWith('KeyNearExpiry');
    });
    expect(event!.data).toMatchObject({ ObjectType: 'Key', ObjectName: name, VaultName: 'main' });
    expect(event!.data.Id).toBe((await at.client.getKey(name)).id);
  });
});

describe('calendar durations', () => {
  it.each([
    ['P90D', { months: 0, days: 90 }, 90],
    ['P2M', { months: 2, days: 0 }, 60],
    ['P1Y6M', { months: 18, days: 0 }, 545],
    ['P2W1D', { months: 0, days: 15 }, 15],
    ['P0D', { months: 0, days: 0 }, 0],
  ])('%s', (text, duration, days) => {
    expect(parseDuration(text)).toEqual(duration);
    expect(nominalDays(duration)).toBe(days);
  });

  it.each(['', 'P', '90D', 'P-1D', 'P1.5D', 'PT1H', 'P1DT1H', 'P1D1M', 'p1d', 'P10000D', 'P1D '])(
    'is not %o',
    (text) => expect(parseDuration(text)).toBeNull(),
  );

  it.each([
    ['2027-01-31T12:00:00Z', 'P1M', 1, '2027-02-28T12:00:00Z'],
    ['2028-01-31T12:00:00Z', 'P1M', 1, '2028-02-29T12:00:00Z'],
    ['2027-12-15T00:00:00Z', 'P1Y1M', 1, '2029-01-15T00:00:00Z'],
    ['2027-03-31T00:00:00Z', 'P1M', -1, '2027-02-28T00:00:00Z'],
    ['2027-03-01T00:00:00Z', 'P1D', -1, '2027-02-28T00:00:00Z'],
    ['2027-01-31T00:00:00Z', 'P1M1D', 1, '2027-03-01T00:00:00Z'],
  ] as const)('%s and %s (%i) is %s', (from, text, sign, to) => {
    const shifted = shift(Date.parse(from) / 1000, parseDuration(text)!, sign);
    expect(new Date(shifted * 1000).toISOString()).toBe(to.replace('Z', '.000Z'));
  });
});
