import { z } from 'zod';
import { covers, Policy } from './policy.ts';
import { Target } from './target.ts';

/** Where the documents lie: a folder or storage. Uncached; unparsed. */
export interface DocumentSource {
  read(): Promise<{
    readonly policies: readonly RawDocument[];
    readonly targets: readonly RawDocument[];
  }>;
}

export interface RawDocument {
  /** For people: a file name or a document id. */
  readonly where: string;
  readonly body: unknown;
}

export interface Catalog {
  readonly policies: readonly Policy[];
  readonly targets: ReadonlyMap<string, Target>;
  /** One line per fault, each naming document and field; the documents at fault are left out. */
  readonly faults: readonly string[];
}

/** What the catalog must know of a handler to check documents against it. */
export interface HandlerRules {
  /** Null for a handler that has no target. */
  readonly targetSettings: z.ZodType | null;
  /** Faults of policy and target taken together, each `field: cure`. */
  check(policy: Policy, target: Target | null): readonly string[];
}

/** Parses every document and checks each against the others; never throws for a bad document. */
export function readCatalog(
  documents: Awaited<ReturnType<DocumentSource['read']>>,
  handlers: ReadonlyMap<string, HandlerRules>,
): Catalog {
  const faults: string[] = [];
  const targets = new Map<string, Target>();
  for (const raw of documents.targets) {
    const target = parseTarget(raw, handlers, faults);
    if (!target) continue;
    if (targets.has(target.id)) faults.push(`${raw.where}: id: ${target.id} is taken already`);
    else targets.set(target.id, target);
  }
  const admins = documents.targets.flatMap(adminOf);
  const policies: Policy[] = [];
  for (const raw of documents.policies) {
    const policy = parseDocument(Policy, raw, faults);
    if (!policy) continue;
    const found = policyFaults(policy, { policies, targets, handlers, admins });
    faults.push(...found.map((fault) => `${raw.where}: ${fault}`));
    if (found.length === 0) policies.push(policy);
  }
  return { policies, targets, faults };
}

function parseTarget(
  raw: RawDocument,
  handlers: ReadonlyMap<string, HandlerRules>,
  faults: string[],
): Target | null {
  const target = parseDocument(Target, raw, faults);
  if (!target) return null;
  const rules = handlers.get(target.handler);
  if (!rules?.targetSettings) {
    faults.push(`${raw.where}: handler: ${unknownHandler(target.handler, handlers)}`);
    return null;
  }
  const where = `${raw.where}: settings`;
  const settings = parseSafely(rules.targetSettings, { where, body: target.settings });
  faults.push(...settings.faults);
  return settings.faults.length === 0 ? target : null;
}

function policyFaults(
  policy: Policy,
  known: {
    readonly policies: readonly Policy[];
    readonly targets: ReadonlyMap<string, Target>;
    readonly handlers: ReadonlyMap<string, HandlerRules>;
    readonly admins: readonly Admin[];
  },
): string[] {
  const faults: string[] = [];
  if (known.policies.some((other) => other.id === policy.id)) {
    faults.push(`id: ${policy.id} is taken already`);
  }
  const rules = known.handlers.get(policy.handler);
  if (!rules) return [...faults, `handler: ${unknownHandler(policy.handler, known.handlers)}`];
  const target = policy.target === null ? null : (known.targets.get(policy.target) ?? null);
  if (policy.target !== null && !target) faults.push(`target: there is no target ${policy.target}`);
  else if (rules.targetSettings && !target) faults.push('target: name the target to rotate at');
  else if (!rules.targetSettings && target) faults.push(`target: ${policy.handler} takes none`);
  else faults.push(...pairFaults(policy, target, rules));
  for (const { where, ...secret } of known.admins) {
    if (covers(policy.covers, { ...secret, type: 'secret' })) {
      faults.push(`covers: includes ${secret.name}, the admin secret of a target (${where})`);
    }
  }
  return faults;
}

interface Admin {
  readonly where: string;
  readonly vault: string;
  readonly name: string;
}

/** The admin secret of a target document, whatever else is wrong with it: a slip must not expose it. */
function adminOf(raw: RawDocument): Admin[] {
  const { where } = raw;
  const admin = parseSafely(z.object({ admin: Target.shape.admin }), raw).data?.admin;
  return admin ? [{ where, vault: admin.vault, name: admin.name }] : [];
}

function pairFaults(policy: Policy, target: Target | null, rules: HandlerRules): readonly string[] {
  if (target && target.handler !== policy.handler) {
    return [`target: ${target.id} belongs to handler ${target.handler}`];
  }
  return rules.check(policy, target);
}

function unknownHandler(id: string, handlers: ReadonlyMap<string, HandlerRules>): string {
  return `${id} is unknown or has no target; known: ${[...handlers.keys()].join(', ')}`;
}

function parseDocument<T>(schema: z.ZodType<T>, raw: RawDocument, faults: string[]): T | null {
  const parsed = parseSafely(schema, raw);
  if (parsed.data !== undefined) return parsed.data;
  faults.push(...parsed.faults);
  return null;
}

/** Zod compares the length of whatever stands in a member, and a crafted object can make that throw. */
function parseSafely<T>(
  schema: z.ZodType<T>,
  { where, body }: RawDocument,
): { readonly data?: T; readonly faults: readonly string[] } {
  try {
    const parsed = schema.safeParse(body);
    if (parsed.success) return { data: parsed.data, faults: [] };
    return { faults: issueLines(parsed.error, where) };
  } catch {
    return { faults: [`${where}: cannot be read as a document`] };
  }
}

/** One line per issue: `where: field.path: what to do`. */
function issueLines(error: z.ZodError, where: string): string[] {
  return error.issues.map((issue) => {
    const path = issue.path.join('.');
    return `${where}: ${path === '' ? '' : `${path}: `}${issue.message}`;
  });
}
