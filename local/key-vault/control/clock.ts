import { z } from 'zod';
import { parseControlBody } from './body.ts';
import {
  type ControlCall,
  ControlError,
  type ControlPlane,
  type ControlReply,
  type ControlRoute,
} from './plane.ts';

export const clockRoutes: readonly ControlRoute[] = [
  ['GET', /^\/clock$/, ({ plane }) => getClock(plane)],
  ['PUT', /^\/clock$/, setClock],
  ['POST', /^\/clock\/advance$/, advanceClock],
];

const Time = z.strictObject({ now: z.iso.datetime({ offset: true }) });
const hundredYears = 100 * 366 * 86_400;
const Step = z.strictObject({ seconds: z.number().min(0).max(hundredYears) });

function getClock({ clock }: ControlPlane): ControlReply {
  const now = clock.now();
  const body = { now: new Date(now).toISOString(), offsetMs: now - Date.now() };
  return { status: 200, body };
}

/** Answers when everything that became due on the way is done. */
async function setClock({ plane, body }: ControlCall): Promise<ControlReply> {
  const time = Date.parse(parseControlBody(Time, body).now);
  if (time - plane.clock.now() > hundredYears * 1000)
    throw new ControlError(400, '✖ More than a hundred years ahead\n  → at now');
  await plane.clock.set(time);
  return getClock(plane);
}

async function advanceClock({ plane, body }: ControlCall): Promise<ControlReply> {
  const { seconds } = parseControlBody(Step, body);
  await plane.clock.set(plane.clock.now() + seconds * 1000);
  return getClock(plane);
}
