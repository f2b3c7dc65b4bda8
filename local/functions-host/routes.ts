/** One parsed route template. Source: ASP.NET Core plain Route templates. */
export interface RouteTemplate {
  readonly text: string;
  readonly segments: readonly Segment[];
}

type Segment = readonly Part[];
type Part = { readonly literal: string } | Parameter;

interface Parameter {
  readonly name: string;
  readonly constraints: readonly Constraint[];
  readonly optional: boolean;
  readonly fallback: string | null;
  readonly catchAll: boolean;
}

interface Constraint {
  readonly test: (value: string) => boolean;
  /** A value that passes, for the shadow check; `null` when none is known. */
  readonly sample: string | null;
}

/** Route values by name, decoded. Optional parameters that are absent have no entry. */
export type RouteValues = Record<string, string>;

/** Parses a template such as `items/{id:int}/{*rest}`. @throws Error that says what is wrong. */
export function parseRoute(text: string): RouteTemplate {
  const trimmed = text.replace(/^~?\//, '').replace(/\/+$/, '');
  const segments = splitSegments(trimmed).map((segment) => parseSegment(segment, text));
  const parameters = segments.flat().filter((part) => 'name' in part);
  const names = parameters.map((parameter) => parameter.name.toLowerCase());
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  if (repeated !== undefined)
    throw new Error(`route "${text}": parameter "${repeated}" appears twice`);
  const catchAll = segments.findIndex((segment) =>
    segment.some((part) => 'name' in part && part.catchAll),
  );
  if (catchAll !== -1 && (catchAll !== segments.length - 1 || segments[catchAll]?.length !== 1)) {
    throw new Error(`route "${text}": a catch-all parameter must be the whole last segment`);
  }
  return { text, segments };
}

// A slash inside braces (in a regex constraint) does not end a segment.
function splitSegments(text: string): string[] {
  if (text === '') return [];
  const segments: string[] = [''];
  let depth = 0;
  for (const char of text) {
    if (char === '{') depth += 1;
    if (char === '}') depth -= 1;
    if (char === '/' && depth === 0) segments.push('');
    else segments[segments.length - 1] += char;
  }
  return segments;
}

function parseSegment(segment: string, route: string): Segment {
  if (segment === '') throw new Error(`route "${route}": a segment is empty`);
  const parts: Part[] = [];
  let literal = '';
  let at = 0;
  while (at < segment.length) {
    const token = readToken(segment, at, route);
    if ('name' in token.part) {
      if (literal !== '') parts.push({ literal });
      else if (parts.length > 0) {
        throw new Error(`route "${route}": two parameters need a literal between them`);
      }
      literal = '';
      parts.push(token.part);
    } else literal += token.part.literal;
    at = token.end;
  }
  if (literal !== '') parts.push({ literal });
  return parts;
}

function readToken(segment: string, at: number, route: string): { part: Part; end: number } {
  const char = segment[at] ?? '';
  const isBrace = char === '{' || char === '}';
  if (isBrace && segment[at + 1] === char) return { part: { literal: char }, end: at + 2 };
  if (char === '}') throw new Error(`route "${route}": "}" has no "{"`);
  if (char !== '{') return { part: { literal: char }, end: at + 1 };
  const end = endOfParameter(segment, at + 1);
  if (end === -1) throw new Error(`route "${route}": "{" is never closed`);
  const text = segment
    .slice(at + 1, end)
    .replaceAll('{{', '{')
    .replaceAll('}}', '}');
  return { part: parseParameter(text, route), end: end + 1 };
}

function endOfParameter(segment: string, from: number): number {
  for (let at = from; at < segment.length; at += 1) {
    const doubled = segment[at + 1] === segment[at];
    if ((segment[at] === '}' || segment[at] === '{') && doubled) at += 1;
    else if (segment[at] === '}') return at;
  }
  return -1;
}

function parseParameter(text: string, route: string): Parameter {
  const catchAll = text.startsWith('*');
  const body = text.replace(/^\*{1,2}/, '');
  const [head = '', ...tail] = splitOutsideParentheses(body);
  const name = head.replace(/[?=].*$/s, '');
  if (!/^[^/{}?*:=]+$/.test(name))
    throw new Error(`route "${route}": bad parameter name "${name}"`);
  const last = tail.length === 0 ? head : (tail.at(-1) ?? '');
  const { rest, fallback, optional } = takeSuffix(last);
  const constraints = tail.length === 0 ? [] : [...tail.slice(0, -1), rest];
  return {
    name,
    optional,
    fallback,
    catchAll,
    constraints: constraints.map((constraint) => parseConstraint(constraint, route)),
  };
}

function splitOutsideParentheses(text: string): string[] {
  const pieces = [''];
  let depth = 0;
  for (const char of text) {
    if (char === '(') depth += 1;
    if (char === ')') depth -= 1;
    if (char === ':' && depth === 0) pieces.push('');
    else pieces[pieces.length - 1] += char;
  }
  return pieces;
}

function takeSuffix(text: string): { rest: string; fallback: string | null; optional: boolean } {
  const closing = text.lastIndexOf(')');
  const equals = text.indexOf('=', closing + 1);
  if (equals !== -1)
    return { rest: text.slice(0, equals), fallback: text.slice(equals + 1), optional: false };
  const optional = text.endsWith('?');
  return { rest: optional ? text.slice(0, -1) : text, fallback: null, optional };
}

const guid = /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const within = (value: string, low: number, high: number) =>
  /^[+-]?\d+$/.test(value) && Number(value) >= low && Number(value) <= high;
const isNumber = (value: string) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value);
const plain = (test: (value: string) => boolean, sample: string) => () => ({ test, sample });

