import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { parseSync } from 'oxc-parser';
import { describe, expect, it } from 'vitest';

/** `file` imports `to`: a path of ours from the root, or an npm package. */
interface Edge {
  readonly file: string;
  readonly to: string;
}

/** Who may import what; the first rule whose folder holds the file counts. */
interface Rule {
  readonly files: RegExp;
  /** Our own files. */
  readonly own: RegExp;
  readonly packages: RegExp;
}

const floor = 'src/core/(config|errors|secret-string|clock|log|telemetry|invocation)\\.ts';
const core = (...folders: string[]) =>
  new RegExp(`^(${[floor, ...folders.map((folder) => `src/core/${folder}`)].join('|')})`);
const nothing = /^$/;
const zod = /^zod$/;

const law: readonly Rule[] = [
  {
    files: new RegExp(`^${floor}`),
    own: new RegExp(`^${floor}`),
    packages: /^(zod|@opentelemetry\/api)$/,
  },
  { files: /^src\/core\/(app|index)\.ts/, own: /^src\/core\//, packages: nothing },
  { files: /^src\/core\/storage\//, own: core('storage/'), packages: zod },
  { files: /^src\/core\/auth\//, own: core('auth/'), packages: /^(zod|jose)$/ },
  {
    files: /^src\/core\/crypto\//,
    own: core('crypto/', 'vault/(ports|keys)\\.ts'),
    packages: zod,
  },
  {
    files: /^src\/core\/vault\//,
    own: core('vault/'),
    packages: /^(zod|lru-cache|cockatiel|@noble\/curves)$/,
  },
  ...['simulation', 'events', 'policies'].map((folder) => ({
    files: new RegExp(`^src/core/${folder}/`),
    own: core(`${folder}/`, 'vault/', 'storage/'),
    packages: zod,
  })),
  { files: /^src\/core\/audit\//, own: core('audit/', 'storage/', 'vault/'), packages: nothing },
  ...['consumers', 'expiry', 'backup'].map((folder) => ({
    files: new RegExp(`^src/core/${folder}/`),
    own: core(`${folder}/`, 'storage/', 'vault/', 'policies/', 'audit/'),
    packages: zod,
  })),
  {
    files: /^src\/core\/rotation\/handlers\//,
    own: core('rotation/handlers/', 'rotation/(handler|value).ts', 'vault/'),
    packages: /^(zod|pg)$/,
  },
  {
    files: /^src\/core\/rotation\//,
    own: core(
      'rotation/(?!handlers/)',
      'storage/',
      'vault/',
      'events/',
      'policies/',
      'audit/',
      'consumers/',
    ),
    packages: zod,
  },
  { files: /^src\/core\/operations\//, own: /^src\/core\/(?!azure\/|app\.ts)/, packages: zod },
  {
    files: /^src\/core\/azure\/telemetry/,
    own: core('azure/telemetry'),
    packages: /^(@opentelemetry\/[^/]+|@azure\/(identity|monitor-opentelemetry-exporter))$/,
  },
  {
    files: /^src\/core\/azure\//,
    own: core('azure/', 'storage/', 'vault/'),
    packages: /^@azure\/(?!functions|monitor)[^/]+$/,
  },
  {
    // Commands over the HTTP API, and the few that work offline with a capability of their own.
    files: /^src\/cli\//,
    own: new RegExp(`^(src/cli/|${floor}|src/core/(index\\.ts|operations/index\\.ts|simulation/))`),
    packages: nothing,
  },
  {
    files: /^src\/functions\//,
    own: /^src\/(functions\/|core\/(app|operations\/index)\.ts)/,
    packages: /^@azure\/functions$/,
  },
  { files: /^local\//, own: /^local\//, packages: /^(?!@azure\/(keyvault|identity))/ },
  { files: /^(test|bench)\//, own: /./, packages: /./ },
];

const root = resolve(import.meta.dirname, '..');

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

/** Every import of `text`: type imports, re-exports and dynamic ones too. */
function edgesOf(file: string, text: string): Edge[] {
  const { module } = parseSync(file, text);
  const dynamic = module.dynamicImports.map(({ moduleRequest: { start, end } }) =>
    text.slice(start, end).replace(/^(['"`])(.*)\1$/, '$2'),
  );
  const named = [
    ...module.staticImports.map((one) => one.moduleRequest.value),
    ...module.staticExports.flatMap((one) =>
      one.entries.flatMap((entry) => entry.moduleRequest?.value ?? []),
    ),
  ];
  return [...named, ...dynamic]
    .filter((request) => !request.startsWith('node:'))
    .map((request) => ({ file, to: targetOf(file, request) }));
}

function targetOf(file: string, request: string): string {
  if (request.startsWith('.')) return join(dirname(file), request);
  const [scope, name] = request.split('/');
  return request.startsWith('@') ? `${scope}/${name}` : (scope ?? '');
}

function breaches(edges: readonly Edge[]): string[] {
  return edges.flatMap(({ file, to }) => {
    const rule = law.find((one) => one.files.test(file));
    if (!rule) return [`${file} lies in no folder of the law`];
    const isOwn = /^(src|local|test|bench)\//.test(to) || to === 'vitest.config.ts';
    return (isOwn ? rule.own : rule.packages).test(to) ? [] : [`${file} imports ${to}`];
  });
}

describe('the import law', () => {
  const files = ['src', 'local', 'test', 'bench'].flatMap(filesBelow);

  it('reads the files it judges', () => {
    expect(files.filter((file) => file.startsWith('src/core/')).length).toBeGreaterThan(50);
    expect(files.filter((file) => file.startsWith('local/')).length).toBeGreaterThan(30);
  });

  it('holds', () => {
    const edges = files.flatMap((file) => edgesOf(file, readFileSync(join(root, file), 'utf8')));
    expect(edges.length).toBeGreaterThan(300);
    expect(breaches(edges)).toEqual([]);
  });

  it.each([
    ['an SDK in a capability', 'src/core/rotation/x.ts', "import { a } from '@azure/identity';"],
    ['a handler in the engine', 'src/core/rotation/x.ts', "import './handlers/index.ts';"],
    [
      'the app in the emulator',
      'local/key-vault/x.ts',
      "import type { A } from '../../src/core/errors.ts';",
    ],
    [
      'a lazy SDK in an operation',
      'src/core/operations/x.ts',
      "await import('../azure/storage.ts');",
    ],
    ['an exporter in a capability', 'src/core/vault/x.ts', "import '@opentelemetry/api';"],
    ['logic at the edge', 'src/functions/x.ts', "export { a } from '../core/rotation/engine.ts';"],
  ])('sees %s', (_, file, text) => {
    expect(breaches(edgesOf(file, text))).toHaveLength(1);
  });

  it('knows no catch-all folders', () => {
    const bad = /\/(utils?|helpers?|services|models|types|common|shared)\//;
    expect(files.filter((file) => /^(src|local)\//.test(file) && bad.test(file))).toEqual([]);
  });
});
