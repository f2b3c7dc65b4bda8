import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { takeDue, takeEvent, takeScanned } from '../../../src/core/rotation/intake.ts';
import { emptyRecord, rowId, shardOf } from '../../../src/core/rotation/records.ts';
import { createWorld, orders, type World } from '../../support/rotation-world.ts';

const version = 'a'.repeat(32);

function event(
  changes: { readonly type?: string; readonly vault?: string; readonly name?: string } = {},
) {
  const { type = 'SecretNearExpiry', vault = 'main', name = 'orders-db' } = changes;
  const kind = type.startsWith('Key') ? 'Key' : 'Secret';
  return {
    id: 'e1',
    topic: `/subscriptions/s/providers/Microsoft.KeyVault/vaults/${vault}`,
    subject: name,
    eventType: `Microsoft.KeyVault.${type}`,
    data: {
      Id: `https://${vault}.vault.simulated/${kind.toLowerCase()}s/${name}/${version}`,
      VaultName: vault,
      ObjectType: kind,
      ObjectName: name,
      Version: version,
    },
  };
}

async function auditOf(world: World): Promise<string> {
  const texts: string[] = [];
  for await (const name of world.log.list('audit/')) {
    texts.push(Buffer.from(await world.log.read(name)).toString());
  }
  return texts.join('');
}

describe('an event', () => {
  it('of near expiry becomes a message that names its version', async () => {
    const world = createWorld();
    const taken = await takeEvent(world.start().services, event());
    expect(taken).toMatchObject({ kind: 'requested' });
    expect(world.rotations.take()).toMatchObject({
      kind: 'rotate',
      ...orders,
      reason: 'near-expiry',
      requestedBy: 'event-grid',
      correlationId: 'e1',
      expectedBaseVersion: version,
    });
  });

  it('of expiry does too', async () => {
    const world = createWorld();
    await takeEvent(world.start().services, event({ type: 'SecretExpired' }));
    expect(world.rotations.take()).toMatchObject({ reason: 'expired' });
  });

  it.each([
    ['of a vault that is not ours', event({ vault: 'foreign' }), 'foreign_vault'],
    ['of the pending vault', event({ vault: 'pending' }), 'foreign_vault'],
    ['that is nonsense', { id: 'x', password: 'hunter2' }, 'malformed'],
    ['that is nothing', null, 'malformed'],
  ])('%s is an audited skip', async (_what, input, reason) => {
    const world = createWorld();
    expect(await takeEvent(world.start().services, input)).toEqual({ kind: 'skipped', reason });
    expect(world.rotations.take()).toBeNull();
    const audit = await auditOf(world);
    expect(audit).toMatch(/"action":"event\.(refused|skipped)"/);
    expect(audit).not.toContain('hunter2');
  });

  it.each(['SecretNewVersionCreated', 'KeyNewVersionCreated'])(
    'of a new version asks for nothing: %s',
    async (type) => {
      const world = createWorld();
      expect(await takeEvent(world.start().services, event({ type }))).toEqual({
        kind: 'skipped',
        reason: 'no_action',
      });
      expect(world.rotations.take()).toBeNull();
    },
  );

  async function rotated(): Promise<World> {
    const world = createWorld();
    await world.seed();
    await world.request(world.start());
    await world.converge();
    return world;
  }

  it('of a new version that a person tagged like a rotation starts none', async () => {
    const world = await rotated();
    const { value } = await world.latest();
    const tags = { rotationId: 'made-up' };
    await world.vaults.get('main').secrets.set('orders-db', { value, tags });
    const taken = await takeEvent(
      world.start().services,
      event({ type: 'SecretNewVersionCreated' }),
    );
    expect(taken).toEqual({ kind: 'skipped', reason: 'no_action' });
  });

  it.each([
    ['vault_unavailable', false],
    ['vault_denied', true],
  ] as const)('of a new version in a vault that answers %s is done: %s', async (code, isDone) => {
    const world = await rotated();
    world.vaults.onCall(async () => {
      throw new AppError(code, { detail: 'get' });
    });
    const taken = takeEvent(world.start().services, event({ type: 'SecretNewVersionCreated' }));
    if (isDone) expect(await taken).toMatchObject({ kind: 'skipped' });
    else await expect(taken).rejects.toMatchObject({ code });
  });
});