const constraintKinds: Readonly<Record<string, (args: readonly string[]) => Constraint>> = {
  int: plain((value) => within(value, -2_147_483_648, 2_147_483_647), '1'),
  long: plain((value) => within(value, -(2 ** 63), 2 ** 63), '1'),
  bool: plain((value) => /^(true|false)$/i.test(value), 'true'),
  datetime: plain((value) => !Number.isNaN(Date.parse(value)), '2030-01-01'),
  decimal: plain(isNumber, '1'),
  double: plain(isNumber, '1'),
  float: plain(isNumber, '1'),
  guid: plain((value) => guid.test(value), '00000000-0000-0000-0000-000000000000'),
  alpha: plain((value) => /^[a-z]*$/i.test(value), 'a'),
  required: plain((value) => value !== '', 'a'),
  minlength: ([least]) => ({
    test: (value) => value.length >= Number(least),
    sample: 'a'.repeat(Number(least)),
  }),
  maxlength: ([most]) => ({ test: (value) => value.length <= Number(most), sample: 'a' }),
  length: ([least, most = least]) => ({
    test: (value) => value.length >= Number(least) && value.length <= Number(most),
    sample: 'a'.repeat(Number(least)),
  }),
  min: ([least]) => ({
    test: (value) => within(value, Number(least), Number.MAX_VALUE),
    sample: least ?? null,
  }),
  max: ([most]) => ({
    test: (value) => within(value, -Number.MAX_VALUE, Number(most)),
    sample: most ?? null,
  }),
  range: ([least, most]) => ({
    test: (value) => within(value, Number(least), Number(most)),
    sample: least ?? null,
  }),
};

function parseConstraint(text: string, route: string): Constraint {
  const match = /^([a-z]+)(?:\((.*)\))?$/is.exec(text);
  const kind = match?.[1]?.toLowerCase() ?? '';
  if (kind === 'regex') {
    const pattern = new RegExp(match?.[2] ?? '', 'i');
    return { test: (value) => pattern.test(value), sample: null };
  }
  const build = Object.hasOwn(constraintKinds, kind) ? constraintKinds[kind] : undefined;
  if (build === undefined) throw new Error(`route "${route}": unknown constraint "${text}"`);
  return build((match?.[2] ?? '').split(',').map((argument) => argument.trim()));
}

/**
 * The route values when `path` (raw, percent-encoded, without query) matches, else `null`.
 * Case is ignored, so is a trailing slash. Values are decoded, except `%2F`, which Kestrel leaves.
 */
export function matchRoute(template: RouteTemplate, path: string): RouteValues | null {
  const trimmed = path.replace(/^\//, '').replace(/\/$/, '');
  const given = trimmed === '' ? [] : trimmed.split('/').map(decodeSegment);
  const values: RouteValues = {};
  for (const [index, segment] of template.segments.entries()) {
    const [only] = segment;
    if (only !== undefined && 'name' in only && only.catchAll) {
      return takeValue(only, given.slice(index).join('/'), values) ? values : null;
    }
    if (!matchSegment(segment, given[index] ?? '', values)) return null;
  }
  return given.length > template.segments.length ? null : values;
}

function decodeSegment(segment: string): string {
  return segment
    .split(/(%2f)/i)
    .map((piece) => {
      try {
        return /^%2f$/i.test(piece) ? piece : decodeURIComponent(piece);
      } catch {
        return piece;
      }
    })
    .join('');
}

function matchSegment(segment: Segment, text: string, values: RouteValues): boolean {
  const [only] = segment;
  if (segment.length === 1 && only !== undefined && 'name' in only)
    return takeValue(only, text, values);
  const parameters = segment.filter((part) => 'name' in part);
  const pattern = segment
    .map((part) => ('name' in part ? '(.+)' : escapePattern(part.literal)))
    .join('');
  const match = new RegExp(`^${pattern}$`, 'is').exec(text);
  if (match === null) return false;
  return parameters.every((parameter, index) =>
    takeValue(parameter, match[index + 1] ?? '', values),
  );
}

function escapePattern(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

function takeValue(parameter: Parameter, text: string, values: RouteValues): boolean {
  if (text === '') {
    if (parameter.fallback !== null) values[parameter.name] = parameter.fallback;
    return parameter.optional || parameter.catchAll || parameter.fallback !== null;
  }
  if (!parameter.constraints.every((constraint) => constraint.test(text))) return false;
  values[parameter.name] = text;
  return true;
}

/** Whether `first`, tried before `second`, certainly takes some path meant for `second`. */
export function shadows(first: RouteTemplate, second: RouteTemplate): boolean {
  const sample = second.segments.map((segment) => segment.map(sampleOf));
  if (sample.some((segment) => segment.includes(null))) return false;
  return matchRoute(first, sample.map((segment) => segment.join('')).join('/')) !== null;
}

function sampleOf(part: Part): string | null {
  if ('literal' in part) return encodeURIComponent(part.literal);
  const [constraint] = part.constraints;
  return constraint === undefined ? 'sample-value' : constraint.sample;
}
