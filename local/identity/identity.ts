import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { z } from 'zod';
import { close, isLoopbackHost, listen, readJson } from '../loopback-http.ts';
import { loadSigningKey, type SigningKey } from './signing-key.ts';
import { type Issuer, identityNamed, issue, type TokenRequest } from './tokens.ts';

/** Entra ID as far as the local stack needs it: managed-identity endpoint, token issuer and its key set. */
export type Identity = {
  readonly url: string;
  readonly issuer: string;
  readonly jwksUri: string;
  readonly tenantId: string;
  /** Values of `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` for an application that uses `DefaultAzureCredential`. */
  readonly managedIdentity: { readonly endpoint: string; readonly header: string };
  readonly issueToken: (request: TokenRequest) => Promise<string>;
  readonly stop: () => Promise<void>;
};

export type IdentityOptions = {
  /** 0 or absent: any free port. */
  readonly port?: number;
  /** Where the signing key is kept; absent: a new key for every start. */
  readonly dir?: string;
  readonly tenantId?: string;
};

/** Tenant of everything local unless told otherwise. */
const localTenantId = '5f9c7a52-3a3e-4d0f-9b51-6c2f0e8d1a47';
/** Audience of callers' tokens unless told otherwise. */
export const localAudience = 'api://keyturn';

// As long as Azure gives managed identities.
const managedIdentitySeconds = 86_400;
const maxBodyBytes = 64 * 1024;
const defaultIdentityName = 'keyturn';

const CallerTokenRequest = z.strictObject({
  roles: z.array(z.string().min(1).max(200)).max(50),
  audience: z.string().min(1).default(localAudience),
  expiresInSeconds: z.int().min(-86_400).max(2_592_000).default(3600),
  subject: z.string().min(1).optional(),
  appId: z.string().min(1).optional(),
});

type Context = Issuer & { readonly url: string; readonly header: string };
type Answer = { readonly status: number; readonly body: unknown };
type Call = { readonly request: IncomingMessage; readonly url: URL };
type Endpoint = (context: Context, call: Call) => Answer | Promise<Answer>;

/**
 * Starts the identity service on 127.0.0.1.
 *
 * | call | answer |
 * | --- | --- |
 * | `GET /msi/token?api-version=2019-08-01&resource=…[&client_id=…]`, header `x-identity-header` | token of a managed identity (App Service form) |
 * | `GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=…`, header `Metadata: true` | the same (virtual machine form) |
 * | `POST /token` `{roles, audience?, expiresInSeconds?, subject?, appId?}` | `{access_token, token_type, expires_in}` for a caller |
 * | `GET /{tenant}/.well-known/openid-configuration` | discovery document |
 * | `GET /{tenant}/discovery/v2.0/keys` | key set |
 */
export async function startIdentity(options: IdentityOptions = {}): Promise<Identity> {
  const tenantId = options.tenantId ?? localTenantId;
  const key = await loadSigningKey(options.dir);
  const server = createServer();
  const url = `http://127.0.0.1:${await listen(server, options.port ?? 0, 'identity service')}`;
  const issuer = `${url}/${tenantId}`;
  const context: Context = { issuer, tenantId, key, url, header: randomUUID() };
  server.on('request', (request, response) => {
    respond(context, request, response).catch((error: unknown) => {
      console.error('identity: a request failed', error);
      send(response, fault(500, 'server_error', 'The local identity failed; see its output.'));
    });
  });
  return {
    url,
    issuer,
    jwksUri: jwksUri(context),
    tenantId,
    managedIdentity: { endpoint: `${url}/msi/token`, header: context.header },
    issueToken: async (request) => (await issue(context, request)).accessToken,
    stop: () => close(server),
  };
}

async function respond(context: Context, request: IncomingMessage, response: ServerResponse) {
  if (!isLoopbackHost(request.headers.host)) {
    send(response, fault(403, 'forbidden', 'Only calls to a loopback host are answered.'));
    return;
  }
  const url = URL.parse(request.url ?? '/', context.url);
  const endpoint = url === null ? null : findEndpoint(context, request.method ?? '', url.pathname);
  if (url === null || endpoint === null) {
    send(response, fault(404, 'not_found', 'There is no such endpoint.'));
    return;
  }
  send(response, await endpoint(context, { request, url }));
}

