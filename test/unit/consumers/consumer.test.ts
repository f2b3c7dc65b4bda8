import { describe, expect, it } from 'vitest';
import { Consumer } from '../../../src/core/policies/consumer.ts';

const webhook = {
  kind: 'webhook',
  id: 'orders',
  url: 'https://hooks.example.com/keyturn?x=1',
  signingSecret: { vault: 'main', name: 'webhook-orders' },
};

function faultPaths(value: unknown): string[] {
  return Consumer.safeParse(value).error?.issues.map(({ path }) => path.join('.')) ?? [];
}

describe('Consumer', () => {
  it('takes a webhook', () => {
    expect(Consumer.parse(webhook)).toEqual(webhook);
  });

  it.each<[string, object, string]>([
    ['an unknown kind', { kind: 'pigeon' }, 'kind'],
    ['an id in capitals', { id: 'Orders' }, 'id'],
    ['an id that is too long', { id: 'a'.repeat(41) }, 'id'],
    ['another scheme', { url: 'file:///etc/passwd' }, 'url'],
    ['text that is no URL', { url: 'hooks' }, 'url'],
    ['a URL with a password', { url: 'https://a:b@hooks.example.com' }, 'url'],
    [
      'a secret that is not for webhooks',
      { signingSecret: { vault: 'main', name: 'orders-db' } },
      'signingSecret.name',
    ],
    ['an unknown field', { secret: 'x' }, ''],
  ])('refuses %s', (_name, change, path) => {
    expect(faultPaths({ ...webhook, ...change })).toEqual([path]);
  });
});
