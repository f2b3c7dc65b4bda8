import { errors } from '../errors.ts';
import type { Gate } from '../exchange.ts';

const latest = '2026-04-01';
const known =
  /^(7\.[0-6](-preview(\.\d+)?)?|2025-0[67]-0[1-9](-preview)?|2026-\d\d-\d\d-preview|2026-04-01)$/;

export const apiVersionGate: Gate = ({ query }) => {
  const wanted = query.get('api-version');
  if (wanted === null || wanted === '') throw errors.missingApiVersion();
  if (!known.test(wanted)) throw errors.unknownApiVersion(wanted, latest);
  return null;
};
