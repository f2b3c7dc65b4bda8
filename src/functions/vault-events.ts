import { app } from '@azure/functions';
import { keyturn } from './keyturn.ts';

/** One function per event type, so that each can be subscribed, scaled and watched by itself. */
const names = [
  'secretNearExpiry',
  'secretExpired',
  'secretNewVersionCreated',
  'certificateNearExpiry',
];

export function registerVaultEvents(): void {
  for (const name of names) {
    app.eventGrid(name, { handler: (event) => keyturn().takeEvent(event) });
  }
}
