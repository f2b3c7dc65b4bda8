/** What a replay is to find out: under which settings of cache, limits, instances and vaults the log is run. */
import { AppError } from '../errors.ts';
import { type BreakerSettings, vaultBreaker } from '../vault/breaker.ts';
import { vaultBudget } from '../vault/budget.ts';
import { type CacheSettings, vaultCache } from '../vault/cache.ts';
import { vaultInvalidation } from '../vault/generation.ts';
import { type LatencyModel, reportedLatency } from './latency.ts';
import { vaultTransactions } from './throttle.ts';

export interface ReplaySettings {
  /** `ttlMs` 0: without a cache. */
  readonly cache: CacheSettings;
  /** Whether reads that went by no cache when they were recorded go by none again. */
  readonly keepUncached: boolean;
  /** When the other instances drop what one of them has changed; null: not before its time is up. */
  readonly learnAfterMs: number | null;
  /** Plain reads a vault answers in 10 s. */
  readonly transactions: number;
  /** The part of `transactions` that one instance takes, 0 to 1; null: it takes what it can get. */
  readonly share: number | null;
  readonly breaker: BreakerSettings | null;
  /** Null: as recorded. Else the operations are dealt out evenly. */
  readonly instances: number | null;
  /** The first that fits an object says where it lies; otherwise it stays where it was. */
  readonly split: readonly SplitRule[];
  readonly latency: LatencyModel;
}

export interface SplitRule {
  /** As it was written: `orders-*=vault2`. */
  readonly text: string;
  readonly fits: (vault: string, object: string) => boolean;
  /** The alias of the vault it lies in. */
  readonly to: string;
}

/** As the product is set by default. */
export const defaultReplay: ReplaySettings = {
  cache: vaultCache,
  keepUncached: false,
  learnAfterMs: vaultInvalidation.pollMs,
  transactions: vaultTransactions,
  share: vaultBudget.share,
  breaker: vaultBreaker,
  instances: null,
  split: [],
  latency: reportedLatency,
};

interface Setting {
  /** What it takes, for whoever gave something else. */
  readonly takes: string;
  readonly says: string;
  /** Null for what it does not take. */
  readonly read: (text: string, settings: ReplaySettings) => ReplaySettings | null;
}

/** Every setting by its name, which is its option too. */
export const replaySettings: Readonly<Record<string, Setting>> = {
  ttl: cacheSeconds('ttlMs', 'how long an entry is served; 0: no cache'),
  'max-entries': {
    takes: 'a number from 1 on',
    says: 'entries of the cache of one instance',
    read: (text, settings) =>
      withNumber(text, { least: 1, isWhole: true }, (maxEntries) => ({
        ...settings,
        cache: { ...settings.cache, maxEntries },
      })),
  },
  'refresh-at': {
    takes: 'a part of ttl, above 0 and up to 1',
    says: 'when an entry is read again in the background; 1: never',
    read: (text, settings) =>
      withNumber(text, { least: 0.01, most: 1 }, (refreshAt) => ({
        ...settings,
        cache: { ...settings.cache, refreshAt },
      })),
  },
  'negative-ttl': cacheSeconds('negativeTtlMs', 'how long a 404 is remembered; 0: not at all'),
  'stale-on-error': cacheSeconds('staleOnErrorMs', 'how long beyond ttl while the vault is down'),
  'learn-after': {
    takes: 'seconds, or "never"',
    says: 'when other instances drop what one has changed',
    read: (text, settings) => {
      if (text === 'never') return { ...settings, learnAfterMs: null };
      return withNumber(text, { least: 0 }, (seconds) => ({
        ...settings,
        learnAfterMs: seconds * 1000,
      }));
    },
  },
  limit: {
    takes: 'transactions in 10 s, a number from 1 on',
    says: 'plain reads a vault answers in any 10 s',
    read: (text, settings) =>
      withNumber(text, { least: 1 }, (transactions) => ({ ...settings, transactions })),
  },
  budget: {
    takes: 'a part of the limit, above 0 and up to 1, or "off"',
    says: 'the part of the limit that one instance takes',
    read: (text, settings) => {
      if (text === 'off') return { ...settings, share: null };
      return withNumber(text, { least: 0.0001, most: 1 }, (share) => ({ ...settings, share }));
    },
  },
  breaker: {
    takes: '"on" or "off"',
    says: 'whether a vault that is down is left alone for 30 s',
    read: (text, settings) => {
      if (text !== 'on' && text !== 'off') return null;
      return { ...settings, breaker: text === 'on' ? vaultBreaker : null };
    },
  },
  instances: {
    takes: 'a number from 1 to 1000, or "recorded"',
    says: 'deal the operations out to so many instances',
    read: (text, settings) => {
      if (text === 'recorded') return { ...settings, instances: null };
      return withNumber(text, { least: 1, most: 1000, isWhole: true }, (instances) => ({
        ...settings,
        instances,
      }));
    },
  },
  split: {
    takes: "[VAULT/]NAME-PATTERN=VAULT, such as 'orders-*=vault2'",
    says: 'objects that lie in another vault; may be given again',
    read: (text, settings) => {
      const rule = readSplit(text);
      return rule === null ? null : { ...settings, split: [...settings.split, rule] };
    },
  },
  latency: {
    takes: 'milliseconds, MEDIAN or MEDIAN/P99',
    says: 'of a vault, where the log does not say it',
    read: (text, settings) => {
      const [p50, p99 = p50, ...more] = text.split('/').map(parseNumber);
      if (!(p50 && p99) || more.length > 0 || p50 <= 0 || p99 < p50) return null;
      return { ...settings, latency: { p50Ms: p50, p99Ms: p99 } };
    },
  },
  uncached: {
    takes: '"cache" or "keep"',
    says: 'reads that went by no cache: cache them, or keep them so',
    read: (text, settings) =>
      text === 'cache' || text === 'keep' ? { ...settings, keepUncached: text === 'keep' } : null,
  },
};

