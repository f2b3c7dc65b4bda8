/** Clients of the SDK: made on first use, and anew when the vault no longer takes their token. */
import type { TokenCredential } from '@azure/identity';

/** Runs `work` with a client that the vault has answered; before that, one call at a time. */
export type Use<Client> = <T>(work: (client: Client) => Promise<T>) => Promise<T>;

/** A vault that refuses new tokens too is not asked for more of them all the time. */
const renewalPauseMs = 10_000;

interface Session<Client> {
  /** Null until the vault has answered it once. */
  open: Client | null;
  readonly use: Use<Client>;
}

/**
 * A client remembers its token until that expires by our clock. A vault that answers 401 all the same, because
 * the token was revoked or the clocks differ, is asked once more by a new client with a new token: a 401 means
 * that nothing was done, so this is safe for creating calls too.
 */
export function openSessions<Client>(
  credential: TokenCredential,
  make: (credential: TokenCredential) => Promise<Client>,
): Use<Client> {
  let session = newSession(() => make(credential));
  let renewedAt = Number.NEGATIVE_INFINITY;

  function again<T>(
    refused: Session<Client>,
    work: (client: Client) => Promise<T>,
    error: unknown,
  ): Promise<T> {
    if ((error as { statusCode?: number }).statusCode !== 401) throw error;
    if (session === refused) {
      if (performance.now() - renewedAt < renewalPauseMs) throw error;
      renewedAt = performance.now();
      session = newSession(() => make(freshCredential(credential)));
    }
    return session.use(work);
  }

  return (work) => {
    const used = session;
    const answer = used.open === null ? used.use(work) : work(used.open);
    return answer.catch((error: unknown) => again(used, work, error));
  };
}

/** `credential`, whose first token is not one that it remembers: claims are asked of whoever issues them. */
function freshCredential(credential: TokenCredential): TokenCredential {
  let isFirst = true;
  return {
    getToken: (scopes, options) => {
      if (!isFirst) return credential.getToken(scopes, options);
      isFirst = false;
      // It asks for nothing that the SDK's tokens do not have anyway.
      const claims = JSON.stringify({ access_token: { xms_cc: { values: ['cp1'] } } });
      return credential.getToken(scopes, { claims, ...options });
    },
  };
}

/**
 * The client, loaded and made on first use. Until the vault has answered once, calls go one by one: the SDK
 * strips the body off its first request to provoke the challenge, and when two first requests overlap it may send
 * the real one without its body.
 */
function newSession<Client>(load: () => Promise<Client>): Session<Client> {
  let client: Promise<Client> | null = null;
  let first: Promise<unknown> | null = null;
  const loaded = () => {
    client ??= load().catch((error: unknown) => {
      client = null;
      throw error;
    });
    return client;
  };
  const session: Session<Client> = {
    open: null,
    use: async (work) => {
      const ready = await loaded();
      while (session.open === null && first !== null) await first.catch(() => undefined);
      if (session.open !== null) return work(ready);
      const running = work(ready).finally(() => {
        first = null;
      });
      first = running;
      try {
        const result = await running;
        session.open = ready;
        return result;
      } catch (error) {
        if (hasAnswered(error)) session.open = ready;
        throw error;
      }
    },
  };
  return session;
}

/** True when the vault itself refused, so that its challenge is behind us. */
function hasAnswered(error: unknown): boolean {
  const { statusCode } = error as { statusCode?: number };
  return statusCode !== undefined && statusCode !== 401 && statusCode < 500;
}
