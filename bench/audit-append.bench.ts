import { createHash } from 'node:crypto';
import { openAudit } from '../src/core/audit/log.ts';
import { systemClock } from '../src/core/clock.ts';
import { memoryLog } from '../src/core/storage/memory.ts';
import { type Bench, inTurn } from './bench.ts';

const count = 5000;
const entry = (index: number) => ({
  id: `01K${index}`,
  at: new Date(1_780_000_000_000 + index),
  actor: 'engine',
  action: 'rotation.transition',
  object: 'main/secret/orders-db',
  outcome: 'done' as const,
  detail: { from: 'STAGED', to: 'APPLYING', baseVersion: '0123456789abcdef' },
});

/** Hash-linked audit entries against nothing but JSON and SHA-256 of the same entries. */
export const bench: Bench = {
  name: 'audit append ÷ stringify + SHA-256',
  goal: 2,
  better: 'lower',
  measure: () => {
    const entries = Array.from({ length: count }, (_, index) => entry(index));
    return inTurn(
      () => openAudit(memoryLog(), { writer: 'bench', clock: systemClock }).append(entries),
      () => {
        const lines = entries.map((one) => {
          const text = JSON.stringify(one);
          return text + createHash('sha256').update(text).digest('hex');
        });
        return Buffer.from(lines.join('\n'));
      },
      9,
    );
  },
};
