import { errors } from '../errors.ts';
import type { Gate } from '../exchange.ts';

const latest = '2026-04-01';
const known = new Set([
  ...['7.0', '7.1', '7.2', '7.3', '7.4', '7.5', '7.6', '2025-07-01', latest],
  ...['7.1-preview', '7.2-preview', '7.3-preview'],
  ...['7.4-preview.1', '7.5-preview.1', '7.6-preview.1', '7.6-preview.2'],
  ...['2025-06-01-preview', '2025-07-01-preview', '2026-01-01-preview'],
]);

export const apiVersionGate: Gate = ({ query }) => {
  const wanted = query.get('api-version');
  if (wanted === null || wanted === '') throw errors.missingApiVersion();
  if (!known.has(wanted)) throw errors.unknownApiVersion(wanted, latest);
  return null;
};
