import { hasCode } from '../errors.ts';
import { choosePolicy, covers, type Policy } from '../policies/policy.ts';
import type { Target } from '../policies/target.ts';
import type { ObjectRef, SecretProperties, SecretService } from '../vault/ports.ts';
import { type Decision, decide, type Situation } from './decide.ts';
import type { Journal } from './journal.ts';
import {
  type Held,
  type HeldJournal,
  type ObjectRecord,
  readJournal,
  readRecord,
  shardOf,
} from './records.ts';
import { currentCatalog, type EngineServices } from './services.ts';

export interface Survey {
  readonly decision: Decision;
  readonly record: Held<ObjectRecord>;
  readonly latest: SecretProperties | null;
  readonly versions: number;
  readonly policy: Policy | null;
  readonly target: Target | null;
  /** The rotation in its grace period that a rollback undoes. */
  readonly grace: HeldJournal | null;
}

type Request = Pick<Journal, 'object' | 'expectedBaseVersion' | 'rollback'> & {
  readonly reason: string;
};

/** Everything the decision rests on, read now. Also what a plan shows. */
export async function survey(services: EngineServices, request: Request): Promise<Survey> {
  const { object } = request;
  const record = await readRecord(services.store, object);
  const secrets = secretsOf(services, object.vault);
  const latest = secrets ? await readProperties(secrets, object) : 'unknown_vault';
  const { choice, target } = await chooseFor(services, object, latest);
  const { active, quarantined, circuitOpenUntil } = record.body;
  const grace = await findGrace(services, request, active);
  const decision = decide({
    request: {
      reason: request.reason as Situation['request']['reason'],
      expectedBaseVersion: request.expectedBaseVersion,
      type: object.type,
    },
    now: services.clock.now(),
    latest,
    choice,
    record: {
      active,
      quarantined: quarantined !== null,
      circuitOpenUntil: circuitOpenUntil === null ? null : new Date(circuitOpenUntil),
    },
    rollback: request.rollback && {
      toVersion: request.rollback.toVersion,
      wanted: secrets
        ? await readProperties(secrets, object, request.rollback.toVersion)
        : 'missing',
      grace: grace?.journal ?? null,
    },
  });
  const versions =
    decision.kind === 'start' && secrets
      ? (await Array.fromAsync(secrets.listVersions(object.name))).length
      : 0;
  return {
    ...{ decision, record, versions, target, grace },
    policy: choice.kind === 'one' ? choice.policy : null,
    latest: typeof latest === 'string' ? null : latest,
  };
}

/** Only main vaults hold objects that are rotated: the pending vault's are never ours to touch. */
function secretsOf({ vaults }: EngineServices, alias: string): SecretService | null {
  const vault = vaults.all().find((one) => one.alias === alias && one.purpose === 'main');
  return vault?.secrets ?? null;
}

async function readProperties(
  secrets: SecretService,
  { type, name }: ObjectRef,
  version?: string,
): Promise<SecretProperties | 'missing' | 'disabled'> {
  // What is no secret may have a secret's name, which is none of our business then.
  if (type !== 'secret') return 'missing';
  try {
    return (await secrets.get(name, version)).properties;
  } catch (error) {
    if (hasCode(error, 'not_found')) return 'missing';
    if (hasCode(error, 'object_disabled')) return 'disabled';
    throw error;
  }
}

/** The policy that lists the object, and its target. */
async function chooseFor(
  services: EngineServices,
  object: ObjectRef,
  latest: Situation['latest'],
): Promise<{ readonly choice: Situation['choice']; readonly target: Target | null }> {
  const { policies, targets } = await currentCatalog(services);
  const tags = typeof latest === 'string' ? {} : latest.tags;
  const choice = choosePolicy(policies, object, tags);
  const target = choice.kind === 'one' ? (targets.get(choice.policy.target ?? '') ?? null) : null;
  // A target says itself which objects may carry its credential: a policy alone cannot redirect it.
  const isBarred = target !== null && !covers(target.objects, object);
  return { choice: isBarred ? { kind: 'none' } : choice, target };
}

async function findGrace(
  { store }: EngineServices,
  { object, rollback }: Request,
  active: string | null,
): Promise<HeldJournal | null> {
  if (rollback === null || active !== rollback.of) return null;
  const held = await readJournal(store, shardOf(object), active);
  return held?.journal.state === 'GRACE' ? held : null;
}
