import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { buildApp } from '../local/build.ts';
import { type Bench, median } from './bench.ts';

/** Loading all of the deployed bundle, lazy chunks too, against the same modules as they lie in node_modules. */
export const bench: Bench = {
  name: 'load of the bundle ÷ load of its packages unbundled',
  goal: 0.5,
  better: 'lower',
  async measure() {
    await buildApp();
    const chunks = readdirSync('dist/chunks').map((file) => `chunks/${file}`);
    const bundle = ['main.mjs', ...chunks];
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round <= 5; round++) {
      const one = cpuOfLoading(bundle.map((file) => `import('./dist/${file}')`).join(','));
      const other = cpuOfLoading(packages.map((name) => `import('${name}')`).join(','));
      if (round === 0) continue;
      ours.push(one);
      theirs.push(other);
    }
    return { ours: median(ours), theirs: median(theirs) };
  },
};

/** What the app has loaded once a request has been answered, a rotation has run, and telemetry was sent. */
const packages = [
  '@azure/functions',
  '@azure/identity',
  '@azure/keyvault-secrets',
  '@azure/data-tables',
  '@azure/storage-queue',
  '@azure/storage-blob',
  '@opentelemetry/sdk-trace-node',
  '@opentelemetry/sdk-metrics',
  '@opentelemetry/exporter-trace-otlp-http',
  '@opentelemetry/exporter-metrics-otlp-http',
  '@azure/monitor-opentelemetry-exporter',
  'jose',
  'zod',
  'pg',
];

function cpuOfLoading(what: string): number {
  const script = `await Promise.all([${what}]); const { user, system } = process.cpuUsage(); process.stderr.write('\\n' + (user + system) / 1000)`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  return Number(child.stderr.trim().split('\n').at(-1));
}
