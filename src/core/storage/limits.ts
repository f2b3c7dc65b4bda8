/** What every implementer of the storage ports accepts, so that memory refuses what Azure would. */
import { AppError } from '../errors.ts';
import type { DocumentWrite, JsonObject } from './ports.ts';

const bodyBytes = 256 * 1024;
const transactionWrites = 100;
/** The service takes 4 MiB with its envelope. */
const transactionBytes = 3_500_000;
const messageBytes = 48 * 1024;
const appendBytes = 4 * 1024 * 1024;
const defaultPageSize = 100;
const maxPageSize = 1000;

/** A document's body as ASCII JSON. @throws AppError `invalid_input` above 256 KiB of it */
export function bodyText(body: JsonObject): string {
  return textWithin(body, bodyBytes, 'a document');
}

/** A queue message as ASCII JSON. @throws AppError `invalid_input` above 48 KiB of it */
export function messageText(message: JsonObject): string {
  return textWithin(message, messageBytes, 'a message');
}

/** @throws AppError `invalid_input` when a transaction is empty, too big, or names an id twice */
export function checkTransaction(writes: readonly DocumentWrite[]): void {
  const ids = new Set(writes.map(({ id }) => id));
  if (writes.length === 0 || writes.length > transactionWrites || ids.size !== writes.length) {
    throw invalid(`a transaction has 1 to ${transactionWrites} writes, each id once`);
  }
  let size = 0;
  for (const write of writes) {
    if (write.kind === 'put') size += bodyText(write.body).length;
  }
  if (size > transactionBytes) throw invalid(`a transaction holds ${transactionBytes} bytes`);
}

/** `limit` within what one page may hold. */
export function pageSize(limit: number | undefined): number {
  return Math.min(Math.max(Math.trunc(limit ?? defaultPageSize), 1), maxPageSize);
}

/** @throws AppError `invalid_input` for a log name that a URL would change, or bytes no block holds */
export function checkAppend(name: string, position: number, bytes: Uint8Array): void {
  checkLogName(name);
  if (!Number.isSafeInteger(position) || position < 0)
    throw invalid('a position is a whole number');
  if (bytes.byteLength === 0 || bytes.byteLength > appendBytes) {
    throw invalid(`an append has 1 to ${appendBytes} bytes`);
  }
}

/** @throws AppError `invalid_input` for a log name that a URL would change */
export function checkLogName(name: string): void {
  const segments = name.split('/');
  const plain = segments.every((segment) => /^[A-Za-z0-9._-]+$/.test(segment));
  if (!plain || name.length > 512 || segments.some((segment) => segment.endsWith('.'))) {
    throw invalid(`not the name of a log: ${JSON.stringify(name.slice(0, 80))}`);
  }
}

function textWithin(value: JsonObject, limit: number, what: string): string {
  const text = JSON.stringify(value).replace(/[^\x20-\x7e]/g, escapeUnit);
  if (text.length > limit) throw invalid(`${what} holds at most ${limit} bytes`);
  return text;
}

/** JSON in plain ASCII: nothing on the way can cut a character in two or take it for another. */
function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function invalid(detail: string): AppError {
  return new AppError('invalid_input', { detail });
}
