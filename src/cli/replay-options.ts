import { parseArgs } from 'node:util';
import { AppError } from '../core/errors.ts';
import {
  changeSetting,
  changeSettings,
  defaultReplay,
  type ReplaySettings,
  replaySettings,
} from '../core/simulation/replay-settings.ts';

/** Settings, and how they were written. */
export interface Side {
  readonly settings: ReplaySettings;
  /** `ttl=60 split=a-*=v2`, or `defaults`. */
  readonly text: string;
}

export interface Options {
  /** A path, or `-`. */
  readonly log: string;
  readonly base: Side;
  readonly against: Side | null;
  /** Null for the simulated vault. */
  readonly live: LiveSettings | null;
  readonly json: boolean;
  readonly strict: boolean;
  readonly differences: boolean;
}

export interface LiveSettings {
  readonly vaults: readonly {
    readonly alias: string;
    readonly url: string;
    readonly purpose: 'main';
  }[];
  readonly speed: number;
  readonly allowsWrites: boolean;
}

const settingLines = Object.entries(replaySettings)
  .map(
    ([name, { says, takes }]) => `  ${`--${name}`.padEnd(17)} ${says}\n${' '.repeat(20)}${takes}\n`,
  )
  .join('');

export const usage = `Runs an access log again, and says what it would have come to under other settings.

  npm run replay -- LOG [options]

LOG is a file of lines as the access log writes them, or - for the standard input.
Without --vault it is run against simulated vaults, in virtual time: a day takes seconds.

What is to be found out (default: the product's own settings):
${settingLines}
  --against LIST    the same log under other settings beside it, such as ttl=60,budget=off

Real vaults instead of simulated ones:
  --vault ALIAS=URL the vault to ask for what the log has asked of ALIAS; may be given again
  --speed N         so many times faster than it was recorded (default 1)
  --allow-writes    also delete, purge, set: secrets get values of no meaning

  --json            the whole result as one object
  --differences     each operation that ended otherwise, one JSON line each, on standard error
  --strict          stop at the first line that cannot be read
  --help
`;

const options = {
  ...Object.fromEntries(
    Object.keys(replaySettings).map((name) => [name, { type: 'string', multiple: true } as const]),
  ),
  against: { type: 'string' },
  vault: { type: 'string', multiple: true },
  speed: { type: 'string' },
  'allow-writes': { type: 'boolean' },
  json: { type: 'boolean' },
  differences: { type: 'boolean' },
  strict: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

type Values = Readonly<
  Record<string, string | boolean | readonly (string | boolean)[] | undefined>
>;

/** @throws AppError `invalid_input`: which option, and what would do */
export function readOptions(given: readonly string[]): Options | 'help' {
  const { values, positionals } = parse(given);
  if (values['help'] === true) return 'help';
  const [log, ...more] = positionals;
  if (log === undefined) throw bad('LOG is missing: name a file, or - for the standard input');
  if (more.length > 0) {
    throw bad(
      `one LOG at a time, got ${positionals.length}: merge them, sort FILE FILE | npm run replay -- -`,
    );
  }
  const base = readBase(values);
  const live = readLive(values);
  const { against } = values;
  if (typeof against === 'string' && live !== null) {
    throw bad('--against compares simulated vaults; leave out --vault, or run twice');
  }
  return {
    log,
    base,
    live,
    against: typeof against === 'string' ? readAgainst(against, base.settings) : null,
    json: values['json'] === true,
    strict: values['strict'] === true,
    differences: values['differences'] === true,
  };
}

function parse(given: readonly string[]): { values: Values; positionals: readonly string[] } {
  try {
    return parseArgs({ args: [...given], options, allowPositionals: true });
  } catch (error) {
    const [first = ''] = (error instanceof Error ? error.message : String(error)).split('. ');
    throw bad(`${first}; --help lists the options`);
  }
}

function readBase(values: Values): Side {
  const chosen = Object.keys(replaySettings).flatMap((name) =>
    textsOf(values[name]).map((text) => ({ name, text })),
  );
  const settings = chosen.reduce(
    (changed, { name, text }) => named(`--${name}`, () => changeSetting(changed, name, text)),
    defaultReplay,
  );
  const text = chosen.map((one) => `${one.name}=${one.text}`).join(' ');
  return { settings, text: text === '' ? 'defaults' : text };
}

function readAgainst(text: string, base: ReplaySettings): Side {
  const settings = named('--against', () => changeSettings(base, text));
  return { settings, text: text.split(',').join(' ') };
}

function readLive(values: Values): LiveSettings | null {
  const vaults = textsOf(values['vault']).map(readVault);
  const { speed, 'allow-writes': allowsWrites } = values;
  if (vaults.length === 0) {
    const lone = speed !== undefined ? '--speed' : allowsWrites ? '--allow-writes' : null;
    if (lone !== null) throw bad(`${lone} is for real vaults; add --vault ALIAS=URL`);
    return null;
  }
  const times = Number(speed ?? 1);
  if (!(times > 0 && times <= 1_000))
    throw bad(`--speed takes a number above 0 and up to 1000; got "${speed}"`);
  return { vaults, speed: times, allowsWrites: allowsWrites === true };
}

function readVault(text: string): LiveSettings['vaults'][number] {
  const [alias = '', ...rest] = text.split('=');
  const url = rest.join('=');
  if (alias !== '' && URL.canParse(url) && new URL(url).protocol === 'https:') {
    return { alias, url, purpose: 'main' };
  }
  throw bad(`--vault takes ALIAS=URL, such as main=https://orders.vault.azure.net; got "${text}"`);
}

function textsOf(value: Values[string]): readonly string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}

/** Runs `read`, and says which option was wrong. */
function named<T>(option: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof AppError ? bad(`${option}: ${error.detail}`) : error;
  }
}

function bad(detail: string): AppError {
  return new AppError('invalid_input', { detail });
}
