import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { VerifiedToken } from './token-check.ts';

/** Whose tokens end; without any member everybody's. */
export const RevocationWish = z.strictObject({
  objectId: z.string().min(1).optional(),
  appId: z.string().min(1).optional(),
});
type RevocationWish = z.output<typeof RevocationWish>;

type Revocation = RevocationWish & {
  readonly id: string;
  /** Milliseconds since 1970, of the system's clock, as in tokens. */
  readonly at: number;
};

/** Tokens of these callers that are older than the revocation are refused; new ones are accepted. */
export class Revocations {
  #list: Revocation[] = [];

  add(wish: RevocationWish): Revocation {
    const revocation = { ...wish, id: randomUUID(), at: Date.now() };
    this.#list.push(revocation);
    return revocation;
  }

  list(): readonly Revocation[] {
    return this.#list;
  }

  clear(): void {
    this.#list = [];
  }

  /** The moment after which a token must have been issued to be accepted; `null` when this one is. */
  endOf(token: VerifiedToken): number | null {
    const ended = this.#list.findLast((revocation) => ends(revocation, token));
    return ended?.at ?? null;
  }
}

function ends({ objectId, appId, at }: Revocation, token: VerifiedToken): boolean {
  const { caller, issuedAt, firstSeenAt } = token;
  if (objectId !== undefined && objectId !== caller.objectId) return false;
  if (appId !== undefined && appId !== caller.appId) return false;
  // Tokens tell whole seconds: of two from the second of the revocation the one that was seen before it is the old one.
  return issuedAt < Math.floor(at / 1000) || firstSeenAt <= at;
}
