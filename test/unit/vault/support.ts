import { expect } from 'vitest';
import { AppError, type ErrorCode } from '../../../src/core/errors.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import type { CallEnd, Observer, ReadEnd } from '../../../src/core/vault/observer.ts';
import type { Failure } from '../../../src/core/vault/pipeline.ts';
import type { SecretVersion } from '../../../src/core/vault/ports.ts';
import { type VaultCallInfo, VaultError } from '../../../src/core/vault/vault-error.ts';

const call: VaultCallInfo = { vault: 'main', operation: 'getSecret', object: 'orders-db' };

/** What a vault's answer of this status is thrown as. */
export function refusal(status: number, code: VaultError['code'] = codeOf(status)): VaultError {
  return new VaultError(code, call, {
    detail: `get orders-db in main: ${status}`,
    refusal: { status, code: `Status${status}`, innerCode: null },
  });
}

/** No answer at all. */
export function silence(): VaultError {
  return new VaultError('vault_unavailable', call, { detail: 'get orders-db in main: no answer' });
}

function codeOf(status: number): VaultError['code'] {
  if (status === 404) return 'not_found';
  if (status === 403) return 'vault_denied';
  if (status === 429) return 'vault_throttled';
  return status >= 500 ? 'vault_unavailable' : 'vault_rejected';
}

/** As the adapter judges. */
export function judge(cause: unknown): Failure {
  if (!(cause instanceof VaultError)) {
    if (cause instanceof AppError) return { error: cause, transient: false, retryAfterMs: null };
    return { error: silence(), transient: true, retryAfterMs: null, service: 'down' };
  }
  const isDown = cause.code === 'vault_unavailable';
  const transient = isDown || cause.code === 'vault_throttled';
  const { retryAfterMs } = cause;
  return { error: cause, transient, retryAfterMs, service: isDown ? 'down' : 'alive' };
}

export const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });

export function secret(text: string, version = '0'.repeat(32)): SecretVersion {
  const created = new Date('2030-01-01T00:00:00Z');
  return {
    properties: {
      ...{ name: 'orders-db', version, enabled: true, created, updated: created },
      ...{ notBefore: null, expiresOn: null, contentType: null, tags: { a: 'b' }, managed: false },
    },
    value: new SecretString(text),
  };
}

/** A clock that stands until it is moved. */
export function handClock(): { now: () => number; pass: (ms: number) => void } {
  let now = 0;
  return {
    now: () => now,
    pass: (ms) => {
      now += ms;
    },
  };
}

/** An observer that writes down what it is told, one line each. */
export function recorder(): Required<Observer> & { readonly lines: string[] } {
  const lines: string[] = [];
  const about = ({ vault, operation, object }: VaultCallInfo) =>
    `${vault} ${operation} ${object ?? '-'}`;
  return {
    lines,
    callStarted: (info) => {
      lines.push(`call ${about(info)}`);
      return {
        ended: ({ outcome, attempts }: CallEnd) =>
          lines.push(`ended ${about(info)} ${outcome} ${attempts}`),
      };
    },
    retrying: (_, { attempt, code, delayMs }) =>
      lines.push(`retry ${attempt} ${code} ${Math.round(delayMs)}`),
    budgetWaited: (_, ms) => lines.push(`budget ${Math.round(ms)}`),
    budgetCut: (vault, share) => lines.push(`cut ${vault} ${share}`),
    circuitChanged: (vault, state) => lines.push(`circuit ${vault} ${state}`),
    readEnded: (info, { source, outcome }: ReadEnd) =>
      lines.push(`read ${about(info)} ${source} ${outcome}`),
    invalidationFailed: (direction, error) => lines.push(`${direction} ${String(error)}`),
  };
}
