import { z } from 'zod';
import type { Caller } from '../auth/tokens.ts';
import { AppError, type ErrorCode } from '../errors.ts';
import { requestRotation } from '../rotation/request.ts';
import {
  cancelRotation,
  getRotation,
  listRotations,
  planRotation,
  releaseRotation,
  resumeRotation,
  retireRotationNow,
  rollBackRotation,
} from '../rotation/rotations.ts';
import type { EngineServices } from '../rotation/services.ts';
import { type CallContext, operation } from './operation.ts';
import { InvalidRequest } from './parse.ts';

export interface RotationServices {
  readonly engine: EngineServices;
}
type Context = CallContext<RotationServices>;

const ObjectPath = z.object({
  vault: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be the alias of a vault'),
  name: z.string().regex(/^[0-9a-zA-Z-]{1,127}$/, 'must be the name of a secret'),
});
const RotationPath = z.object({
  id: z.string().regex(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/, 'must be the id of a rotation'),
});

const Version = z.string().regex(/^[0-9a-f]{32}$/, 'must be a version: 32 of 0-9 and a-f');

const ObjectRef = z.strictObject({ vault: z.string(), type: z.string(), name: z.string() });
const Rotation = z.strictObject({
  id: z.string(),
  object: ObjectRef,
  state: z.string(),
  ended: z.boolean(),
  reason: z.string(),
  requestedBy: z.string(),
  rollbackOf: z.string().nullable(),
  toVersion: z.string().nullable(),
  policy: z.string().nullable(),
  baseVersion: z.string().nullable(),
  promotedVersion: z.string().nullable(),
  login: z.string().nullable(),
  retireAt: z.string().nullable(),
  resumeAt: z.string().nullable(),
  gapMs: z.number().nullable(),
  interleaved: z.boolean(),
  outcome: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  history: z.array(z.strictObject({ state: z.string(), at: z.string() })),
});

export const startRotation = operation({
  id: 'start-rotation',
  summary: 'Asks for a rotation of a secret now, due or not.',
  method: 'POST',
  route: 'vaults/{vault}/secrets/{name}/rotations',
  allow: 'Keyturn.Rotations.Operate',
  audit: 'durable',
  auditSubject: ({ params }) => ({ object: `${params.vault}/secret/${params.name}` }),
  params: ObjectPath,
  returns: z.strictObject({ id: z.string() }),
  status: 202,
  errors: ['not_found', 'storage_unavailable'],
  run: async ({ params }, { services, caller, correlationId }: Context) => {
    const vaults = services.engine.vaults.all();
    if (!vaults.some((vault) => vault.alias === params.vault && vault.purpose === 'main')) {
      throw new AppError('not_found', { detail: `vault ${params.vault}` });
    }
    const ref = { ...params, type: 'secret' } as const;
    const id = await requestRotation(services.engine, ref, {
      reason: 'on-demand',
      requestedBy: nameOf(caller),
      correlationId,
      expectedBaseVersion: null,
    });
    return { id };
  },
});

export const plan = operation({
  id: 'plan-rotation',
  summary: 'Says what a rotation asked for now would do. Reads and logs in; changes nothing.',
  method: 'POST',
  route: 'vaults/{vault}/secrets/{name}/rotation-plan',
  allow: 'Keyturn.Rotations.Operate',
  audit: 'durable',
  auditSubject: ({ params }) => ({ object: `${params.vault}/secret/${params.name}` }),
  params: ObjectPath,
  returns: z.strictObject({
    object: ObjectRef,
    decision: z.enum(['start', 'skip']),
    reason: z.string().nullable(),
    message: z.string(),
    policy: z.string().nullable(),
    target: z.string().nullable(),
    handler: z.string().nullable(),
    overlap: z.string().nullable(),
    login: z.string().nullable(),
    baseVersion: z.string().nullable(),
    graceSeconds: z.number().nullable(),
    steps: z.array(z.string()),
  }),
  errors: ['storage_unavailable', 'vault_unavailable', 'vault_throttled', 'vault_denied'],
  run: async ({ params }, { services }: Context) => {
    const found = await planRotation(services.engine, { ...params, type: 'secret' });
    return { ...found, steps: [...found.steps] };
  },
});

export const readRotation = operation({
  id: 'get-rotation',
  summary: 'One rotation: state, versions, what went wrong and what to do.',
  method: 'GET',
  route: 'rotations/{id}',
  allow: 'Keyturn.Rotations.Read',
  audit: 'none',
  params: RotationPath,
  returns: Rotation,
  errors: ['not_found', 'storage_unavailable'],
  run: async ({ params }, { services }: Context) =>
    writable(await getRotation(services.engine, params.id)),
});

