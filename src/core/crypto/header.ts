/**
 * The header of an envelope, version 1; integers are big-endian. What it means and why:
 * docs/decisions/0008-envelope-format.md.
 *
 *   message section, 71 bytes        never changes
 *     4 magic, 1 version, 1 suite, 1 log2 of the frame size, 32 salt, 32 commitment
 *   wrap section, at most 1,605 bytes        what a rewrap replaces
 *     2 length of the fields that follow
 *     2 + n key id, 1 + n algorithm, 2 + n wrapped data key
 *     32 tag over the wrap section so far
 */
import { AppError } from '../errors.ts';
import type { WrappedKey } from './wrapping-key.ts';

export interface Header {
  readonly frameBytes: number;
  readonly prelude: Buffer;
  readonly commitment: Buffer;
  /** Prelude and commitment. */
  readonly messageSection: Buffer;
  readonly wrap: WrapSection;
}

export interface WrapSection {
  readonly key: WrappedKey;
  /** What `tag` is computed over. */
  readonly tagged: Buffer;
  readonly tag: Buffer;
  /** All of the section. */
  readonly bytes: Buffer;
}

const magic = Buffer.from('KTEV', 'latin1');
const version = 1;
const suite = 1; // AES-256-GCM, keys and tags by SHA-512
const start = Buffer.from([...magic, version, suite]);

export const saltBytes = 32;
const commitmentBytes = 32;
export const wrapTagBytes = 32;
const preludeBytes = start.length + 1 + saltBytes;
const messageSectionBytes = preludeBytes + commitmentBytes;
const fixedBytes = messageSectionBytes + 2;

const maxKeyIdBytes = 512;
const maxAlgorithmBytes = 32;
const maxWrappedBytes = 1024;
const maxFieldsBytes = 2 + maxKeyIdBytes + 1 + maxAlgorithmBytes + 2 + maxWrappedBytes;

const frameExponents = { least: 12, most: 20 } as const;

/** True for 4 KiB, 8 KiB and so on to 1 MiB: other frames there are none. */
export function isFrameSize(bytes: number): boolean {
  const exponent = Math.log2(bytes);
  const { least, most } = frameExponents;
  return Number.isInteger(exponent) && exponent >= least && exponent <= most;
}

/**
 * What the headers of all messages under one data key have in common; salt and commitment are 0.
 * @param frameBytes as `isFrameSize`
 */
export function headerTemplate(frameBytes: number, wrapSection: Uint8Array): Buffer {
  const frameSize = Buffer.from([Math.log2(frameBytes)]);
  const blank = Buffer.alloc(saltBytes + commitmentBytes);
  return Buffer.concat([start, frameSize, blank, wrapSection]);
}

/** A new header, whose commitment is still to be set. */
export function beginHeader(template: Buffer, salt: Uint8Array): Buffer {
  const header = Buffer.from(template);
  header.set(salt, start.length + 1);
  return header;
}

/** All of a header to the end of its salt: what the message key is derived from. */
export function preludeOf(header: Buffer): Buffer {
  return header.subarray(0, preludeBytes);
}

export function setCommitment(header: Buffer, commitment: Uint8Array): void {
  header.set(commitment, preludeBytes);
}

/**
 * The wrap section for `key`; `tagOf` is given all of it but the tag.
 * @throws AppError `internal` when the wrapping key gave what no header can hold
 */
export function encodeWrapSection(key: WrappedKey, tagOf: (tagged: Buffer) => Buffer): WrapSection {
  const fault = faultOf(key);
  if (fault !== null) throw new AppError('internal', { detail: `wrapped data key: ${fault}` });
  const fields = Buffer.concat([
    sized(Buffer.from(key.keyId, 'latin1'), 2),
    sized(Buffer.from(key.algorithm, 'latin1'), 1),
    sized(key.wrapped, 2),
  ]);
  const tagged = sized(fields, 2);
  const tag = tagOf(tagged);
  return { key, tagged, tag, bytes: Buffer.concat([tagged, tag]) };
}

/**
 * How long the header is that `bytes` begin with; when they are too few to tell, how many do.
 * @throws AppError `corrupt` when they do not begin with a header
 */
