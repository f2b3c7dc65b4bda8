import type { AnyHandler } from '../../src/core/rotation/handler.ts';
import type { TestTarget } from './fixture.ts';

/** One sentence about a handler, and what shows it at a running target. `run` throws when it is not so. */
export interface Check {
  readonly name: string;
  run(handler: AnyHandler, target: TestTarget): Promise<void>;
}

/** As `Check`, needing no target. */
export interface BareCheck {
  readonly name: string;
  run(handler: AnyHandler): Promise<void>;
}
