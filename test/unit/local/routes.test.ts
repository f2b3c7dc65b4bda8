import { describe, expect, it } from 'vitest';
import { matchRoute, parseRoute, shadows } from '../../../local/functions-host/routes.ts';

const match = (template: string, path: string) => matchRoute(parseRoute(template), path);

describe('route templates', () => {
  it.each([
    ['api/items', '/API/Items/', {}],
    ['items/{id}', '/items/a%20b', { id: 'a b' }],
    ['items/{id}', '/items/a%2Fb', { id: 'a%2Fb' }],
    ['items/{id}', '/items/%zz', { id: '%zz' }],
    ['items/{id?}', '/items', {}],
    ['items/{id=first}', '/items', { id: 'first' }],
    ['items/{id:int?}', '/items', {}],
    ['items/{id:int}', '/items/-5', { id: '-5' }],
    ['files/{*rest}', '/files/a/b/c', { rest: 'a/b/c' }],
    ['files/{*rest}', '/files', {}],
    ['files/{name}.{extension}', '/files/a.b.txt', { name: 'a.b', extension: 'txt' }],
    ['v{version:int}/x', '/v2/x', { version: '2' }],
    ['{code:regex(^\\d{{3}}$)}', '/123', { code: '123' }],
    [
      '{id:guid}',
      '/0f8fad5b-d9cb-469f-a165-70867728950e',
      { id: '0f8fad5b-d9cb-469f-a165-70867728950e' },
    ],
    ['{name:alpha:length(2,4)}', '/abc', { name: 'abc' }],
    ['{level:range(1,5)}', '/5', { level: '5' }],
    ['a{{b}}', '/a%7Bb%7D', {}],
  ])('match %s with %s', (template, path, values) => {
    expect(match(template, path)).toEqual(values);
  });

  it.each([
    ['items/{id}', '/items'],
    ['items/{id}', '/items/a/b'],
    ['items/{id:int}', '/items/2147483648'],
    ['{id:guid}', '/recent'],
    ['{code:regex(^\\d{{3}}$)}', '/1234'],
    ['{name:alpha:length(2,4)}', '/abcde'],
    ['{flag:bool}', '/yes'],
    ['items', '/items//'],
  ])('do not match %s with %s', (template, path) => {
    expect(match(template, path)).toBeNull();
  });

  it.each([
    ['{a}/{A}', 'appears twice'],
    ['{*rest}/x', 'catch-all'],
    ['{a}{b}', 'literal between'],
    ['{a', 'never closed'],
    ['a}', 'has no'],
    ['a//b', 'empty'],
    ['{a:colour}', 'unknown constraint'],
    ['{a:tostring}', 'unknown constraint'],
  ])('refuse %s', (template, reason) => {
    expect(() => parseRoute(template)).toThrow(reason);
  });

  it('tell when one hides another', () => {
    expect(shadows(parseRoute('items/{id}'), parseRoute('items/recent'))).toBe(true);
    expect(shadows(parseRoute('items/{id:guid}'), parseRoute('items/recent'))).toBe(false);
  });
});
