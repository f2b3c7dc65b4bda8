import type { HostOptions } from './options.ts';

/** The headers as the app gets them: the platform's word on who calls, never the client's. */
export function withPrincipal(
  headers: Readonly<Record<string, string>>,
  options: HostOptions,
): Record<string, string> {
  return { ...clientHeaders(headers, options), ...principalHeaders(options) };
}

// Azure without Easy Auth passes these on, so an app must not believe them; the flag shows it does not.
function clientHeaders(
  headers: Readonly<Record<string, string>>,
  options: HostOptions,
): Readonly<Record<string, string>> {
  if (options.passClientPrincipal) return headers;
  const kept = Object.entries(headers).filter(
    ([name]) => !name.startsWith('x-ms-client-principal'),
  );
  return Object.fromEntries(kept);
}

function principalHeaders({ easyAuth }: HostOptions): Record<string, string> {
  if (easyAuth === null) return {};
  const { id, name, provider, claims } = easyAuth;
  const principal = { auth_typ: provider, name_typ: 'name', role_typ: 'roles', claims };
  return {
    'x-ms-client-principal': Buffer.from(JSON.stringify(principal)).toString('base64'),
    'x-ms-client-principal-id': id,
    'x-ms-client-principal-name': name,
    'x-ms-client-principal-idp': provider,
  };
}
