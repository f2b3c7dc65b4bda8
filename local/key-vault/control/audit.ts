import { type AuditRecord, briefRow, isCall } from '../audit.ts';
import { tableRow } from '../audit-table.ts';
import type { ControlCall, ControlReply, ControlRoute } from './plane.ts';

export const auditRoutes: readonly ControlRoute[] = [
  ['GET', /^\/audit$/, getBrief],
  ['GET', /^\/audit\/AZKVAuditLogs$/i, getTable],
  ['DELETE', /^\/audit$/, clearAudit],
];

function getBrief(call: ControlCall): ControlReply {
  const calls = matching(call).filter(isCall);
  return { status: 200, body: { value: calls.map(briefRow) } };
}

function getTable(call: ControlCall): ControlReply {
  return { status: 200, body: { value: matching(call).map(tableRow) } };
}

function clearAudit({ plane }: ControlCall): ControlReply {
  plane.service.audit.clear();
  return { status: 204 };
}

function matching({ plane, query }: ControlCall): AuditRecord[] {
  const wanted = {
    vault: query.get('vault'),
    operation: query.get('operation'),
    object: query.get('object'),
  };
  return plane.service.audit
    .list()
    .filter(
      ({ vault, operation, object }) =>
        (wanted.vault ?? vault) === vault &&
        (wanted.operation === null || wanted.operation === operation?.id) &&
        (wanted.object === null || wanted.object === object),
    );
}
