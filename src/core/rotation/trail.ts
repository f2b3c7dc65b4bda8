import type { AuditEntry } from '../audit/log.ts';
import { objectId } from '../vault/ports.ts';
import { effectsOf } from './effects.ts';
import type { Journal } from './journal.ts';

/** The transitions the audit log is owed, oldest first. Their ids are stable: repeats are harmless. */
export function owedEntries(journal: Journal): AuditEntry[] {
  return journal.unaudited.map((entry) => ({
    ...about(journal),
    id: `${journal.id}.${entry.seq}`,
    at: new Date(entry.at),
    action: 'rotation.transition',
    outcome: 'done',
    detail: {
      from: entry.from,
      to: entry.to,
      note: entry.note,
      reason: journal.reason,
      requestedBy: journal.requestedBy,
      baseVersion: journal.baseVersion,
      promotedVersion: journal.promotedVersion,
      ...wished(journal),
    },
  }));
}

/** What the coming step is about to read, change or reveal. */
export function intendedEntries(journal: Journal, at: Date): AuditEntry[] {
  const step = `${journal.id}.${journal.history.length}.${journal.epoch}.${journal.attempts}`;
  return effectsOf(journal).map((action) => ({
    ...about(journal),
    id: `${step}.${action}`,
    at,
    action,
    outcome: 'intended',
    detail: { state: journal.state, version: journal.baseVersion, ...wished(journal) },
  }));
}

function wished({ rollback }: Journal): AuditEntry['detail'] {
  return rollback ? { rollbackOf: rollback.of, toVersion: rollback.toVersion } : {};
}

function about(journal: Journal) {
  return {
    actor: 'engine',
    object: objectId(journal.object),
    rotationId: journal.id,
    correlationId: journal.correlationId,
  };
}
