/** What a vault takes as a secret. Checked before anything is sent: a vault's own words come late and vague. */
import { AppError } from '../errors.ts';
import type { NewSecret, SecretChanges } from './ports.ts';

const valueBytes = 25_600;
const contentTypeLength = 255;
const maxTags = 15;
/** 2038-01-19T03:14:07Z: the SDK cuts later dates to 32 bits, which makes them dates of the past. */
const lastDate = new Date((2 ** 31 - 1) * 1000);

/** @throws AppError `invalid_input` unless `name` is 1 to 127 letters, digits and hyphens */
export function checkSecretName(name: string): void {
  if (!/^[0-9a-zA-Z-]{1,127}$/.test(name)) {
    throw invalid(`not the name of a secret: ${JSON.stringify(name.slice(0, 130))}`);
  }
}

/** @throws AppError `invalid_input` unless `version` is 32 hexadecimal digits */
export function checkVersion(version: string): void {
  if (!/^[0-9a-f]{32}$/i.test(version)) {
    throw invalid(`not a version: ${JSON.stringify(version.slice(0, 40))}`);
  }
}

/** @throws AppError `invalid_input` for a value that is too long or an expiry no vault can keep */
export function checkNewSecret(secret: NewSecret): void {
  if (Buffer.byteLength(secret.value.expose()) > valueBytes) {
    throw invalid(`the value of a secret has at most ${valueBytes} bytes`);
  }
  checkSecretChanges(secret);
}

/** @throws AppError `invalid_input` for a date no vault can keep, too many tags, or a content type that is too long */
export function checkSecretChanges(changes: SecretChanges): void {
  for (const date of ['notBefore', 'expiresOn'] as const) checkDate(date, changes[date] ?? null);
  if ((changes.contentType ?? '').length > contentTypeLength) {
    throw invalid(`contentType has at most ${contentTypeLength} characters`);
  }
  if (Object.keys(changes.tags ?? {}).length > maxTags) {
    throw invalid(`an object has at most ${maxTags} tags`);
  }
}

function checkDate(field: string, date: Date | null): void {
  if (date === null || (date.getTime() >= 0 && date <= lastDate)) return;
  throw invalid(
    `${field} must lie between 1970 and ${lastDate.toISOString()}: the SDK cuts later dates short`,
  );
}

function invalid(detail: string): AppError {
  return new AppError('invalid_input', { detail });
}
