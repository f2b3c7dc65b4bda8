/** What a log, or a replay of it, comes to. */
import type { ErrorCode } from '../errors.ts';
import { weightOf } from '../vault/budget.ts';
import type { ReadSource } from '../vault/observer.ts';
import { Percentiles } from './latency.ts';
import { SlidingWindow } from './throttle.ts';

export interface ReplayFigures {
  /** Operations that were asked for. */
  readonly operations: number;
  /** Those of them that read one object, which a cache may answer. */
  readonly reads: number;
  /** Reads by where the answer came from. */
  readonly sources: Readonly<Record<ReadSource | 'uncached', number>>;
  /** The part of the reads that the cache answered (`hit`, `negative`, `stale`), 0 to 1; null without reads. */
  readonly hitRate: number | null;
  /** Requests to vaults: misses, refreshes, retries and pages of lists. */
  readonly vaultCalls: number;
  readonly callsPerOperation: number | null;
  /** Requests that a vault answered with 429. */
  readonly throttled: number;
  /** Operations that did not end well, by code. */
  readonly failed: Readonly<Partial<Record<ErrorCode, number>>>;
  /** Of operations, in milliseconds; null without any. */
  readonly latencyMs: {
    readonly p50: number | null;
    readonly p95: number | null;
    readonly p99: number | null;
  };
  /** Of each vault the 10 s in which most was asked of it. */
  readonly peaks: readonly VaultPeak[];
  readonly byOperation: readonly OperationFigures[];
}

export interface VaultPeak {
  readonly vault: string;
  /** In 10 s, what was answered with 429 included; a plain read is 1. */
  readonly transactions: number;
  /** What the vault answers in 10 s. */
  readonly limit: number;
  /** When those 10 s ended, UTC. */
  readonly until: string;
}

export interface OperationFigures {
  readonly operation: string;
  readonly operations: number;
  readonly hits: number;
  readonly vaultCalls: number;
  readonly throttled: number;
  readonly failed: number;
}

/** One operation that has ended. */
export interface Done {
  readonly operation: string;
  readonly isRead: boolean;
  /** Null for what went by no cache. */
  readonly source: ReadSource | null;
  readonly outcome: 'ok' | ErrorCode;
  readonly ms: number;
}

interface Peak {
  readonly window: SlidingWindow;
  transactions: number;
  at: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const fromCache: readonly (ReadSource | null)[] = ['hit', 'negative', 'stale'];

/** Adds up what happens; times must not go back. */
export class Tally {
  readonly #sources = { hit: 0, negative: 0, stale: 0, shared: 0, miss: 0, uncached: 0 };
  readonly #failed: Partial<Record<ErrorCode, number>> = {};
  readonly #latency = new Percentiles();
  readonly #peaks = new Map<string, Peak>();
  readonly #byOperation = new Map<string, Mutable<OperationFigures>>();
  #reads = 0;

  ended({ operation, isRead, source, outcome, ms }: Done): void {
    const figures = this.#of(operation);
    figures.operations++;
    this.#latency.add(ms);
    if (isRead) {
      this.#reads++;
      this.#sources[source ?? 'uncached']++;
    }
    if (fromCache.includes(source)) figures.hits++;
    if (outcome === 'ok') return;
    figures.failed++;
    this.#failed[outcome] = (this.#failed[outcome] ?? 0) + 1;
  }

  /** @param at milliseconds since 1970 */
  requested(at: number, vault: string, operation: string): void {
    this.#of(operation).vaultCalls++;
    const peak = this.#peaks.get(vault) ?? { window: new SlidingWindow(), transactions: 0, at };
    this.#peaks.set(vault, peak);
    peak.window.add(at, weightOf(operation));
    const transactions = peak.window.sum(at);
    if (transactions > peak.transactions) Object.assign(peak, { transactions, at });
  }

  throttled(operation: string): void {
    this.#of(operation).throttled++;
  }

  /** @param limit what a vault answers in 10 s */
  figures(limit: number): ReplayFigures {
    const byOperation = [...this.#byOperation.values()];
    const sum = (member: 'operations' | 'vaultCalls' | 'throttled') =>
      byOperation.reduce((total, figures) => total + figures[member], 0);
    const operations = sum('operations');
    const vaultCalls = sum('vaultCalls');
    const { hit, negative, stale } = this.#sources;
    return {
      operations,
      reads: this.#reads,
      sources: { ...this.#sources },
      hitRate: this.#reads === 0 ? null : (hit + negative + stale) / this.#reads,
      vaultCalls,
      callsPerOperation: operations === 0 ? null : vaultCalls / operations,
      throttled: sum('throttled'),
      failed: { ...this.#failed },
      latencyMs: {
        p50: this.#latency.at(0.5),
        p95: this.#latency.at(0.95),
        p99: this.#latency.at(0.99),
      },
      peaks: [...this.#peaks]
        .map(([vault, { transactions, at }]) => ({
          vault,
          // Weights are no whole numbers, and their sums have many digits.
          transactions: Math.round(transactions * 10) / 10,
          limit,
          until: new Date(at).toISOString(),
        }))
        .sort((left, right) => (left.vault < right.vault ? -1 : 1)),
      byOperation: byOperation.sort((left, right) => right.operations - left.operations),
    };
  }

  #of(operation: string): Mutable<OperationFigures> {
    const figures = this.#byOperation.get(operation) ?? {
      operation,
      ...{ operations: 0, hits: 0, vaultCalls: 0, throttled: 0, failed: 0 },
    };
    this.#byOperation.set(operation, figures);
    return figures;
  }
}
