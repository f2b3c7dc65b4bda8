import { app } from '@azure/functions';
import { keyturn } from './keyturn.ts';

/** The queues of the engine; `vault-events` is where Event Grid delivers when it cannot reach us. */
export function registerQueues({ queuePrefix }: { readonly queuePrefix: string }): void {
  const register = (name: string, queue: string, handler: (message: unknown) => Promise<void>) =>
    app.storageQueue(name, {
      queueName: `${queuePrefix}${queue}`,
      connection: 'AzureWebJobsStorage',
      handler,
    });
  register('rotations', 'rotations', (message) => keyturn().takeRotation(message));
  register('rotationsPoison', 'rotations-poison', (message) =>
    keyturn().takePoisonedRotation(message),
  );
  register('notifications', 'notifications', (message) => keyturn().takeNotification(message));
  // The sweep sends again what is still to be told, the scan finds again what an event was about.
  register('notificationsPoison', 'notifications-poison', (message) =>
    keyturn().takePoisoned('notifications', message),
  );
  register('vaultEventsPoison', 'vault-events-poison', (message) =>
    keyturn().takePoisoned('vault-events', message),
  );
  register('vaultEvents', 'vault-events', (message) => keyturn().takeEvent(message));
}
