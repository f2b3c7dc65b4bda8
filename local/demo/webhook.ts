import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { close, listen } from '../loopback-http.ts';

export interface WebhookReceiver {
  readonly host: string;
  readonly url: string;
  stop(): Promise<void>;
}

/** A consumer's web hook: checks the Standard Webhooks signature and reports what it was told. */
export async function startWebhook(options: {
  readonly port: number;
  /** The bytes behind `whsec_`. */
  readonly key: Buffer;
  readonly onTold: (message: { readonly valid: boolean; readonly version: string }) => void;
}): Promise<WebhookReceiver> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    const header = (name: string) => String(request.headers[name] ?? '');
    const signed = `${header('webhook-id')}.${header('webhook-timestamp')}.${body}`;
    const expected = `v1,${createHmac('sha256', options.key).update(signed).digest('base64')}`;
    const valid = isSame(header('webhook-signature'), expected);
    const version = valid ? String(JSON.parse(body).data?.version ?? '') : '';
    options.onTold({ valid, version });
    response.writeHead(valid ? 204 : 401).end();
  });
  await listen(server, options.port, 'web hook of the demo');
  const host = `127.0.0.1:${options.port}`;
  return {
    host,
    url: `http://${host}/rotated`,
    stop: () => close(server),
  };
}

function isSame(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
