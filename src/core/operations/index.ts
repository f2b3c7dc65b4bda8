import { type HealthServices, health, healthDetails } from './health.ts';
import type { Operation } from './operation.ts';
import {
  cancel,
  plan,
  type RotationServices,
  readRotation,
  release,
  resume,
  retireNow,
  rollback,
  rotationList,
  startRotation,
} from './rotations.ts';

/** What the operations below need, all together; each names its own part. */
export type OperationServices = HealthServices & RotationServices;

export type AnyOperation = Operation<OperationServices>;

/** Every HTTP operation there is. */
export const operations: readonly AnyOperation[] = [
  health,
  healthDetails,
  startRotation,
  plan,
  readRotation,
  rotationList,
  cancel,
  resume,
  release,
  retireNow,
  rollback,
];

export type { HttpAnswer, HttpRequest } from './http-message.ts';
export { type ServeServices, serve } from './serve.ts';
