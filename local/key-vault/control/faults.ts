import { FaultRule } from '../faults.ts';
import { parseControlBody } from './body.ts';
import { type ControlCall, ControlError, type ControlReply, type ControlRoute } from './plane.ts';

export const faultRoutes: readonly ControlRoute[] = [
  ['GET', /^\/faults$/, listFaults],
  ['POST', /^\/faults$/, addFault],
  ['DELETE', /^\/faults$/, removeFaults],
  ['DELETE', /^\/faults\/([^/]+)$/, removeFault],
];

function listFaults({ plane }: ControlCall): ControlReply {
  return { status: 200, body: { value: plane.service.faults.list() } };
}

function addFault({ plane, body }: ControlCall): ControlReply {
  const rule = parseControlBody(FaultRule, body);
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
