import https from 'node:https';
import tls from 'node:tls';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { createLocalCa } from '../../../local/tls.ts';
import type { ConsumerServices } from '../../../src/core/consumers/notification.ts';
import { webhook } from '../../../src/core/consumers/webhook.ts';
import { errorFields } from '../../../src/core/log.ts';
import { aNotification, aWebhook, signingSecret, startConsumer, vaultsWith } from './support.ts';

function services(host: string, more: Partial<ConsumerServices> = {}): ConsumerServices {
  return {
    vaults: vaultsWith(signingSecret),
    clock: { now: () => new Date() },
    egress: { allowedHosts: [host] },
    ...more,
  };
}

const message = { messageId: '01JD.orders', notification: aNotification() };

async function codeOf(told: Promise<void>): Promise<string> {
  return await told.then(
    () => 'ok',
    (error) => error.code,
  );
}

describe('webhook', () => {
  it.each([signingSecret, 'a raw value of at least 24 bytes'])(
    'posts what the standard’s own verifier accepts, signed with %s',
    async (secret) => {
      await using consumer = await startConsumer((response) => response.end('thanks'));
      const given = services(consumer.host, { vaults: vaultsWith(secret) });
      await webhook.tell(message, aWebhook(consumer.url), given);

      const [got] = consumer.received;
      const oracle = secret.startsWith('whsec_')
        ? new Webhook(secret)
        : new Webhook(secret, { format: 'raw' });
      expect(oracle.verify(got!.body, got!.headers)).toEqual({
        type: 'secret.rotated',
        timestamp: '2026-11-22T08:00:00.000Z',
        data: {
          vault: 'main',
          objectType: 'secret',
          name: 'orders-db',
          version: 'b'.repeat(32),
          previousVersion: 'a'.repeat(32),
          rotationId: '01JD0000000000000000000000',
          retireAt: '2026-11-22T09:00:00.000Z',
        },
      });
      expect(got).toMatchObject({ method: 'POST', url: '/hook' });
      expect(got!.headers).toMatchObject({
        'webhook-id': '01JD.orders',
        'content-type': 'application/json',
      });
    },
  );

  it.each([
    [200, 'ok'],
    [202, 'ok'],
    [204, 'ok'],
    [400, 'consumer_unreachable'],
    [401, 'consumer_unreachable'],
    [404, 'consumer_unreachable'],
    [408, 'consumer_unreachable'],
    [409, 'consumer_unreachable'],
    [410, 'consumer_refused'],
    [425, 'consumer_unreachable'],
    [429, 'consumer_unreachable'],
    [500, 'consumer_unreachable'],
    [503, 'consumer_unreachable'],
  ])('takes status %i as %s', async (status, expected) => {
    await using consumer = await startConsumer((response) => response.writeHead(status).end());
    expect(
      await codeOf(webhook.tell(message, aWebhook(consumer.url), services(consumer.host))),
    ).toBe(expected);
  });

  it.each([301, 302, 303, 307, 308])('does not follow a redirect (%i)', async (status) => {
    await using consumer = await startConsumer((response, { url }) =>
      url === '/hook' ? response.writeHead(status, { location: '/other' }).end() : response.end(),
    );
    const told = webhook.tell(message, aWebhook(consumer.url), services(consumer.host));
    expect(await codeOf(told)).toBe('consumer_refused');
    expect(consumer.received.length).toBe(1);
  });

  it('drops a long answer, and one that never ends or breaks off', async () => {
    await using consumer = await startConsumer((response, { url }) => {
      response.writeHead(200, { 'content-length': 10_000_000 });
      if (url === '/hook?long') response.write(Buffer.alloc(1_000_000));
      else if (url === '/hook?broken') response.write('x', () => response.destroy());
      else response.write('x');
    });
    for (const query of ['?long', '?broken', '?endless']) {
      const told = webhook.tell(message, aWebhook(consumer.url + query), services(consumer.host));
      expect(await codeOf(told)).toBe('ok');
    }
  });

  it('waits no longer than its deadline, for an answer, a name or a key', async () => {
    await using consumer = await startConsumer(() => {});
    const hangs = () => new Promise<never>(() => {});
    const host = `hooks.example.com:${consumer.port}`;
    const silent = webhook.tell(
      message,
      aWebhook(consumer.url),
      services(consumer.host, { deadlineMs: 100 }),
    );
    const nameless = webhook.tell(
      message,
      aWebhook(`https://${host}/`),
      services(host, { deadlineMs: 100, resolve: hangs }),
    );
    expect(await codeOf(silent)).toBe('consumer_unreachable');
    expect(await codeOf(nameless)).toBe('consumer_unreachable');
  });

  it('calls a closed port unreachable', async () => {
    let url = '';
    let host = '';
    {
      await using consumer = await startConsumer(() => {});
      ({ url, host } = consumer);
    }
    expect(await codeOf(webhook.tell(message, aWebhook(url), services(host)))).toBe(
      'consumer_unreachable',
    );
  });

  it('says what is wrong with a key, and nothing of it', async () => {
    const told = (vaults: ConsumerServices['vaults']) =>
      webhook.tell(message, aWebhook('http://127.0.0.1:1/'), services('127.0.0.1:1', { vaults }));
    expect(await codeOf(told(vaultsWith(null)))).toBe('not_found');
    const error = await told(vaultsWith('too-short-canary')).catch((e) => e);
    expect(error).toMatchObject({ code: 'bad_configuration' });
    expect(JSON.stringify(errorFields(error))).not.toContain('canary');
  });

  it('asks no vault for a key when the host is not on the list', async () => {
    const vaults = vaultsWith('a'.repeat(32));
    const get = () => {
      throw new Error('asked');
    };
    const told = webhook.tell(message, aWebhook('https://evil.example/'), {
      ...services('hooks.example.com'),
      vaults: { ...vaults, get },
    });
    expect(await codeOf(told)).toBe('consumer_refused');
  });
});

describe('webhook over TLS', () => {
  async function startTls() {
    const { caPem, key, cert } = await createLocalCa();
    const consumer = await startConsumer(
      (response) => response.end(),
      (listener) => https.createServer({ key, cert }, listener),
    );
    return { consumer, ca: caPem };
  }

  it('connects to the address that was vetted, however the name resolves afterwards', async () => {
    const { consumer, ca } = await startTls();
    await using _closed = consumer;
    const host = `localhost:${consumer.port}`;
    let asked = 0;
    const resolve = async () => {
      const address = asked++ === 0 ? '127.0.0.1' : '127.0.0.2';
      return [{ address, family: 4 as const }];
    };
    const egress = { allowedHosts: [host], privateHosts: [host] };
    const told = () =>
      webhook.tell(message, aWebhook(`https://${host}/hook`), services(host, { egress, resolve }));
    // Its certificate is of no known authority: refused until it is one.
    expect(await codeOf(told())).toBe('consumer_unreachable');
    const before = tls.getCACertificates('default');
    tls.setDefaultCACertificates([...before, ca]);
    try {
      asked = 0;
      await told();
    } finally {
      tls.setDefaultCACertificates(before);
    }
    expect(asked).toBe(1);
    expect(consumer.received).toMatchObject([{ headers: { host } }]);
  });

  it('refuses a name that has come to mean a private address', async () => {
    const host = 'hooks.example.com';
    const answers = ['8.8.8.8', '169.254.169.254'];
    const resolve = async () => [{ address: answers.shift() ?? '', family: 4 as const }];
    await resolve();
    const told = webhook.tell(message, aWebhook(`https://${host}/`), services(host, { resolve }));
    expect(await codeOf(told)).toBe('consumer_refused');
  });
});
