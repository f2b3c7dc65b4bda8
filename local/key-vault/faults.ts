import { z } from 'zod';
import { isLike } from './glob.ts';

const Status = z.int().min(400).max(599);

/** A rule as `POST /faults` takes it; docs/emulator.md says what the members mean. */
export const FaultRule = z.strictObject({
  vault: z.string().optional(),
  operation: z.string().default('*'),
  object: z.string().optional(),
  nth: z.int().min(1).default(1),
  times: z.int().min(0).default(1),
  fault: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('status'),
      status: Status,
      code: z.string().optional(),
      message: z.string().optional(),
      retryAfter: z.union([z.int().min(0), z.string()]).optional(),
    }),
    z.strictObject({ kind: z.literal('reset') }),
    z.strictObject({ kind: z.literal('hang') }),
    z.strictObject({ kind: z.literal('fail-after-commit'), status: Status.default(503) }),
    z.strictObject({ kind: z.literal('reset-after-commit') }),
    z.strictObject({ kind: z.literal('slow-body'), ms: z.int().min(1).max(600_000) }),
    z.strictObject({ kind: z.literal('empty-body'), status: Status.default(503) }),
  ]),
});
export type FaultRule = z.output<typeof FaultRule>;
export type Fault = FaultRule['fault'];

export type FaultSubject = {
  readonly vault: string;
  readonly operation: string;
  /** Empty for lists. */
  readonly object: string;
};

type Counted = { readonly id: string; readonly rule: FaultRule; seen: number; fired: number };

/** Fault rules in the order they were made. */
export class FaultRules {
  #rules: Counted[] = [];
  #nextId = 1;

  add(rule: FaultRule): Counted {
    const counted = { id: String(this.#nextId++), rule, seen: 0, fired: 0 };
    this.#rules.push(counted);
    return counted;
  }

  list(): unknown[] {
    return this.#rules.map(({ rule, ...counts }) => ({ ...counts, ...rule }));
  }

  /** @returns whether there was such a rule */
  remove(id: string): boolean {
    const before = this.#rules.length;
    this.#rules = this.#rules.filter((rule) => rule.id !== id);
    return this.#rules.length < before;
  }

  clear(): void {
    this.#rules = [];
  }

  /** Counts the call against every rule that names it; the first rule whose turn it is decides. */
  decide(subject: FaultSubject): Fault | null {
    const matching = this.#rules.filter(({ rule }) => matches(rule, subject));
    for (const rule of matching) rule.seen += 1;
    const due = matching.find(({ rule, seen, fired }) => {
      return seen >= rule.nth && (rule.times === 0 || fired < rule.times);
    });
    if (due === undefined) return null;
    due.fired += 1;
    return due.rule.fault;
  }
}

function matches(rule: FaultRule, { vault, operation, object }: FaultSubject): boolean {
  return (
    (rule.vault === undefined || rule.vault === vault) &&
    (rule.operation === '*' || rule.operation === operation) &&
    (rule.object === undefined || isLike(object, rule.object))
  );
}
