import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../../src/core/errors.ts';
import type { SecretService } from '../../../src/core/vault/ports.ts';
import { absentService, serviceKind } from '../../../src/core/vault/service-kind.ts';

const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });

describe('serviceKind', () => {
  it.each([
    ['https://orders.vault.azure.net', 'vault'],
    ['https://ORDERS.vault.azure.cn/', 'vault'],
    ['https://orders.vault.usgovcloudapi.net:443', 'vault'],
    ['https://orders.managedhsm.azure.net', 'managed-hsm'],
    ['https://orders.managedhsm.usgovcloudapi.net', 'managed-hsm'],
    ['https://localhost:8443', 'unknown'],
    ['https://main.vault.simulated', 'unknown'],
    ['https://vault.azure.net.example', 'unknown'],
    ['https://managedhsm.azure.net', 'unknown'],
  ] as const)('takes %s for %s', (url, kind) => {
    expect(serviceKind(url)).toBe(kind);
  });
});

describe('absentService', () => {
  const secrets = absentService<SecretService>('hsm', 'secrets');

  it('refuses every call, and says what to use instead', async () => {
    await expect(secrets.get('a')).rejects.toEqual(failure('invalid_input'));
    await expect(secrets.get('a')).rejects.toThrow(/hsm is a Managed HSM.*use a vault/);
    expect(() => secrets.list()).toThrow(failure('invalid_input'));
  });

  it('is no promise', async () => {
    expect(await Promise.resolve(secrets)).toBe(secrets);
    expect(String(Object.keys({ ...secrets }))).toBe('');
  });
});
