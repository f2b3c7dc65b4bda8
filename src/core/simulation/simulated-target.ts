/** Simulated vaults under a log: what they hold is what the log shows, their limits are the service's. */
import { AppError } from '../errors.ts';
import { createBreaker } from '../vault/breaker.ts';
import { type Budget, createBudgets, weightOf } from '../vault/budget.ts';
import { latencies } from './latency.ts';
import { makers } from './recorded-objects.ts';
import { type Fate, fateOf, RecordedVaults, type VaultAnswer } from './recorded-vaults.ts';
import type { LogLine } from './replay-log.ts';
import type { ReplaySettings } from './replay-settings.ts';
import type { ReplayCall, ReplayTarget } from './replay-target.ts';
import { createThrottle } from './throttle.ts';
import { type VirtualGuards, virtualCaller } from './virtual-calls.ts';
import type { VirtualTime } from './virtual-time.ts';

/** A refresh is taken to be the recorded one when it begins within this time of it. */
const sameRefreshMs = 1_000;

/** @param random 0 to 1; the same numbers give the same replay */
export function simulatedTarget(
  settings: ReplaySettings,
  time: VirtualTime,
  random: () => number,
): ReplayTarget {
  const now = () => time.now();
  const vaults = new RecordedVaults(now);
  const throttle = createThrottle(settings.transactions, now);
  const latency = latencies(settings.latency, random);
  const call = virtualCaller(time, random);
  const guards = guardsOf(settings, now);
  const refreshes = new Map<string, { readonly at: number; readonly fate: Fate | null }>();

  function fateOfCall({ line, instance, isBackground }: ReplayCall): Fate | null {
    if (!isBackground) return fateOf(line);
    const key = refreshKey(instance, line);
    const recorded = refreshes.get(key);
    if (recorded === undefined || Math.abs(recorded.at - now()) > sameRefreshMs) return null;
    refreshes.delete(key);
    return recorded.fate;
  }

  return {
    keepsVersions: true,
    refuses: () => null,
    observe: (line) => {
      vaults.observe(line);
      if (line.entry.cache !== 'refresh') return;
      refreshes.set(refreshKey(line.entry.instance, line), { at: line.at, fate: fateOf(line) });
    },
    perform: async (replayed, meter) => {
      const { line, vault, isBackground } = replayed;
      const { entry, operation } = line;
      if (wasNeverSent(line)) return settle(line);
      const fate = fateOfCall(replayed);
      const weight = weightOf(operation.name);
      const requests = isBackground ? 1 : requestsOf(line);
      const run = async (attempt: number): Promise<VaultAnswer> => {
        meter.requested(replayed);
        if (!throttle.admits(vault, weight)) {
          meter.throttled(replayed);
          await time.sleep(latency());
          return { code: 'vault_throttled' };
        }
        const answer = vaults.answer(line, fate, attempt);
        await time.sleep(fate?.ms ?? latency());
        return answer;
      };
      const about = { vault, operation: operation.name, object: entry.object, weight };
      const repeatable = !makers.includes(operation.method);
      let answer: { readonly version: string | null } = { version: null };
      try {
        for (let request = 0; request < requests; request++) {
          answer = await call({ ...about, repeatable, run }, guards(replayed));
        }
      } catch (error) {
        vaults.noteFailed(line);
        throw error;
      }
      return answer;
    },
    finish: () => time.finish(),
  };
}

function guardsOf(
  settings: ReplaySettings,
  now: () => number,
): (call: ReplayCall) => VirtualGuards {
  const { share, transactions, breaker } = settings;
  const budgets = new Map<string, { vault(): Budget }>();
  const guards = new Map<string, VirtualGuards>();
  const budgetOf = (instance: string): Budget | null => {
    if (share === null) return null;
    const ofInstance = budgets.get(instance) ?? createBudgets({ share, transactions }, now);
    budgets.set(instance, ofInstance);
    return ofInstance.vault();
  };
  return ({ instance, vault }) => {
    const key = `${instance} ${vault}`;
    const known = guards.get(key) ?? {
      budget: budgetOf(instance),
      breaker: breaker === null ? null : createBreaker(breaker, now, () => undefined),
    };
    guards.set(key, known);
    return known;
  };
}

/** Refused before anything was sent, or done with a public key at hand. */
function wasNeverSent({ entry }: LogLine): boolean {
  const { requests, cache, outcome } = entry;
  if (requests > 0 || cache !== null) return false;
  return outcome !== 'vault_throttled' && outcome !== 'circuit_open';
}

function settle({ entry }: LogLine): { readonly version: string | null } {
  const { outcome, operation, servedVersion } = entry;
  if (outcome === 'ok') return { version: servedVersion };
  throw new AppError(outcome, { detail: `${operation}: as recorded` });
}

/** A list asks once a page, and erasing asks several times; the pages of a list are as many as there were. */
function requestsOf({ entry, operation }: LogLine): number {
  if (!operation.isList && operation.method !== 'erase') return 1;
  return Math.max(1, entry.requests - entry.throttled);
}

function refreshKey(instance: string, { entry, operation }: LogLine): string {
  const { vault, object, version } = entry;
  return [instance, vault, operation.type, object?.toLowerCase(), version].join(' ');
}
