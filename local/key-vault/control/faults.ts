import { FaultRule } from '../faults.ts';
import { operations } from '../operations.ts';
import { parseControlBody } from './body.ts';
import {
  type ControlCall,
  ControlError,
  type ControlPlane,
  type ControlReply,
  type ControlRoute,
} from './plane.ts';

export const faultRoutes: readonly ControlRoute[] = [
  ['GET', /^\/faults$/, listFaults],
  ['POST', /^\/faults$/, addFault],
  ['DELETE', /^\/faults$/, removeFaults],
  ['DELETE', /^\/faults\/([^/]+)$/, removeFault],
];

const targets = new Set(['*', ...operations.map(({ id }) => id)]);

/** Rules that can come to be used: those for a vault and an operation that exist. */
function rulesFor({ vaults }: ControlPlane) {
  return FaultRule.refine(({ operation }) => targets.has(operation), {
    path: ['operation'],
    error: 'There is no such operation',
  }).refine(({ vault }) => vault === undefined || vaults.some(({ name }) => name === vault), {
    path: ['vault'],
    error: 'There is no such vault',
  });
}

function listFaults({ plane }: ControlCall): ControlReply {
  return { status: 200, body: { value: plane.service.faults.list() } };
}

function addFault({ plane, body }: ControlCall): ControlReply {
  const rule = parseControlBody(rulesFor(plane), body);
  const { id } = plane.service.faults.add(rule);
  return { status: 201, body: { id, ...rule } };
}

function removeFaults({ plane }: ControlCall): ControlReply {
  plane.service.faults.clear();
  return { status: 204 };
}

function removeFault({ plane, params: [id = ''] }: ControlCall): ControlReply {
  if (!plane.service.faults.remove(id)) {
    throw new ControlError(404, `There is no fault rule ${id}.`);
  }
  return { status: 204 };
}
