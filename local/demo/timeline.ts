/** One JSON line of the app's log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly event: string };

/** The log line in `text`, if it is one of the app's. */
export function parseLogLine(text: string): LogLine | null {
  if (!text.startsWith('{"level":')) return null;
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === 'object' && line !== null && 'event' in line ? (line as LogLine) : null;
  } catch {
    return null;
  }
}

/** What a line of the app's log means to somebody watching; null when it says nothing new. */
export function tell(line: LogLine): string | null {
  if (line.event === 'rotation.requested') return whyRequested(line);
  if (line.event === 'rotation.skipped') return `nothing to do: ${line['reason']}`;
  if (line.event === 'rotation.step_failed') return `try again: ${line['error']}`;
  if (line.event !== 'rotation.moved') return null;
  const version = String(line['version'] ?? '').slice(0, 8);
  switch (line['to']) {
    case 'PREFLIGHTED':
      return `checked: the stored credential works, ${line['login']} is free to be set`;
    case 'STAGED':
      return 'a new password waits in the pending vault';
    case 'APPLIED':
      return `PostgreSQL has the new password of ${line['login']}`;
    case 'VERIFIED':
      return `proved: ${line['login']} logs in with it`;
    case 'PROMOTED':
      return `version ${version} is the latest: the application moves to ${line['login']}`;
    case 'NOTIFIED':
      return 'proved again, as read from the vault';
    case 'GRACE':
      return `the candidate is erased; ${line['previousLogin']} stays valid until ${clockTime(line['retireAt'])}`;
    case 'RETIRED':
      return `${line['previousLogin']} is retired: its old password opens nothing`;
    case 'DONE':
      return 'done';
    case 'SKIPPED':
    case 'FAILED_CLEAN':
    case 'ROLLED_BACK':
    case 'REVOKE_FAILED':
    case 'QUARANTINED':
      return `${line['to']}: ${line['message'] ?? line['outcome']}`;
    default:
      return null;
  }
}

function whyRequested(line: LogLine): string {
  const name = String(line['object']).split('/').at(-1);
  switch (line['reason']) {
    case 'near-expiry':
      return `Event Grid: ${name} is near its expiry`;
    case 'expired':
      return `Event Grid: ${name} has expired`;
    case 'scan':
      return `the scan found ${name} due`;
    default:
      return `you asked to rotate ${name}`;
  }
}

function clockTime(instant: unknown): string {
  return typeof instant === 'string' ? instant.slice(11, 19) : '?';
}