describe('an object that a scan found due', () => {
  it('is asked for', async () => {
    const world = createWorld();
    expect(await takeDue(world.start().services, orders)).not.toBeNull();
    expect(world.rotations.take()).toMatchObject({ reason: 'scan', expectedBaseVersion: null });
  });

  it.each([
    ['busy', { active: 'r' }, false],
    ['quarantined', { quarantined: 'r' }, false],
    ['resting', { circuitOpenUntil: '2026-03-01T00:00:01.000Z' }, false],
    ['rested', { circuitOpenUntil: '2026-02-28T00:00:00.000Z' }, true],
  ])('is asked for when it is %s: %s', async (_what, change, isAsked) => {
    const world = createWorld();
    await world.store.put(
      shardOf(orders),
      rowId.object(orders),
      { ...emptyRecord, ...change },
      'any',
    );
    const id = await takeDue(world.start().services, orders);
    expect(id !== null).toBe(isAsked);
    expect(world.rotations.take() !== null).toBe(isAsked);
  });

  it('is told when its record is damaged', async () => {
    const world = createWorld();
    await world.store.put(shardOf(orders), rowId.object(orders), { active: 1 }, 'any');
    await expect(takeDue(world.start().services, orders)).rejects.toMatchObject({
      code: 'corrupt',
    });
  });
});

describe('what a scan found', () => {
  const found = (changes: object = {}) => [
    { ref: orders, isDue: false, rotationId: 'another', ...changes },
  ];
  const take = (world: World, secrets: ReturnType<typeof found>) =>
    takeScanned(world.start().services, Readable.from(secrets));

  async function rotated(): Promise<World> {
    const world = createWorld();
    await world.seed();
    await world.request(world.start());
    await world.converge();
    return world;
  }

  it('is asked for when it is due', async () => {
    const world = await rotated();
    expect(await take(world, found({ isDue: true }))).toEqual({ requested: 1, mended: 0 });
    expect(world.rotations.take()).toMatchObject({ reason: 'scan' });
  });

  it.each([
    ['names the rotation that was proven', (id: string) => id],
    ['names none', () => null],
  ])('is not looked at when its latest version %s', async (_what, rotationIdFor) => {
    const world = await rotated();
    const [journal] = await world.journals();
    const before = world.vaults.accesses.length;
    const secrets = found({ rotationId: rotationIdFor(journal?.id ?? '') });
    expect(await take(world, secrets)).toEqual({ requested: 0, mended: 0 });
    expect(world.vaults.accesses).toHaveLength(before);
  });

  it('is left alone when a tag that nobody here knows was no late write', async () => {
    const world = await rotated();
    const { value } = await world.latest();
    const tags = { rotationId: 'made-up' };
    await world.vaults.get('main').secrets.set('orders-db', { value, tags });
    expect(await take(world, found({ rotationId: 'made-up' }))).toEqual({
      requested: 0,
      mended: 0,
    });
    expect(world.rotations.take()).toBeNull();
  });

  it.each([
    ['busy', { active: 'r' }],
    ['quarantined', { quarantined: 'r' }],
    ['resting', { circuitOpenUntil: '2027-01-01T00:00:00.000Z' }],
    ['never rotated', { inForce: null }],
  ])('is left alone while it is %s', async (_what, change) => {
    const world = await rotated();
    const row = await world.store.get(shardOf(orders), rowId.object(orders));
    await world.store.put(
      shardOf(orders),
      rowId.object(orders),
      { ...row!.body, ...change },
      'any',
    );
    const before = world.vaults.accesses.length;
    expect(await take(world, found())).toEqual({ requested: 0, mended: 0 });
    expect(world.vaults.accesses).toHaveLength(before);
  });

  it('of one object is not hidden by what is wrong with another', async () => {
    const world = await rotated();
    const other = { ...orders, name: 'orders-2' };
    await world.store.put(shardOf(other), rowId.object(other), { active: 1 }, 'any');
    const secrets = [...found({ ref: other, isDue: true }), ...found({ isDue: true })];
    expect(await take(world, secrets)).toEqual({ requested: 1, mended: 0 });
    const events = world.lines.map(({ event }) => event);
    expect(events).toEqual(expect.arrayContaining(['scan.row_failed', 'scan.object_failed']));
  });

  it.each([
    ['vault_denied', 0],
    ['vault_unavailable', 0],
  ] as const)('waits for the next scan when the vault answers %s', async (code, mended) => {
    const world = await rotated();
    world.vaults.onCall(async () => {
      throw new AppError(code, { detail: 'get' });
    });
    expect(await take(world, found())).toEqual({ requested: 0, mended });
    expect(world.lines.at(-1)).toMatchObject({ event: 'scan.object_failed', fields: { code } });
  });

  it('is not passed over in silence when storage is away', async () => {
    const world = await rotated();
    const process = world.start(null, {
      before: (_call, what) => {
        if (what === 'store.get') throw new AppError('storage_unavailable', { detail: 'get' });
      },
    });
    const secrets = Readable.from(found({ isDue: true }));
    await expect(takeScanned(process.services, secrets)).rejects.toMatchObject({
      code: 'storage_unavailable',
    });
  });
});