export function headerLength(bytes: Uint8Array): number {
  const beginning = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const known = beginning.subarray(0, start.length);
  if (!known.equals(start.subarray(0, known.length))) throw damaged(unknownStart(known));
  if (beginning.length < fixedBytes) return fixedBytes;
  const fieldsBytes = beginning.readUInt16BE(messageSectionBytes);
  if (fieldsBytes > maxFieldsBytes) throw damaged('the wrap section is too long');
  return fixedBytes + fieldsBytes + wrapTagBytes;
}

/**
 * `bytes`, which must be one whole header, by its parts. Nothing in it is proven yet.
 * @throws AppError `corrupt`
 */
export function parseHeader(bytes: Uint8Array): Header {
  if (headerLength(bytes) !== bytes.length) throw damaged('the header has not its length');
  // A copy: the caller's bytes must not change between being proven and being used.
  const header = Buffer.from(bytes);
  const frameBytes = 2 ** header.readUInt8(start.length);
  if (!isFrameSize(frameBytes)) throw damaged('there is no such frame size');
  return {
    frameBytes,
    prelude: preludeOf(header),
    commitment: header.subarray(preludeBytes, messageSectionBytes),
    messageSection: header.subarray(0, messageSectionBytes),
    wrap: parseWrapSection(header.subarray(messageSectionBytes)),
  };
}

/**
 * The key version that `header` says its data key is wrapped under: to find what is still to be
 * rewrapped. Not proven before the header is opened or rewrapped.
 * @throws AppError `corrupt`
 */
export function keyIdOf(header: Uint8Array): string {
  return parseHeader(header).wrap.key.keyId;
}

/** What is the matter with an envelope, as an error. */
export function damaged(detail: string, cause?: unknown): AppError {
  return new AppError('corrupt', { detail: `envelope: ${detail}`, cause });
}

function parseWrapSection(bytes: Buffer): WrapSection {
  const tagged = bytes.subarray(0, -wrapTagBytes);
  const keyId = field(tagged, 2, 2);
  const algorithm = field(tagged, keyId.end, 1);
  const wrapped = field(tagged, algorithm.end, 2);
  if (wrapped.end !== tagged.length) throw damaged('the wrap section has not its length');
  const key = {
    keyId: keyId.value.toString('latin1'),
    algorithm: algorithm.value.toString('latin1'),
    wrapped: wrapped.value,
  };
  const fault = faultOf(key);
  if (fault !== null) throw damaged(fault);
  return { key, tagged, tag: bytes.subarray(-wrapTagBytes), bytes };
}

/** The field at `at`. One that ends beyond `bytes` is found by the next field, or by the last `end`. */
function field(bytes: Buffer, at: number, width: 1 | 2): { value: Buffer; end: number } {
  const begin = at + width;
  if (begin > bytes.length) throw damaged('the wrap section is too short');
  const end = begin + bytes.readUIntBE(at, width);
  return { value: bytes.subarray(begin, end), end };
}

function sized(value: Uint8Array, width: 1 | 2): Buffer {
  const length = Buffer.alloc(width);
  length.writeUIntBE(value.length, 0, width);
  return Buffer.concat([length, value]);
}

function faultOf({ keyId, algorithm, wrapped }: WrappedKey): string | null {
  if (!isText(keyId, maxKeyIdBytes)) return 'the key id is not 1 to 512 printable characters';
  if (!isText(algorithm, maxAlgorithmBytes)) return 'the algorithm is not 1 to 32 characters';
  const hasLength = wrapped.length > 0 && wrapped.length <= maxWrappedBytes;
  return hasLength ? null : 'the wrapped key is not 1 to 1,024 bytes';
}

/** No spaces, controls or line breaks: these texts end up in logs and URLs. */
function isText(text: string, maxLength: number): boolean {
  return text.length <= maxLength && /^[\x21-\x7e]+$/.test(text);
}

function unknownStart(bytes: Buffer): string {
  const isOurs = bytes.subarray(0, magic.length).equals(magic);
  return isOurs ? 'this version or suite is not known' : 'these bytes do not begin one';
}
