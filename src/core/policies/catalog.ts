import type { z } from 'zod';
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
  const policies: Policy[] = [];
  for (const raw of documents.policies) {
    const policy = parseDocument(Policy, raw, faults);
    if (!policy) continue;
    const found = policyFaults(policy, { policies, targets, handlers });
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
  const settings = rules.targetSettings.safeParse(target.settings);
  if (settings.success) return target;
  faults.push(...issueLines(settings.error, `${raw.where}: settings`));
  return null;
}

function policyFaults(
  policy: Policy,
  known: {
    readonly policies: readonly Policy[];
    readonly targets: ReadonlyMap<string, Target>;
    readonly handlers: ReadonlyMap<string, HandlerRules>;
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
  for (const admin of known.targets.values()) {
    if (admin.admin && covers(policy.covers, { ...admin.admin, type: 'secret' })) {
      faults.push(`covers: includes ${admin.admin.name}, the admin secret of target ${admin.id}`);
    }
  }
  return faults;
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
  const parsed = schema.safeParse(raw.body);
  if (parsed.success) return parsed.data;
  faults.push(...issueLines(parsed.error, raw.where));
  return null;
}

/** One line per issue: `where: field.path: what to do`. */
function issueLines(error: z.ZodError, where: string): string[] {
  return error.issues.map((issue) => {
    const path = issue.path.join('.');
    return `${where}: ${path === '' ? '' : `${path}: `}${issue.message}`;
  });
}
