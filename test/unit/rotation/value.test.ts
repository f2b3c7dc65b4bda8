import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ValueShape } from '../../../src/core/policies/policy.ts';
import { parseValue, renderValue } from '../../../src/core/rotation/value.ts';
import { SecretString } from '../../../src/core/secret-string.ts';

const raw: ValueShape = { shape: 'raw' };
const json: ValueShape = {
  shape: 'json',
  template: {
    username: '{{username}}',
    password: '{{password}}',
    port: 5432,
    tls: true,
    kind: 'pg',
  },
};
const secret = (text: string) => new SecretString(text);

describe('the value of a version', () => {
  it('is the password alone when it is raw', () => {
    expect(renderValue(raw, { username: 'app', password: secret('p') }).expose()).toBe('p');
    expect(parseValue(raw, secret('p'))).toEqual({ username: null, password: secret('p') });
  });

  it('is the filled template when it is JSON', () => {
    const value = renderValue(json, { username: 'app', password: secret('p"\\{{username}}') });
    expect(JSON.parse(value.expose())).toEqual({
      username: 'app',
      password: 'p"\\{{username}}',
      port: 5432,
      tls: true,
      kind: 'pg',
    });
  });

  it('has an empty user name where there is none', () => {
    const value = renderValue(json, { username: null, password: secret('p') });
    expect(JSON.parse(value.expose())).toMatchObject({ username: '' });
  });

  it('gives back what was put in, whatever it is', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1 }),
        fc.string({ minLength: 1 }),
        (username, password) => {
          const value = renderValue(json, { username, password: secret(password) });
          const read = parseValue(json, value);
          expect(read.username).toBe(username);
          expect(read.password.expose()).toBe(password);
        },
      ),
    );
  });

  it('may hold members the template does not know', () => {
    const read = parseValue(json, secret('{"password":"p","other":1}'));
    expect(read.username).toBeNull();
    expect(read.password.expose()).toBe('p');
  });

  it.each([
    ['no JSON', 'hunter2', 'is not JSON'],
    ['a number', '7', 'is not a JSON object'],
    ['null', 'null', 'is not a JSON object'],
    ['without a password', '{"username":"hunter2"}', 'has no password member'],
    ['with an empty password', '{"password":""}', 'has no password member'],
    ['with a number for a password', '{"password":7}', 'has no password member'],
    ['a list', '["hunter2"]', 'has no password member'],
  ])('is refused without being quoted when it is %s', (_what, text, message) => {
    const refusal = () => parseValue(json, secret(text));
    expect(refusal).toThrow(message);
    expect(refusal).not.toThrow('hunter2');
  });

  it('is not fooled by what every object inherits', () => {
    const shape: ValueShape = { shape: 'json', template: { constructor: '{{password}}' } };
    expect(() => parseValue(shape, secret('{}'))).toThrow('has no password member');
  });
});