export const rotationList = operation({
  id: 'list-rotations',
  summary:
    'Rotations, newest first, skipped ones included; of one object when vault and name are given.',
  method: 'GET',
  route: 'rotations',
  allow: 'Keyturn.Rotations.Read',
  audit: 'none',
  query: z.object({
    vault: ObjectPath.shape.vault.optional(),
    name: ObjectPath.shape.name.optional(),
    limit: z.coerce.number().int().min(1).max(100).default(25),
    before: RotationPath.shape.id.optional(),
  }),
  returns: z.strictObject({ rotations: z.array(Rotation), before: z.string().nullable() }),
  errors: ['invalid_input', 'storage_unavailable'],
  run: async ({ query: { vault, name, limit, before } }, { services }: Context) => {
    if ((vault === undefined) !== (name === undefined)) {
      const missing = vault === undefined ? 'vault' : 'name';
      const message = 'must be given too: vault and name go together';
      throw new InvalidRequest([{ field: `query.${missing}`, message }]);
    }
    const object = vault && name ? ({ vault, type: 'secret', name } as const) : null;
    const page = await listRotations(services.engine, {
      ...(object ? { object } : {}),
      limit,
      before: before ?? null,
    });
    return { rotations: page.rotations.map(writable), before: page.before };
  },
});

export const cancel = order({
  id: 'cancel-rotation',
  verb: 'cancel',
  summary: 'Stops a rotation whose new version is not in use yet, and undoes what it did.',
  refusal: 'not_cancellable',
  give: cancelRotation,
});

export const resume = order({
  id: 'resume-rotation',
  verb: 'resume',
  summary: 'Lets a held rotation (QUARANTINED, REVOKE_FAILED) go on once its cause is mended.',
  refusal: 'conflict',
  give: resumeRotation,
});

export const release = order({
  id: 'release-rotation',
  verb: 'release',
  summary:
    'Gives a held rotation up after things were put right by hand; its object is free again.',
  refusal: 'conflict',
  give: releaseRotation,
});

export const retireNow = order({
  id: 'retire-rotation-now',
  verb: 'retire-now',
  summary: 'Retires the old credential of a rotation in GRACE at once instead of at retireAt.',
  refusal: 'conflict',
  give: retireRotationNow,
});

export const rollback = operation({
  id: 'roll-back-rotation',
  summary:
    'Asks for a new rotation that makes the value of an older version the latest again: of the one this rotation replaced, unless toVersion names another.',
  method: 'POST',
  route: 'rotations/{id}/rollback',
  allow: 'Keyturn.Rotations.Operate',
  audit: 'durable',
  auditSubject: ({ params, body }) => ({
    rotationId: params.id,
    detail: { toVersion: body.toVersion ?? null },
  }),
  params: RotationPath,
  body: z.strictObject({ toVersion: Version.optional() }).prefault({}),
  returns: z.strictObject({ id: z.string() }),
  status: 202,
  errors: ['not_found', 'conflict', 'storage_unavailable'],
  run: async ({ params, body }, { services, caller, correlationId }: Context) => {
    const id = await rollBackRotation(services.engine, params.id, {
      toVersion: body.toVersion ?? null,
      requestedBy: nameOf(caller),
      correlationId,
    });
    return { id };
  },
});

/** An operator's word about one rotation: taken at once, heeded by the engine when it gets to it. */
function order(spec: {
  readonly id: string;
  readonly verb: string;
  readonly summary: string;
  readonly refusal: ErrorCode;
  readonly give: typeof cancelRotation;
}) {
  return operation({
    id: spec.id,
    summary: spec.summary,
    method: 'POST',
    route: `rotations/{id}/${spec.verb}`,
    allow: 'Keyturn.Rotations.Operate',
    audit: 'durable',
    auditSubject: ({ params }) => ({ rotationId: params.id }),
    params: RotationPath,
    returns: Rotation,
    status: 202,
    errors: ['not_found', spec.refusal, 'storage_unavailable'],
    run: async ({ params }, { services, caller }: Context) =>
      writable(await spec.give(services.engine, params.id, nameOf(caller))),
  });
}

/** Who asked, as messages and journals keep it; a token's subject may be of any length. */
function nameOf({ subject }: Caller): string {
  return subject.slice(0, 256);
}

function writable(view: Awaited<ReturnType<typeof getRotation>>) {
  return { ...view, history: [...view.history] };
}
