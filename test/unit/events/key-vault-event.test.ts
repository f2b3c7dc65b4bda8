import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseKeyVaultEvent } from '../../../src/core/events/key-vault-event.ts';

const version = '0123456789abcdef0123456789abcdef';
const topic = '/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/prod';
const data = {
  Id: `https://prod.vault.azure.net/secrets/orders-db/${version}`,
  VaultName: 'prod',
  ObjectType: 'Secret',
  ObjectName: 'orders-db',
  Version: version,
  NBF: null,
  EXP: 1_772_323_200,
};
const eventGrid = {
  id: 'e1',
  topic,
  subject: 'orders-db',
  eventType: 'Microsoft.KeyVault.SecretNearExpiry',
  eventTime: '2026-02-01T00:00:00Z',
  data,
  dataVersion: '1',
  metadataVersion: '1',
};
const cloudEvent = {
  id: 'e1',
  source: topic,
  subject: 'orders-db',
  type: 'Microsoft.KeyVault.SecretNearExpiry',
  time: '2026-02-01T00:00:00Z',
  specversion: '1.0',
  data,
};
const event = {
  id: 'e1',
  fact: 'near-expiry',
  vaultUrl: 'https://prod.vault.azure.net',
  type: 'secret',
  name: 'orders-db',
  version,
  expiresOn: new Date('2026-03-01T00:00:00Z'),
};

const withData = (changes: object) => ({ ...eventGrid, data: { ...data, ...changes } });
function faultsOf(input: unknown): readonly string[] {
  const parsed = parseKeyVaultEvent(input);
  return parsed.kind === 'invalid' ? parsed.faults : [];
}

