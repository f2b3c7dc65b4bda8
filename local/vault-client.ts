import { request } from 'node:https';

/** The three calls the demo's own people make; plain HTTPS, as any consumer in any language might. */
export interface VaultClient {
  set(name: string, body: SecretBody): Promise<void>;
  /** Null when there is no such secret. */
  get(name: string): Promise<{ readonly value: string; readonly version: string } | null>;
  countVersions(name: string): Promise<number>;
}

interface SecretBody {
  readonly value: string;
  readonly contentType?: string;
  readonly expiresInSeconds?: number;
}

const apiVersion = 'api-version=2025-07-01';

export function vaultClient(options: {
  readonly url: string;
  readonly ca: string;
  readonly token: () => Promise<string>;
}): VaultClient {
  const call = async (method: string, path: string, body?: object): Promise<Answer> => {
    const url = new URL(`${path}?${apiVersion}`, options.url);
    const text = body === undefined ? undefined : JSON.stringify(body);
    const answer = await send(url, { method, text, ca: options.ca, token: await options.token() });
    if (answer.status === 200 || answer.status === 404) return answer;
    throw new Error(`${method} ${path}: HTTP ${answer.status} ${JSON.stringify(answer.body)}`);
  };
  return {
    async set(name, { value, contentType, expiresInSeconds }) {
      const exp = expiresInSeconds && Math.floor(Date.now() / 1000) + expiresInSeconds;
      await call('PUT', `/secrets/${name}`, {
        value,
        ...(contentType ? { contentType } : {}),
        attributes: exp ? { exp } : {},
      });
    },
    async get(name) {
      const { status, body } = await call('GET', `/secrets/${name}/`);
      if (status === 404) return null;
      return { value: String(body['value']), version: String(body['id']).split('/').at(-1) ?? '' };
    },
    async countVersions(name) {
      const { body } = await call('GET', `/secrets/${name}/versions`);
      return Array.isArray(body['value']) ? body['value'].length : 0;
    },
  };
}

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

function send(
  url: URL,
  options: {
    readonly method: string;
    readonly text: string | undefined;
    readonly ca: string;
    readonly token: string;
  },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${options.token}`,
      ...(options.text === undefined ? {} : { 'content-type': 'application/json' }),
    };
    const { method, ca } = options;
    const outgoing = request(url, { method, headers, ca, timeout: 5000 }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const body = JSON.parse(Buffer.concat(chunks).toString() || '{}');
        resolve({ status: incoming.statusCode ?? 0, body });
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer from ${url.origin}`)));
    outgoing.on('error', reject);
    outgoing.end(options.text);
  });
}
