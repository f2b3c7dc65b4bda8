import { parseState, type State, stateOf } from '../state.ts';
import { type ControlCall, ControlError, type ControlReply, type ControlRoute } from './plane.ts';

export const stateRoutes: readonly ControlRoute[] = [
  ['GET', /^\/state$/, ({ plane }) => ({ status: 200, body: stateOf(plane.vaults) })],
  ['PUT', /^\/state$/, putState],
];

function putState({ plane, body }: ControlCall): ControlReply {
  try {
    const state: State = parseState(body);
    plane.loadState(state);
  } catch (error) {
    throw new ControlError(400, error instanceof Error ? error.message : String(error));
  }
  return { status: 204 };
}