/** `settings` with one of them changed. @throws AppError `invalid_input`, which says what it takes */
export function changeSetting(
  settings: ReplaySettings,
  name: string,
  text: string,
): ReplaySettings {
  const setting = Object.hasOwn(replaySettings, name) ? replaySettings[name] : undefined;
  if (setting === undefined) {
    const known = Object.keys(replaySettings).join(', ');
    throw new AppError('invalid_input', { detail: `there is no setting ${name}; use ${known}` });
  }
  const changed = setting.read(text, settings);
  if (changed !== null) return changed;
  throw new AppError('invalid_input', { detail: `${name} takes ${setting.takes}; got "${text}"` });
}

/** `settings` changed by `ttl=60,budget=off`. @throws AppError `invalid_input` */
export function changeSettings(settings: ReplaySettings, text: string): ReplaySettings {
  return text.split(',').reduce((changed, part) => {
    const [name = '', ...value] = part.trim().split('=');
    return changeSetting(changed, name, value.join('='));
  }, settings);
}

function cacheSeconds(member: 'ttlMs' | 'negativeTtlMs' | 'staleOnErrorMs', says: string): Setting {
  return {
    takes: 'seconds, a number from 0 on',
    says,
    read: (text, settings) =>
      withNumber(text, { least: 0 }, (seconds) => ({
        ...settings,
        cache: { ...settings.cache, [member]: seconds * 1000 },
      })),
  };
}

function withNumber(
  text: string,
  { least, most = 1e9, isWhole = false }: { least: number; most?: number; isWhole?: boolean },
  change: (number: number) => ReplaySettings,
): ReplaySettings | null {
  const number = parseNumber(text);
  if (number === null || number < least || number > most) return null;
  return isWhole && !Number.isInteger(number) ? null : change(number);
}

function parseNumber(text: string): number | null {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : null;
}

function readSplit(text: string): SplitRule | null {
  const match = /^(?:([\w.-]+)\/)?([0-9A-Za-z*-]+)=([\w.-]+)$/.exec(text);
  if (match === null) return null;
  const [, vault, pattern = '', to = ''] = match;
  const name = new RegExp(`^${pattern.replaceAll('*', '[0-9a-z-]*')}$`, 'i');
  return { text, to, fits: (of, object) => (vault ?? of) === of && name.test(object) };
}
