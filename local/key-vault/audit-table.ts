import { STATUS_CODES } from 'node:http';
import { type AuditRecord, isCall } from './audit.ts';
import { resourceId } from './vault.ts';

/**
 * A row of the table AZKVAuditLogs, as diagnostic settings write it into a Log Analytics workspace. Columns that would
 * be empty are left out.
 *
 * Source: Azure Monitor reference, table AZKVAuditLogs; Key Vault logging.
 */
export function tableRow(record: AuditRecord): Record<string, unknown> {
  const { at, durationMs, vault, subscriptionId, status, description } = record;
  const row = {
    TimeGenerated: new Date(at).toISOString(),
    OperationName: operationNameOf(record),
    ResultType: status !== null && status < 500 ? 'Success' : 'Failure',
    ResultSignature: status === null ? null : (STATUS_CODES[status] ?? String(status)),
    ResultDescription: description,
    HttpStatusCode: status,
    DurationMs: Math.round(durationMs),
    Id: idOf(record),
    Identity: identityOf(record),
    ...requestColumns(record),
    _ResourceId: resourceId({ name: vault, subscriptionId }).toLowerCase(),
    _SubscriptionId: subscriptionId,
    SourceSystem: 'Azure',
    Type: 'AZKVAuditLogs',
  };
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
}

/** URL of the object, with its version when one is known; of the vault for what is about the vault. */
function idOf(record: AuditRecord): string | null {
  const { baseUrl, collection, object, version } = record;
  if (collection === null) return isCall(record) ? null : baseUrl;
  if (object === null) return null;
  return [baseUrl, collection, object, ...(version ? [version] : [])].join('/');
}

/** Calls without a valid token are logged as failed authentications, whatever they wanted. */
function operationNameOf({ operation, caller, status }: AuditRecord): string {
  if (caller === null && status === 401) return 'Authentication';
  return operation?.serviceName ?? 'Unknown';
}

function identityOf({ caller }: AuditRecord): unknown {
  if (caller === null) return null;
  const claims = { oid: caller.objectId, appid: caller.appId };
  return {
    claim: Object.fromEntries(Object.entries(claims).filter(([, value]) => value !== null)),
  };
}

function requestColumns(record: AuditRecord): Record<string, unknown> {
  const { target } = record;
  if (target === undefined) return {};
  const query = new URLSearchParams(target.slice(target.indexOf('?') + 1));
  return {
    OperationVersion: query.get('api-version'),
    CallerIpAddress: record.clientAddress,
    IsAddressAuthorized: record.isAddressAuthorized,
    AddressAuthorizationType: 'PublicIP',
    ClientInfo: record.userAgent,
    CorrelationId: record.correlationId,
    RequestUri: record.baseUrl + target,
    Tlsversion: record.tls,
    IsRbacAuthorized: record.isAllowed,
    AppliedAssignmentId: record.assignmentId,
  };
}
