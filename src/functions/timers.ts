import { app } from '@azure/functions';
import { keyturn } from './keyturn.ts';

/** What is due is worked out from state, not from ticks: a late or lost tick costs time only. */
export function registerTimers(boot: {
  readonly sweepSchedule: string;
  readonly scanSchedule: string;
}): void {
  app.timer('sweep', { schedule: boot.sweepSchedule, handler: () => keyturn().sweep() });
  app.timer('scan', { schedule: boot.scanSchedule, handler: () => keyturn().scan() });
}
