import { describe, expect, it } from 'vitest';
import {
  isPublicAddress,
  type Resolve,
  vetDestination,
} from '../../../src/core/consumers/egress.ts';

function resolvesTo(...addresses: string[]): Resolve {
  return async () =>
    addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
}

const allowedHosts = ['hooks.example.com', 'odd.example.com:8443', '*.wild.example'];

async function verdict(url: string, rules: Parameters<typeof vetDestination>[1], resolve: Resolve) {
  return await vetDestination(url, rules, resolve).then(
    ({ addresses }) => addresses.map(({ address }) => address),
    (error) => error.code,
  );
}

describe('isPublicAddress', () => {
  it.each([
    '8.8.8.8',
    '172.15.255.255',
    '172.32.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '168.63.129.17',
    '2600::1',
    '2a00:1450:4001:81c::200e',
  ])('takes %s', (address) => expect(isPublicAddress(address)).toBe(true));

  it.each([
    '0.0.0.0',
    '10.1.2.3',
    '100.64.0.1',
    '127.0.0.1',
    '127.255.255.255',
    '168.63.129.16',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '198.18.0.1',
    '224.0.0.1',
    '239.1.1.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:8.8.8.8',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '64:ff9b::7f00:1',
    'fc00::1',
    'fd12::1',
    'fe80::1',
    'fe80::1%eth0',
    'ff02::1',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::',
    'hooks.example.com',
    '',
  ])('refuses %s', (address) => expect(isPublicAddress(address)).toBe(false));
});

describe('vetDestination', () => {
  it.each([
    'https://hooks.example.com/x',
    'https://HOOKS.example.com:443/x',
    'https://odd.example.com:8443/',
    'https://a.wild.example/',
    'https://a.b.wild.example:443/',
  ])('allows %s', async (url) => {
    expect(await verdict(url, { allowedHosts }, resolvesTo('8.8.8.8'))).toEqual(['8.8.8.8']);
  });

  it.each([
    'not a URL',
    'ftp://hooks.example.com/',
    'http://hooks.example.com/',
    'https://user@hooks.example.com/',
    'https://hooks.example.com:8443/',
    'https://hooks.example.com./',
    'https://odd.example.com/',
    'https://wild.example/',
    'https://.wild.example/',
    'https://notwild.example/',
    'https://a.wild.example:8443/',
    'https://evil.com#hooks.example.com',
    'https://evil.com/?hooks.example.com',
    'https://hooks.example.com@evil.com/',
    'https://hooks.example.com%2eevil.com/',
    'https://hooks.еxample.com/', // a Cyrillic letter
    'https://8.8.8.8/',
    'http://localhost/',
    'http://127.0.0.1/',
    'https://2130706433/',
    'https://0x7f.1/',
    'https://[::1]/',
    'https://[::ffff:7f00:1]/',
  ])('refuses %s', async (url) => {
    expect(await verdict(url, { allowedHosts }, resolvesTo('8.8.8.8'))).toBe('consumer_refused');
  });

  it('refuses a name of which any address is private', async () => {
    const resolve = resolvesTo('8.8.8.8', '10.0.0.1');
    const url = 'https://hooks.example.com/';
    expect(await verdict(url, { allowedHosts }, resolve)).toBe('consumer_refused');
  });

  it.each([
    [['hooks.example.com'], ['10.0.0.1']],
    [['hooks.example.com:443'], ['10.0.0.1']],
    [['other.example.com'], 'consumer_refused'],
  ])('lets a name be private only when %j says so', async (privateHosts, expected) => {
    const rules = { allowedHosts, privateHosts };
    expect(await verdict('https://hooks.example.com/', rules, resolvesTo('10.0.0.1'))).toEqual(
      expected,
    );
  });

  it.each([
    ['http://127.0.0.1:4000/x', ['127.0.0.1:4000'], ['127.0.0.1']],
    ['http://127.0.0.1/x', ['127.0.0.1'], ['127.0.0.1']],
    ['http://127.0.0.1:4001/x', ['127.0.0.1:4000'], 'consumer_refused'],
    ['http://[::1]/x', ['::1'], ['::1']],
    ['http://[::1]:4000/x', ['[::1]:4000'], ['::1']],
    ['https://10.0.0.5/x', ['10.0.0.5'], ['10.0.0.5']],
    ['http://10.0.0.5/x', ['10.0.0.5'], 'consumer_refused'],
    ['http://localhost:4000/x', ['localhost:4000'], 'consumer_refused'],
    ['https://1.2.3.4/x', ['*.2.3.4'], 'consumer_refused'],
  ])('takes %s with %j listed literally: %j', async (url, hosts, expected) => {
    expect(await verdict(url, { allowedHosts: hosts }, resolvesTo('8.8.8.8'))).toEqual(expected);
  });

  it('calls a name that does not resolve unreachable', async () => {
    const url = 'https://hooks.example.com/';
    const failing: Resolve = () => Promise.reject(new Error('ENOTFOUND'));
    expect(await verdict(url, { allowedHosts }, failing)).toBe('consumer_unreachable');
    expect(await verdict(url, { allowedHosts }, resolvesTo())).toBe('consumer_unreachable');
  });

  it('asks the system for names by itself', async () => {
    const rules = { allowedHosts: ['localhost'] };
    await expect(vetDestination('https://localhost/', rules)).rejects.toMatchObject({
      code: 'consumer_refused',
      detail: expect.stringMatching(/localhost resolves to (127|::1)/),
    });
  });
});
