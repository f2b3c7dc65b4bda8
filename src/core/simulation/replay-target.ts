import type { ErrorCode } from '../errors.ts';
import type { LogLine } from './replay-log.ts';

/** One operation of the log that is to be done again, past the cache. */
export interface ReplayCall {
  readonly line: LogLine;
  readonly instance: string;
  /** The vault in which the object lies now. */
  readonly vault: string;
  /** Whether the cache asks for itself, while the reader has its answer. */
  readonly isBackground: boolean;
}

/** What a call is told about while it is done. */
export interface ReplayMeter {
  /** A request is sent. */
  requested(call: ReplayCall): void;
  /** One of them was answered with 429. */
  throttled(call: ReplayCall): void;
}

/** The vaults a log is run against. */
export interface ReplayTarget {
  /** Why a line cannot be replayed here; null when it can. */
  refuses(line: LogLine): string | null;
  /** Learns from a line before anything is done at its time. */
  observe(line: LogLine): void;
  /**
   * Does the operation. @returns the version it was about, if any
   * @throws AppError as the vault's services do
   */
  perform(call: ReplayCall, meter: ReplayMeter): Promise<{ readonly version: string | null }>;
  /** Whether versions mean the same here as in the log. */
  readonly keepsVersions: boolean;
  /** Waits until whatever is under way has ended. */
  finish(): Promise<void>;
}

/** How an operation went. */
export interface Ending {
  readonly outcome: 'ok' | ErrorCode;
  readonly version: string | null;
}
