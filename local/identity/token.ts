import { parseArgs } from 'node:util';

const usage = `Prints an access token of the local identity for the local API.

  npm run token -- ROLE… [options]

  --audience URI     whom the token is for (default: the local API)
  --url URL          the local identity (default http://127.0.0.1:7072)
  --expires SECONDS  how long it lasts (default 3600)
  --help
`;

type Wish = { readonly url: string; readonly body: Readonly<Record<string, unknown>> };

function readArguments(): Wish | 'help' {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      audience: { type: 'string' },
      url: { type: 'string', default: 'http://127.0.0.1:7072' },
      expires: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  if (positionals.length === 0) throw new Error('Name at least one role; --help shows how.');
  const expiresInSeconds = Number(values.expires ?? 3600);
  if (!Number.isInteger(expiresInSeconds)) throw new Error('--expires takes whole seconds.');
  if (!URL.canParse(values.url)) throw new Error(`--url is no URL: ${values.url}`);
  const audience = values.audience === undefined ? {} : { audience: values.audience };
  return { url: values.url, body: { roles: positionals, expiresInSeconds, ...audience } };
}

async function fetchToken({ url, body }: Wish): Promise<string> {
  const response = await fetch(new URL('/token', url), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  }).catch((cause: unknown) => {
    throw new Error(`No local identity answers at ${url}; start it with npm start.`, { cause });
  });
  const answer: unknown = await response.json().catch(() => null);
  if (typeof answer === 'object' && answer !== null) {
    if ('access_token' in answer && typeof answer.access_token === 'string') {
      return answer.access_token;
    }
    if ('error_description' in answer) throw new Error(String(answer.error_description));
  }
  throw new Error(`What answers at ${url} is not the local identity (HTTP ${response.status}).`);
}

function fail(error: unknown, exitCode: number): void {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = exitCode;
}

async function main(): Promise<void> {
  let wish: Wish | 'help';
  try {
    wish = readArguments();
  } catch (error) {
    fail(error, 2);
    return;
  }
  if (wish === 'help') {
    process.stdout.write(usage);
    return;
  }
  try {
    process.stdout.write(`${await fetchToken(wish)}\n`);
  } catch (error) {
    fail(error, 1);
  }
}

await main();
