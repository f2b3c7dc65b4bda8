import { AppError, hasCode } from '../errors.ts';
import type { ValueShape } from '../policies/policy.ts';
import { SecretString } from '../secret-string.ts';

/** Who logs in with what; the name is null where the target knows one login only. */
export interface Credential {
  readonly username: string | null;
  readonly password: SecretString;
}

/** The text of a new version. */
export function renderValue(shape: ValueShape, credential: Credential): SecretString {
  if (shape.shape === 'raw') return credential.password;
  const filled = Object.entries(shape.template).map(([key, member]) => [
    key,
    fill(member, credential),
  ]);
  return new SecretString(JSON.stringify(Object.fromEntries(filled)));
}

function fill(
  member: string | number | boolean,
  credential: Credential,
): string | number | boolean {
  if (member === '{{password}}') return credential.password.expose();
  if (member === '{{username}}') return credential.username ?? '';
  return member;
}

/**
 * The credential in a version's text; members of the JSON beyond the template are ignored.
 * @throws AppError `invalid_input` naming the missing member, never the text
 */
export function parseValue(shape: ValueShape, value: SecretString): Credential {
  if (shape.shape === 'raw') return { username: null, password: value };
  const members = parseMembers(value);
  const password = read(shape.template, members, '{{password}}');
  if (password === null) throw invalid('has no password member as the policy shapes it');
  return {
    username: read(shape.template, members, '{{username}}'),
    password: new SecretString(password),
  };
}

/** Names of the members of a stored JSON object that `shape` would not write again. */
export function unlistedMembers(shape: ValueShape, value: SecretString): readonly string[] {
  if (shape.shape === 'raw') return [];
  try {
    return Object.keys(parseMembers(value)).filter((name) => !(name in shape.template));
  } catch (error) {
    // Not JSON: whether that is a fault is for whoever needs its credential.
    if (hasCode(error, 'invalid_input')) return [];
    throw error;
  }
}

function parseMembers(value: SecretString): Readonly<Record<string, unknown>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.expose());
  } catch {
    // No cause: the parser's message quotes the text.
    throw invalid('is not JSON');
  }
  if (typeof parsed === 'object' && parsed !== null) return { ...parsed };
  throw invalid('is not a JSON object');
}

function read(
  template: Readonly<Record<string, unknown>>,
  members: Readonly<Record<string, unknown>>,
  placeholder: string,
): string | null {
  const key = Object.keys(template).find((name) => template[name] === placeholder);
  const found = key === undefined ? undefined : members[key];
  return typeof found === 'string' && found !== '' ? found : null;
}

function invalid(what: string): AppError {
  return new AppError('invalid_input', { detail: `the stored value ${what}` });
}
