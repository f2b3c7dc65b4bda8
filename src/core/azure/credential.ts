import type { AccessToken, TokenCredential } from '@azure/identity';
import { withDeadline } from '../vault/pipeline.ts';

const tokenMs = 10_000;
const credentials = new Map<string, TokenCredential>();

/**
 * The process's identity: `DefaultAzureCredential`, made once, at the first token. A token fetch
 * that does not answer within 10 s fails, so that the next call may start a new one.
 *
 * @param managedIdentityClientId which user-assigned identity to use; none: the system's
 */
export function processCredential(managedIdentityClientId?: string): TokenCredential {
  const key = managedIdentityClientId ?? '';
  const credential =
    credentials.get(key) ?? boundedCredential(() => identity(managedIdentityClientId));
  credentials.set(key, credential);
  return credential;
}

function boundedCredential(load: () => Promise<TokenCredential>): TokenCredential {
  let loading: Promise<TokenCredential> | null = null;
  return {
    getToken: (scopes, options): Promise<AccessToken | null> =>
      // Not the caller's signal: the SDKs share one fetch between calls, and one may give up early.
      withDeadline(tokenMs, async (abortSignal) => {
        loading ??= load();
        return (await loading).getToken(scopes, { ...options, abortSignal });
      }),
  };
}

async function identity(managedIdentityClientId: string | undefined): Promise<TokenCredential> {
  const { DefaultAzureCredential } = await import('@azure/identity');
  if (managedIdentityClientId === undefined) return new DefaultAzureCredential();
  return new DefaultAzureCredential({ managedIdentityClientId });
}