describe('an event of a vault', () => {
  it.each([
    ['in Event Grid schema', eventGrid],
    ['as a CloudEvent', cloudEvent],
  ])('is read %s', (_what, input) => {
    expect(parseKeyVaultEvent(input)).toEqual({ kind: 'event', event });
  });

  it.each([
    ['SecretNearExpiry', 'near-expiry', 'secret', 'Secret'],
    ['SecretExpired', 'expired', 'secret', 'Secret'],
    ['SecretNewVersionCreated', 'new-version', 'secret', 'Secret'],
    ['KeyNearExpiry', 'near-expiry', 'key', 'Key'],
    ['KeyExpired', 'expired', 'key', 'Key'],
    ['KeyNewVersionCreated', 'new-version', 'key', 'Key'],
    ['CertificateNearExpiry', 'near-expiry', 'certificate', 'Certificate'],
    ['CertificateExpired', 'expired', 'certificate', 'Certificate'],
    ['CertificateNewVersionCreated', 'new-version', 'certificate', 'Certificate'],
  ])('%s says %s of a %s', (name, fact, type, ObjectType) => {
    const Id = `https://prod.vault.azure.net/${type}s/orders-db/${version}`;
    const input = { ...withData({ Id, ObjectType }), eventType: `Microsoft.KeyVault.${name}` };
    expect(parseKeyVaultEvent(input)).toMatchObject({ kind: 'event', event: { fact, type } });
  });

  it('is read whatever the case of its members, as documents and SDKs differ', () => {
    const camel = Object.fromEntries(
      Object.entries(data).map(([key, value]) => [
        key.charAt(0).toLowerCase() + key.slice(1),
        value,
      ]),
    );
    const upper = Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key.toUpperCase(), value]),
    );
    for (const variant of [camel, upper]) {
      expect(parseKeyVaultEvent({ ...eventGrid, data: variant })).toEqual({ kind: 'event', event });
    }
    const shouting = { ...eventGrid, eventType: 'MICROSOFT.KEYVAULT.SECRETNEAREXPIRY' };
    expect(parseKeyVaultEvent(shouting)).toEqual({ kind: 'event', event });
  });

  it.each([
    [1_772_323_200, event.expiresOn],
    ['1772323200', event.expiresOn],
    [null, null],
    [undefined, null],
    ['', null],
  ])('with EXP %j expires %s', (EXP, expiresOn) => {
    expect(parseKeyVaultEvent(withData({ EXP }))).toMatchObject({ event: { expiresOn } });
  });

  it('keeps the port of a vault that has one', () => {
    const Id = `https://localhost:8443/secrets/orders-db/${version}`;
    expect(parseKeyVaultEvent(withData({ Id }))).toMatchObject({
      event: { vaultUrl: 'https://localhost:8443' },
    });
  });

  it.each([
    ['another name', { ObjectName: 'other' }, 'data.ObjectName'],
    ['another version', { Version: 'f'.repeat(32) }, 'data.Version'],
    ['another type', { ObjectType: 'Key' }, 'data.ObjectType'],
    ['another vault', { VaultName: 'other' }, 'topic'],
  ])('is refused when data names %s than its id', (_what, changes, field) => {
    expect(faultsOf(withData(changes))).toEqual([`${field}: does not agree with data.Id`]);
  });

  it('is refused when its subject is another object', () => {
    expect(faultsOf({ ...eventGrid, subject: 'other' })).toEqual([
      'subject: does not agree with data.Id',
    ]);
  });

  it('tells every disagreement at once', () => {
    const input = { ...withData({ ObjectName: 'x', Version: 'y', EXP: 'soon' }), subject: 'z' };
    expect(faultsOf(input)).toHaveLength(4);
  });

  it.each([
    ['no https', 'http://prod.vault.azure.net/secrets/orders-db/1', 'data.id'],
    ['no version', 'https://prod.vault.azure.net/secrets/orders-db', 'data.Id'],
    ['a version that is none', 'https://prod.vault.azure.net/secrets/orders-db/latest', 'data.Id'],
    ['a name no vault has', `https://prod.vault.azure.net/secrets/a%2Fb/${version}`, 'data.Id'],
    [
      'more than an id',
      `https://prod.vault.azure.net/secrets/orders-db/${version}/backup`,
      'data.Id',
    ],
    ['another collection', `https://prod.vault.azure.net/keys/orders-db/${version}`, 'data.Id'],
    ['no URL at all', 'orders-db', 'data.id'],
  ])('is refused when its id has %s', (_what, Id, field) => {
    expect(faultsOf(withData({ Id }))[0]).toContain(field);
  });

  it.each([
    ['NaN', 'soon'],
    ['no date', 1e300],
    ['no date, as text', '1e300'],
  ])('is refused when EXP is %s', (_what, EXP) => {
    expect(faultsOf(withData({ EXP }))).toEqual(['data.EXP: must be seconds since 1970']);
  });

  it.each([
    'Microsoft.Storage.BlobCreated',
    'Microsoft.KeyVault.VaultAccessPolicyChanged',
    '__proto__',
    'constructor',
    'toString',
  ])('is refused when its type is %s', (eventType) => {
    const undefineds = { Id: `https://prod.vault.azure.net/undefineds/orders-db/${version}` };
    expect(faultsOf({ ...withData(undefineds), eventType })[0]).toContain('eventType');
  });

  it('names everything that is missing', () => {
    const faults = faultsOf({ data: {} });
    for (const field of [
      'id',
      'type',
      'origin',
      'subject',
      'data.id',
      'data.vaultname',
      'data.objecttype',
      'data.objectname',
      'data.version',
    ]) {
      expect(
        faults.some((fault) => fault.startsWith(`${field}:`)),
        field,
      ).toBe(true);
    }
  });

  it.each([
    [null],
    [undefined],
    ['text'],
    [7],
    [[]],
    [[eventGrid]],
    [{}],
    [{ data: 'text' }],
    [{ data: [] }],
  ])('is none: %j', (input) => {
    expect(parseKeyVaultEvent(input).kind).toBe('invalid');
  });

  it('never throws, whatever comes', () => {
    const anything = fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true });
    fc.assert(
      fc.property(anything, (input) => void parseKeyVaultEvent(input)),
      { numRuns: 2000 },
    );
    const near = fc.record(
      {
        id: fc.oneof(fc.constant('e1'), anything),
        topic: fc.oneof(fc.constant(topic), anything),
        subject: fc.oneof(fc.constant('orders-db'), anything),
        eventType: fc.oneof(
          fc.constantFrom(eventGrid.eventType, '__proto__', 'constructor', 'valueOf'),
          anything,
        ),
        data: fc.record(
          {
            Id: fc.oneof(fc.constant(data.Id), fc.webUrl(), anything),
            VaultName: fc.oneof(fc.constant('prod'), anything),
            ObjectType: fc.oneof(fc.constant('Secret'), anything),
            ObjectName: fc.oneof(fc.constant('orders-db'), anything),
            Version: fc.oneof(fc.constant(version), anything),
            EXP: fc.oneof(fc.double(), fc.string(), anything),
          },
          { requiredKeys: [] },
        ),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(near, (input) => {
        const parsed = parseKeyVaultEvent(input);
        if (parsed.kind === 'invalid') expect(parsed.faults.length).toBeGreaterThan(0);
        else expect(parsed.event).toMatchObject({ name: 'orders-db', version });
      }),
      { numRuns: 5000 },
    );
  });
});
