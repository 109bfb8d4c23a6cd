// Adds typed errors and retries to the generated client.
import {
    type ConfigurationParameters as GeneratedParameters,
    type ErrorBody,
    type FetchAPI,
    type ResponseContext,
    Configuration as GeneratedConfiguration,
} from './generated/index.js';

const MAX_RETRIES = 5;
const MAX_WAIT = 60; // seconds; a longer `Retry-After` is not retried
const IDEMPOTENT = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']; // RFC 9110, 9.2.2

export interface ConfigurationParameters extends GeneratedParameters {
    /** Retry requests after a 429, and idempotent requests also after a 503. Default: true. */
    retry?: boolean;
}

export class Configuration extends GeneratedConfiguration {
    constructor({ retry = true, ...parameters }: ConfigurationParameters = {}) {
        const send: FetchAPI = parameters.fetchApi ?? ((...request) => fetch(...request));
        super({
            ...parameters,
            fetchApi: retry ? withRetries(send) : send,
            middleware: [...(parameters.middleware ?? []), { post: throwApiError }],
        });
    }
}

/** An error response: `code` is the HTTP status, `errors` has the messages for each invalid field, on a 400. */
export class ApiError extends Error {
    override readonly name = 'ApiError';

    constructor(
        readonly code: number,
        message: string,
        readonly errors: { [field: string]: string[] },
        readonly response: Response,
    ) {
        super(message);
    }
}

async function throwApiError({ response }: ResponseContext): Promise<void> {
    if (response.ok) return;
    // The body may not be the API's, if a proxy sent the response.
    const body: Partial<ErrorBody> = (await response.clone().json().catch(() => null)) ?? {};
    const message = body.message ?? `The server returned ${response.status} ${response.statusText}`.trim() + '.';
    throw new ApiError(response.status, message, body.errors ?? {}, response);
}

function withRetries(send: FetchAPI): FetchAPI {
    return async (input, init) => {
        for (let retries = 0; ; retries += 1) {
            const response = await send(input, init);
            const seconds = secondsToWait(response, init?.method ?? 'GET', retries);
            if (seconds === undefined) return response;
            await response.body?.cancel();
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
function secondsToWait(response: Response, method: string, retries: number): number | undefined {
    const rateLimited = response.status === 429;
    if (!rateLimited && !(response.status === 503 && IDEMPOTENT.includes(method))) return undefined;
    const retryAfter = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
    if (retries >= MAX_RETRIES || retryAfter > MAX_WAIT) return undefined;
    if (rateLimited && retries === 0 && retryAfter >= 0) return retryAfter;
    return (retryAfter || 0) + 2 ** retries * (0.5 + Math.random() / 2);
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
