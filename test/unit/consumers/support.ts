import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Notification } from '../../../src/core/consumers/notification.ts';
import { AppError } from '../../../src/core/errors.ts';
import type { WebhookConsumer } from '../../../src/core/policies/consumer.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import type { Vaults } from '../../../src/core/vault/ports.ts';

export const signingSecret = `whsec_${Buffer.from('k'.repeat(32)).toString('base64')}`;

export function aNotification(more: Partial<Notification> = {}): Notification {
  return {
    rotationId: '01JD0000000000000000000000',
    vault: 'main',
    objectType: 'secret',
    name: 'orders-db',
    version: 'b'.repeat(32),
    previousVersion: 'a'.repeat(32),
    rotatedAt: '2026-11-22T08:00:00.000Z',
    retireAt: '2026-11-22T09:00:00.000Z',
    ...more,
  };
}

export function aWebhook(url: string, more: Partial<WebhookConsumer> = {}): WebhookConsumer {
  const secret = { vault: 'main', name: 'webhook-orders' };
  return { kind: 'webhook', id: 'orders', url, signingSecret: secret, ...more };
}

/** One vault `main` whose every secret has this value; null: there is none. */
export function vaultsWith(value: string | null): Vaults {
  const get = async (name: string) => {
    if (value === null) throw new AppError('not_found', { detail: `main/secret/${name}` });
    return { value: new SecretString(value) };
  };
  return { get: () => ({ secrets: { get } }), all: () => [] } as unknown as Vaults;
}

export interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** A real server on loopback that records what it is told. */
export async function startConsumer(
  answer: (response: http.ServerResponse, received: Received) => unknown,
  create: (listener: http.RequestListener) => http.Server = (listener) =>
    http.createServer(listener),
) {
  const received: Received[] = [];
  const server = create(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method = '', url = '' } = request;
    const headers = request.headers as Record<string, string>;
    received.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
    await answer(response, received.at(-1)!);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    received,
    port,
    host: `127.0.0.1:${port}`,
    url: `http://127.0.0.1:${port}/hook`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
