import type { QueueClient } from '@azure/storage-queue';
import { messageText } from '../storage/limits.ts';
import type { WorkQueue } from '../storage/ports.ts';
import type { Limits } from '../vault/pipeline.ts';
import { lacksHome, storageCaller, storageFailure } from './storage-calls.ts';

/** WorkQueue on an Azure Queue: base64 text, as the Functions host reads it; messages do not age out. */
export function azureQueue(connect: () => Promise<QueueClient>, limits: Limits): WorkQueue {
  const call = storageCaller(limits);
  return {
    send: async (message, delaySeconds = 0) => {
      const text = Buffer.from(messageText(message)).toString('base64');
      await call('send a queue message', async (abortSignal) => {
        const queue = await connect();
        const options = { messageTimeToLive: -1, visibilityTimeout: delaySeconds, abortSignal };
        const send = () => queue.sendMessage(text, options);
        try {
          await send();
        } catch (cause) {
          if (!lacksHome(storageFailure(cause))) throw cause;
          await queue.createIfNotExists({ abortSignal });
          await send();
        }
      });
    },
  };
}
