import { type AppError, type ErrorCode, errorInfo } from '../errors.ts';
import type { HttpAnswer } from './http-message.ts';
import { type Fault, InvalidRequest } from './parse.ts';

/** RFC 9457, plus a stable `code` to program against and the request's faults. */
interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly instance: string;
  readonly faults?: readonly Fault[];
}

/** `error` as an answer: its code and public sentence, none of the operator's words. */
export function problemAnswer(error: AppError, requestId: string): HttpAnswer {
  const { status, retryable, public: sentence } = errorInfo(error.code);
  const problem: Problem = {
    type: `urn:keyturn:problem:${error.code}`,
    title: titleOf(error.code),
    status,
    detail: sentence,
    code: error.code,
    instance: `urn:keyturn:request:${requestId}`,
    ...(error instanceof InvalidRequest ? { faults: error.faults } : {}),
  };
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
      ...(status === 503 && retryable ? { 'retry-after': '5' } : {}),
    },
    body: JSON.stringify(problem),
  };
}

function titleOf(code: ErrorCode): string {
  return code.charAt(0).toUpperCase() + code.slice(1).replaceAll('_', ' ');
}
