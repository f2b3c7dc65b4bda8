/**
 * Envelope encryption: AES-256-GCM under a data key that lies, wrapped by a key of a vault, in the
 * envelope's header. The format and its reasons: docs/decisions/0008-envelope-format.md.
 */
import { randomFillSync } from 'node:crypto';
import { type Clock, systemClock } from '../clock.ts';
import type { ByteSource, ByteStream } from './byte-source.ts';
import { rewrapDataKey } from './data-key.ts';
import {
  beginHeader,
  damaged,
  type Header,
  parseHeader,
  preludeOf,
  saltBytes,
  setCommitment,
} from './header.ts';
import type { Sealed, SealedStream } from './joined.ts';
import {
  cipherKeyOf,
  commitmentOf,
  isSame,
  type MessageKey,
  messageKeyOf,
  wipe,
} from './key-schedule.ts';
import { envelopeLimits, type GivenLimits } from './limits.ts';
import { openingKeys } from './opening-keys.ts';
import { joinFrames, openPayload, sealPayload } from './payload.ts';
import { openPayloadStream, sealPayloadStream } from './payload-stream.ts';
import { type SealingKey, sealingKeys } from './sealing-keys.ts';
import type { WrappingKey } from './wrapping-key.ts';

export interface EnvelopeOptions extends GivenLimits {
  readonly wrappingKey: WrappingKey;
  readonly clock?: Clock;
}