function findEndpoint(context: Context, method: string, pathname: string): Endpoint | null {
  const path = pathname.replace(/\/+$/, '');
  const tenant = `/${context.tenantId}`;
  const endpoints: Readonly<Record<string, Endpoint>> = {
    'GET /msi/token': appServiceToken,
    'GET /metadata/identity/oauth2/token': virtualMachineToken,
    'POST /token': callerToken,
    [`GET ${tenant}/.well-known/openid-configuration`]: discovery,
    [`GET ${tenant}/discovery/v2.0/keys`]: keySet,
  };
  const wanted = `${method} ${path}`;
  return Object.hasOwn(endpoints, wanted) ? (endpoints[wanted] ?? null) : null;
}

function appServiceToken(context: Context, { request, url }: Call): Answer | Promise<Answer> {
  const header = request.headers['x-identity-header'];
  if (header === undefined) {
    return fault(400, 'invalid_request', 'The header X-IDENTITY-HEADER is missing.');
  }
  if (header !== context.header) {
    return fault(401, 'unauthorized', 'The header X-IDENTITY-HEADER is not the one of this host.');
  }
  return managedIdentityToken(context, url, ['2019-08-01']);
}

function virtualMachineToken(context: Context, { request, url }: Call): Answer | Promise<Answer> {
  if (request.headers['metadata'] !== 'true') {
    return fault(400, 'invalid_request', 'The header Metadata: true is missing.');
  }
  return managedIdentityToken(context, url, ['2018-02-01', '2019-08-01', '2021-02-01']);
}

async function managedIdentityToken(
  context: Context,
  url: URL,
  apiVersions: readonly string[],
): Promise<Answer> {
  const apiVersion = url.searchParams.get('api-version');
  const resource = url.searchParams.get('resource');
  if (apiVersion === null || !apiVersions.includes(apiVersion)) {
    return fault(400, 'invalid_request', `api-version must be ${apiVersions.join(' or ')}.`);
  }
  if (resource === null || resource === '') {
    return fault(400, 'invalid_request', 'The parameter resource is missing.');
  }
  const clientId = url.searchParams.get('client_id');
  const identity = identityNamed(clientId ?? defaultIdentityName);
  const appId = clientId ?? identity.appId;
  const { accessToken, expiresOn } = await issue(context, {
    audience: resource,
    subject: identity.objectId,
    appId,
    expiresInSeconds: managedIdentitySeconds,
  });
  const body = {
    access_token: accessToken,
    client_id: appId,
    // Both real endpoints send their numbers as text.
    expires_in: String(managedIdentitySeconds),
    expires_on: String(expiresOn),
    resource,
    token_type: 'Bearer',
  };
  return { status: 200, body };
}

async function callerToken(context: Context, { request }: Call): Promise<Answer> {
  const wanted = CallerTokenRequest.safeParse(await readJson(request, maxBodyBytes));
  if (!wanted.success) return fault(400, 'invalid_request', z.prettifyError(wanted.error));
  const { subject, appId, ...rest } = wanted.data;
  const { accessToken } = await issue(context, {
    ...rest,
    ...(subject === undefined ? {} : { subject }),
    ...(appId === undefined ? {} : { appId }),
  });
  const body = {
    access_token: accessToken,
    token_type: 'Bearer',
    expires_in: wanted.data.expiresInSeconds,
  };
  return { status: 200, body };
}

function discovery(context: Context): Answer {
  const body = {
    issuer: context.issuer,
    jwks_uri: jwksUri(context),
    token_endpoint: `${context.url}/token`,
    response_types_supported: ['token'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['RS256'],
  };
  return { status: 200, body };
}

function keySet({ key }: { readonly key: SigningKey }): Answer {
  return { status: 200, body: { keys: [key.publicJwk] } };
}

function jwksUri(context: Context): string {
  return `${context.url}/${context.tenantId}/discovery/v2.0/keys`;
}

function fault(status: number, error: string, description: string): Answer {
  return { status, body: { error, error_description: description } };
}

function send(response: ServerResponse, { status, body }: Answer): void {
  if (response.headersSent) return;
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
  });
  response.end(JSON.stringify(body));
}
