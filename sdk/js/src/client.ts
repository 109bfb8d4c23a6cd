// What the generator doesn't give: refusals as typed exceptions, and waiting where the API asks for it.
import {
    type ConfigurationParameters as GeneratedParameters,
    type ErrorBody,
    type FetchAPI,
    type ResponseContext,
    Configuration as GeneratedConfiguration,
} from './generated/index.js';

const MOST_RETRIES = 5;
const LONGEST_WAIT = 60; // seconds; what is told to wait longer fails at once
const IDEMPOTENT = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']; // RFC 9110, 9.2.2

export interface ConfigurationParameters extends GeneratedParameters {
    /** Whether a request that is answered 429 or 503 is sent again, after a while; true unless told otherwise. */
    retry?: boolean;
}

export class Configuration extends GeneratedConfiguration {
    constructor({ retry = true, ...parameters }: ConfigurationParameters = {}) {
        const send: FetchAPI = parameters.fetchApi ?? ((...request) => fetch(...request));
        super({
            ...parameters,
            fetchApi: retry ? retrying(send) : send,
            middleware: [...(parameters.middleware ?? []), { post: throwApiError }],
        });
    }
}

/** A refusal: `code` is its status, `message` the API's sentence, `errors` what is wrong with each field, on 400. */
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
    // A proxy in between may answer anything.
    const body: Partial<ErrorBody> = (await response.clone().json().catch(() => null)) ?? {};
    const message = body.message ?? `The answer was ${response.status} ${response.statusText}`.trim() + '.';
    throw new ApiError(response.status, message, body.errors ?? {}, response);
}

function retrying(send: FetchAPI): FetchAPI {
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
 * Until the request may be sent again; undefined where it must not.
 *
 * `Retry-After` is exact for a client that is alone. One that is refused again shares its quota, or the service is in
 * trouble: then the wait grows exponentially, by chance, so that clients don't come back all at once.
 */
function secondsToWait(response: Response, method: string, retries: number): number | undefined {
    const refused = response.status === 429;
    if (!refused && !(response.status === 503 && IDEMPOTENT.includes(method))) return undefined;
    const told = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
    if (retries >= MOST_RETRIES || told > LONGEST_WAIT) return undefined;
    if (refused && retries === 0 && told >= 0) return told;
    return (told || 0) + 2 ** retries * (0.5 + Math.random() / 2);
}

function wait(seconds: number, signal?: AbortSignal | null): Promise<void> {
    return new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        const stop = () => {
            clearTimeout(timer);
            reject(signal?.reason);
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener('abort', stop);
            resolve();
        }, seconds * 1000);
        signal?.addEventListener('abort', stop, { once: true });
    });
}