export interface MessageOptions {
  /**
   * What the message is bound to but does not carry, such as the id of the record it belongs to: it
   * opens with the same bytes only. Not to be changed before the call has ended. Default: none.
   */
  readonly associatedData?: Uint8Array;
  /** Ends the wait for a wrapping key, and a stream between two frames: its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Seals and opens messages. All methods throw AppError: `corrupt` for an envelope that is not, to
 * the byte, what was sealed under this associated data; `invalid_input` for a message that is too
 * long or a stream of something else than bytes; what the wrapping key throws.
 */
export interface Envelope {
  /**
   * `plaintext`, which must not change meanwhile, as header and payload. Takes the thread for about
   * 0.3 ms a MiB: what is longer than a few is better sealed as a stream.
   */
  seal(plaintext: Uint8Array, options?: MessageOptions): Promise<Sealed>;
  /** The plaintext; nothing of it before all of it is proven. */
  open(sealed: Sealed, options?: MessageOptions): Promise<Uint8Array>;
  /** The header at once; the payload, which can be read once, as `source` gives bytes. */
  sealStream(source: ByteSource, options?: MessageOptions): Promise<SealedStream<ByteStream>>;
  /**
   * The plaintext frame by frame, each proven to be the one that was sealed for its place. That none
   * is missing at the end is proven by the last: who must not act on half a message waits until the
   * generator has ended without an error, or calls `openAll`.
   */
  openStream(sealed: SealedStream, options?: MessageOptions): ByteStream;
  /** The plaintext of a stream, at most `maxBytes` of it; nothing before all of it is proven. */
  openAll(
    sealed: SealedStream,
    options: MessageOptions & { readonly maxBytes: number },
  ): Promise<Uint8Array>;
  /**
   * Another header for the same payload: its data key is wrapped under the newest version of the
   * wrapping key, and was unwrapped again to prove it. The old header goes on opening the payload for
   * as long as its version unwraps. Needs no associated data: what of the header belongs to the
   * message is kept as it is, and proven on opening.
   */
  rewrap(header: Uint8Array, options?: Pick<MessageOptions, 'signal'>): Promise<Uint8Array>;
  /**
   * Wipes the data keys in memory; the envelope can be used on. For when the wrapping key was
   * rotated, so that the next message is sealed under the new version, or disabled, and for the end.
   */
  forget(): void;
}

const none = new Uint8Array();

/** @throws AppError `bad_configuration` for limits that cannot be */
export function createEnvelope(options: EnvelopeOptions): Envelope {
  const { wrappingKey, clock = systemClock } = options;
  const limits = envelopeLimits(options);
  const { frameBytes, maxMessageBytes } = limits;
  const sealers = sealingKeys(wrappingKey, limits, clock);
  const openers = openingKeys(wrappingKey, limits.opening, clock);
  const nextSalt = saltSource();

  const begin = ({ dataKey, template }: SealingKey, associatedData: Uint8Array) => {
    const header = beginHeader(template, nextSalt());
    const messageKey = messageKeyOf(dataKey, preludeOf(header), associatedData);
    setCommitment(header, commitmentOf(messageKey));
    return { header, messageKey };
  };
  const unlock = async (bytes: Uint8Array, { associatedData = none, signal }: MessageOptions) => {
    const header = parseHeader(bytes);
    const derive = (dataKey: Buffer) => provenMessageKey(dataKey, header, associatedData);
    const messageKey = await openers.use(header.wrap, derive, signal);
    return { messageKey, frameBytes: header.frameBytes };
  };
  const openFrames = async function* (
    { header, payload }: SealedStream,
    options: MessageOptions,
    maxBytes: number,
  ): ByteStream {
    const { messageKey, frameBytes } = await unlock(header, options);
    const { signal } = options;
    yield* openPayloadStream(messageKey, payload, { frameBytes, maxBytes, signal });
  };

  return {
    seal(plaintext, { associatedData = none, signal } = {}) {
      const seal = (key: SealingKey) => {
        const { header, messageKey } = begin(key, associatedData);
        try {
          return { header, payload: sealPayload(cipherKeyOf(messageKey), frameBytes, plaintext) };
        } finally {
          wipe(messageKey);
        }
      };
      return sealers.use(plaintext.length, seal, signal);
    },
    async open({ header, payload }, options = {}) {
      const { messageKey, frameBytes } = await unlock(header, options);
      try {
        return openPayload(cipherKeyOf(messageKey), frameBytes, payload);
      } finally {
        wipe(messageKey);
      }
    },
    sealStream(source, { associatedData = none, signal } = {}) {
      const start = (key: SealingKey) => {
        const { header, messageKey } = begin(key, associatedData);
        const options = { frameBytes, maxBytes: maxMessageBytes, count: key.count, signal };
        return { header, payload: sealPayloadStream(messageKey, source, options) };
      };
      return sealers.use(0, start, signal);
    },
    openStream: (sealed, options = {}) => openFrames(sealed, options, maxMessageBytes),
    async openAll(sealed, { maxBytes, ...options }) {
      const frames: Uint8Array[] = [];
      try {
        const most = Math.min(maxBytes, maxMessageBytes);
        for await (const frame of openFrames(sealed, options, most)) frames.push(frame);
        return joinFrames(frames);
      } catch (error) {
        frames.forEach(wipe);
        throw error;
      }
    },
    async rewrap(header, { signal } = {}) {
      const { messageSection, wrap } = parseHeader(header);
      const { bytes } = await rewrapDataKey(wrappingKey, wrap, signal);
      return Buffer.concat([messageSection, bytes]);
    },
    forget() {
      sealers.forget();
      openers.forget();
    },
  };
}

/** The key of the message of `header`, whose message section is proven by it. */
function provenMessageKey(dataKey: Buffer, header: Header, associatedData: Uint8Array): MessageKey {
  const messageKey = messageKeyOf(dataKey, header.prelude, associatedData);
  if (isSame(commitmentOf(messageKey), header.commitment)) return messageKey;
  wipe(messageKey);
  throw damaged('header, data key or associated data are not those it was sealed with');
}

/**
 * Random salts, each given once. Drawn 128 at a time: one by one they would cost a tenth of what
 * sealing 64 KiB costs.
 */
function saltSource(): () => Uint8Array {
  const pool = Buffer.alloc(128 * saltBytes);
  let at = pool.length;
  return () => {
    if (at === pool.length) {
      randomFillSync(pool);
      at = 0;
    }
    at += saltBytes;
    return pool.subarray(at - saltBytes, at);
  };
}
