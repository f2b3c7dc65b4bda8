import { durationBuckets, meter, spanEvent, startSpan } from '../telemetry.ts';
import type { VaultHealth } from './calls.ts';
import type { Observer } from './observer.ts';
import type { VaultCallInfo } from './vault-error.ts';

/**
 * The calls to vaults as spans, and what they cost as metrics; docs/runbook.md lists them. To be made
 * once the SDK is set up. Metrics name vault and operation; only spans name objects.
 */
export function vaultTelemetry(): Observer {
  const { duration, errors, retries, reads, waits, cuts, invalidations } = createInstruments();
  return {
    callStarted: (call) => {
      const about = aboutCall(call);
      const span = startSpan(`vault.${call.operation}`, {
        kind: 'client',
        facts: { ...about, 'keyturn.object': call.object },
      });
      return {
        within: span.within,
        ended: ({ outcome, attempts, ms }) => {
          const facts = withError(about, outcome);
          duration.record(ms / 1000, facts);
          if (outcome !== 'ok') errors.add(1, facts);
          span.set({ 'keyturn.vault.attempts': attempts });
          span.end(outcome);
        },
      };
    },
    retrying: (call, { attempt, code, delayMs }) => {
      retries.add(1, withError(aboutCall(call), code));
      spanEvent('vault.retry', { attempt, code, delayMs });
    },
    budgetWaited: (call, ms) => {
      waits.record(ms / 1000, { 'keyturn.vault': call.vault });
      spanEvent('vault.budget_wait', { ms });
    },
    budgetCut: (vault, share) => {
      cuts.add(1, { 'keyturn.vault': vault });
      spanEvent('vault.budget_cut', { vault, share });
    },
    circuitChanged: (vault, state) => spanEvent('vault.circuit_changed', { vault, state }),
    readEnded: (read, { source, outcome }) =>
      reads.add(1, { ...withError(aboutCall(read), outcome), 'keyturn.cache.source': source }),
    invalidationFailed: (direction) => invalidations.add(1, { 'keyturn.direction': direction }),
  };
}

function aboutCall({ vault, operation }: VaultCallInfo) {
  return { 'keyturn.vault': vault, 'keyturn.vault.operation': operation };
}

function withError(about: ReturnType<typeof aboutCall>, outcome: string) {
  return outcome === 'ok' ? about : { ...about, 'error.type': outcome };
}

function createInstruments() {
  const here = meter();
  const seconds = (name: string, description: string) =>
    here.createHistogram(name, {
      unit: 's',
      description,
      advice: { explicitBucketBoundaries: durationBuckets },
    });
  const count = (name: string, unit: string, description: string) =>
    here.createCounter(name, { unit, description });
  return {
    duration: seconds('keyturn.vault.call.duration', 'Calls to a vault, all their tries together'),
    errors: count('keyturn.vault.call.errors', '{call}', 'Calls that failed'),
    retries: count('keyturn.vault.call.retries', '{try}', 'Tries that were repeated'),
    reads: count('keyturn.vault.cache.reads', '{read}', 'Reads of a cached service'),
    waits: seconds('keyturn.vault.budget.wait', 'Waits because of the rate of requests'),
    cuts: count('keyturn.vault.budget.cuts', '{cut}', 'Answers of 429 that cut the rate'),
    invalidations: count('keyturn.vault.cache.invalidation_failures', '{failure}', 'Lost news'),
  };
}

const circuitLevels = { closed: 0, 'half-open': 1, open: 2 } as const;

/** What is known of each vault at any time, as gauges: its circuit, and the part of its rate taken. */
export function gaugeVaults(
  vaults: readonly { readonly alias: string; readonly health: () => VaultHealth }[],
): void {
  const circuit = meter().createObservableGauge('keyturn.vault.circuit.state', {
    description: '0 closed, 1 half-open, 2 open',
  });
  circuit.addCallback((result) => {
    for (const { alias, health } of vaults) {
      result.observe(circuitLevels[health().circuit], { 'keyturn.vault': alias });
    }
  });
  const share = meter().createObservableGauge('keyturn.vault.budget.share', {
    unit: '1',
    description: 'Part of the rate of a vault that this instance takes',
  });
  share.addCallback((result) => {
    for (const { alias, health } of vaults) {
      const part = health().share;
      if (part !== null) result.observe(part, { 'keyturn.vault': alias });
    }
  });
}
