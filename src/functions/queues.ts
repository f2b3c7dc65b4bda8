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
  register('vaultEvents', 'vault-events', (message) => keyturn().takeEvent(message));
}
