import type { AbortSignal, Headers as HeadersType, Response } from './environment.js';
import type { FetchAPI } from './generated/runtime.js';

export const MAX_RETRIES = 5;
const MAX_RECONNECTS = 2; // fewer, so that a wrong host fails within seconds
const MAX_WAIT = 60; // seconds; a longer `Retry-After` is not retried
const IDEMPOTENT = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']; // RFC 9110, 9.2.2
const HTTP_DATE = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/; // Date.parse also accepts "-5" and "soon 5"

/**
 * Returns a `fetch` that retries at most `maxRetries` times: all requests after a 429, and requests that are safe to
 * repeat also after a 502, 503, 504 or connection error. `fetch` doesn't say whether the server received a request
 * whose connection failed.
 */
export function withRetries(send: FetchAPI, maxRetries: number): FetchAPI {
    return async (input, init) => {
        const hasKey = new Headers(init?.headers).has('Idempotency-Key');
        const repeatable = hasKey || IDEMPOTENT.includes(init?.method ?? 'GET');
        for (let retries = 0; ; retries += 1) {
            init?.signal?.throwIfAborted(); // `send` may ignore the signal
            let seconds: number | undefined;
            try {
                const response = await send(input, init);
                await response.clone().text(); // the connection may also break within the body
                if (retries < maxRetries) seconds = secondsToWait(response, repeatable, retries);
                if (seconds === undefined) return response;
            } catch (error) {
                init?.signal?.throwIfAborted(); // Node.js 18 throws another error if the reason is not an Error
                const mayReconnect = repeatable && retries < Math.min(maxRetries, MAX_RECONNECTS);
                if (!mayReconnect || !isValid(input, init)) throw error;
                seconds = backoff(retries);
            }
            await wait(seconds, init?.signal);
        }
    };
}

/**
 * Returns the seconds until the next retry, or undefined if the request must not be retried.
 *
 * The first retry after a 429 waits for `Retry-After`, which is enough if no other client shares the quota. Every other
 * retry adds exponential backoff with jitter, so that clients don't retry simultaneously.
 */
function secondsToWait(response: Response, repeatable: boolean, retries: number): number | undefined {
    const rateLimited = response.status === 429;
    if (!rateLimited && !(repeatable && [502, 503, 504].includes(response.status))) return undefined;
    const seconds = retryAfter(response.headers);
    if (seconds !== undefined && seconds > MAX_WAIT) return undefined;
    if (rateLimited && retries === 0 && seconds !== undefined) return seconds;
    return (seconds ?? 0) + backoff(retries);
}

/** Returns the seconds of `Retry-After` (RFC 9110, 10.2.3), or undefined if it is missing or invalid. */
function retryAfter(headers: HeadersType): number | undefined {
    const value = headers.get('Retry-After') ?? '';
    if (/^\d+$/.test(value)) return Number(value);
    // One of the three formats has no time zone, but all of them are in UTC.
    const date = HTTP_DATE.test(value) ? Date.parse(value.endsWith('GMT') ? value : `${value} GMT`) : NaN;
    if (Number.isNaN(date)) return undefined;
    // The clock of the server, because that of the client may be wrong.
    const now = Date.parse(headers.get('Date') ?? '') || Date.now();
    return Math.max(0, (date - now) / 1000);
}

function backoff(retries: number): number {
    return 2 ** retries * (0.5 + Math.random() / 2);
}

/** Returns whether `fetch` could send the request. An invalid URL or header fails every time. */
function isValid(...request: Parameters<FetchAPI>): boolean {
    try {
        return new Request(...request) !== undefined;
    } catch {
        return false;
    }
}

function wait(seconds: number, signal?: AbortSignal | null): Promise<void> {
    return new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        const abort = () => {
            clearTimeout(timer);
            reject(signal?.reason);
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener('abort', abort);
            resolve();
        }, seconds * 1000);
        signal?.addEventListener('abort', abort, { once: true });
    });
}
