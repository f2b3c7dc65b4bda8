import { type Host, startHost } from './host.ts';
import { createLog, describeError, type Log } from './log.ts';
import { parseOptions, usage } from './options.ts';

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(usage);
    return;
  }
  const log = createLog({
    quiet: options.quiet,
    print: (line) => process.stdout.write(`${line}\n`),
  });
  let host: Host | null = null;
  let isStopping = false;
  const stop = (reason: string) => {
    if (host === null) process.exit(0);
    if (isStopping) return;
    isStopping = true;
    log.info(`stopping: ${reason}`);
    host.stop().then(
      () => process.exit(0),
      (error: unknown) => die(log, 'stopping failed', error),
    );
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  let interrupts = 0;
  process.on('SIGINT', () => {
    interrupts += 1;
    // Ctrl-C twice means now. A SIGTERM after Ctrl-C is only the parent doing its duty.
    if (interrupts > 1) process.exit(130);
    stop('SIGINT');
  });
  // The parent is gone or has let go: nobody else would stop this process.
  process.on('disconnect', () => stop('the parent closed its channel'));
  // When the parent is killed its pipes break before the channel says so; that is no crash.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  process.on('uncaughtException', (error) => die(log, 'the host itself failed', error));

  // Dying with its worker is louder than the real host, which starts another (--keep-alive).
  host = await startHost(options, log, (error) => die(log, 'nothing runs any more', error));
  for (const fn of host.functions) {
    log.info(
      `${fn.name}: ${fn.trigger} ${[...(fn.methods ?? []), fn.url ?? fn.schedule ?? fn.queueName].join(' ')}`,
    );
  }
  const ready = { event: 'host.ready', url: host.url, pid: process.pid, functions: host.functions };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
  process.send?.(ready);
}

function die(log: Log, what: string, error: unknown): never {
  log.write({ level: 'critical', text: `${what}: ${describeError(error)}` });
  process.exit(1);
}

main().catch((error: unknown) => {
  process.stderr.write(`functions host: start failed: ${describeError(error)}\n`);
  process.exit(1);
});
