import { AppError } from '../errors.ts';
import { isFrameSize } from './header.ts';

/** When a data key seals no more messages. */
export interface SealingLimits {
  /** Default 600, at most a day. */
  readonly maxAgeSeconds: number;
  /** Default 2^20. */
  readonly maxMessages: number;
  /**
   * Of plaintext; default 2^36. A longer message gets a data key for itself; a stream is counted as
   * it goes by.
   */
  readonly maxBytes: number;
}

/** How long, and how many, data keys are kept to open more messages. */
export interface OpeningLimits {
  /**
   * Default 600, at most a day. As long as this, messages are opened whose wrapping key has been
   * disabled since.
   */
  readonly maxAgeSeconds: number;
  /** Default 1,000. */
  readonly maxKeys: number;
}

export interface EnvelopeLimits {
  readonly sealing: SealingLimits;
  readonly opening: OpeningLimits;
  /**
   * What new messages are cut into, and what a stream holds in memory: a power of two from 4 KiB to
   * 1 MiB; default 128 KiB.
   */
  readonly frameBytes: number;
  /**
   * Longest plaintext that is sealed, or opened as a stream: default 2^40, at most 2^44, which is
   * 2^32 of the smallest frames.
   */
  readonly maxMessageBytes: number;
}

/** Limits that are given; the others are the defaults. */
export interface GivenLimits {
  readonly sealing?: Partial<SealingLimits>;
  readonly opening?: Partial<OpeningLimits>;
  readonly frameBytes?: number;
  readonly maxMessageBytes?: number;
}

const daySeconds = 86_400;

/** @throws AppError `bad_configuration` that lists every limit that cannot be one */
export function envelopeLimits(given: GivenLimits): EnvelopeLimits {
  const limits: EnvelopeLimits = {
    sealing: { maxAgeSeconds: 600, maxMessages: 2 ** 20, maxBytes: 2 ** 36, ...given.sealing },
    opening: { maxAgeSeconds: 600, maxKeys: 1000, ...given.opening },
    frameBytes: given.frameBytes ?? 2 ** 17,
    maxMessageBytes: given.maxMessageBytes ?? 2 ** 40,
  };
  const { sealing, opening, frameBytes, maxMessageBytes } = limits;
  const faults = Object.entries({
    'sealing.maxAgeSeconds': isAge(sealing.maxAgeSeconds),
    'sealing.maxMessages': isCount(sealing.maxMessages),
    'sealing.maxBytes': isCount(sealing.maxBytes),
    'opening.maxAgeSeconds': isAge(opening.maxAgeSeconds),
    'opening.maxKeys': isCount(opening.maxKeys),
    frameBytes: isFrameSize(frameBytes),
    maxMessageBytes: isCount(maxMessageBytes) && maxMessageBytes <= 2 ** 44,
  }).flatMap(([name, isGood]) => (isGood ? [] : [name]));
  if (faults.length === 0) return limits;
  throw new AppError('bad_configuration', { detail: `envelope limits: ${faults.join(', ')}` });
}

/** @throws AppError `invalid_input` for a message of more bytes than `most` */
export function checkMessageLength(bytes: number, most: number): void {
  if (bytes <= most) return;
  throw new AppError('invalid_input', { detail: `a message of more than ${most} bytes` });
}

function isAge(seconds: number): boolean {
  return seconds > 0 && seconds <= daySeconds;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}
