import { appendFileSync } from 'node:fs';
import { app, output } from '@azure/functions';

// Every call leaves one line of JSON here, so that tests in another process can see it.
function record(kind, fields) {
  const line = JSON.stringify({ kind, pid: process.pid, at: Date.now(), ...fields });
  appendFileSync(process.env.SAMPLE_RECORDS, `${line}\n`);
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const only = process.env.SAMPLE_ONLY?.split(',');
const when = (name, register) => {
  if (only === undefined || only.includes(name)) register();
};

if (process.env.SAMPLE_FAULT === 'throw') throw new Error('the sample app is broken');
if (process.env.SAMPLE_FAULT === 'stream') app.setup({ enableHttpStream: true });
if (process.env.SAMPLE_FAULT === 'bindings') {
  app.storageQueue('lost', { queueName: '%NOT_SET%', handler: () => {} });
  app.storageQueue('misnamed', { queueName: 'no_good', connection: '', handler: () => {} });
  app.timer('odd', { schedule: 'every day', handler: () => {} });
  app.http('reserved', { route: 'administrators', handler: () => ({}) });
}

app.hook.appTerminate(() => record('terminated', {}));
app.hook.preInvocation((context) =>
  record('pre', { name: context.invocationContext.functionName }),
);

when('http', () => {
  app.http('echo', {
    methods: ['GET', 'POST'],
    route: 'echo/{id:int}/{*rest}',
    handler: async (request, context) => {
      context.log('echo called');
      return {
        status: 201,
        headers: { 'x-own': 'yes' },
        cookies: [{ name: 'seen', value: '1', httpOnly: true }],
        jsonBody: {
          method: request.method,
          url: request.url,
          params: request.params,
          query: Object.fromEntries(request.query),
          headers: Object.fromEntries(request.headers),
          body: await request.text(),
        },
      };
    },
  });
  app.http('guarded', { authLevel: 'function', handler: () => ({ body: 'open' }) });
  app.http('master', { authLevel: 'admin', route: 'master', handler: () => ({ body: 'open' }) });
  app.http('broken', {
    handler: () => {
      throw new Error('planned failure');
    },
  });
  app.http('nothing', { handler: () => undefined });
  app.http('off', { handler: () => ({ body: 'never' }) });
  app.http('slow', {
    handler: async () => {
      record('slow-begun', {});
      await wait(700);
      return { body: 'finished' };
    },
  });
  app.http('crash', {
    handler: () => {
      void Promise.reject(new Error('stray rejection'));
      return { body: 'answered' };
    },
  });
});

when('events', () => {
  app.eventGrid('onEvent', {
    handler: (event, context) => {
      record('event', { event, data: context.triggerMetadata.data });
      if (event.data?.fail) throw new Error('event refused');
    },
  });
});

when('queue', () => {
  app.storageQueue('onMessage', {
    queueName: '%SAMPLE_QUEUE%',
    return: output.storageQueue({ queueName: 'sample-out', connection: '' }),
    connection: '',
    handler: async (message, context) => {
      const { dequeueCount, id } = context.triggerMetadata;
      record('message', { message, dequeueCount, id });
      if (message.hang) await wait(message.hang);
      if (message.fail) throw new Error('message refused');
      record('message-done', { message });
      return message.reply;
    },
  });
});

when('timer', () => {
  app.timer('tick', {
    schedule: '*/1 * * * * *',
    handler: (timer) => record('tick', { timer }),
  });
  app.timer('yearly', {
    schedule: '%SAMPLE_YEARLY%',
    retry: { strategy: 'fixedDelay', maxRetryCount: 1, delayInterval: 0 },
    handler: (timer, context) => {
      record('yearly', { timer, retry: context.retryContext });
      if (context.retryContext === undefined) throw new Error('first try fails');
    },
  });
});
