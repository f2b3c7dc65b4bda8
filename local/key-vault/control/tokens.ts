import { z } from 'zod';
import { ChallengeStyle } from '../challenges.ts';
import { RevocationWish } from '../revocations.ts';
import { parseControlBody } from './body.ts';
import type { ControlCall, ControlReply, ControlRoute } from './plane.ts';

export const tokenRoutes: readonly ControlRoute[] = [
  ['GET', /^\/revocations$/, listRevocations],
  ['POST', /^\/revocations$/, revoke],
  ['DELETE', /^\/revocations$/, forgetRevocations],
  ['PUT', /^\/challenge$/, setChallenge],
];

const Challenge = z.strictObject({ style: ChallengeStyle });

function listRevocations({ plane }: ControlCall): ControlReply {
  return { status: 200, body: { value: plane.service.revocations.list() } };
}

function revoke({ plane, body }: ControlCall): ControlReply {
  const wish = parseControlBody(RevocationWish, body);
  return { status: 201, body: plane.service.revocations.add(wish) };
}

function forgetRevocations({ plane }: ControlCall): ControlReply {
  plane.service.revocations.clear();
  return { status: 204 };
}

function setChallenge({ plane, body }: ControlCall): ControlReply {
  const challenge = parseControlBody(Challenge, body);
  plane.service.challenges.style = challenge.style;
  return { status: 200, body: challenge };
}
