// Adds typed errors, retries and more to the runtime of the generated client. The generated operations import this file
// instead of their runtime (see sdk/generate.py).
import type { RequestInit, Response } from './environment.js';
import {
    type ApiResponse,
    type ConfigurationParameters as GeneratedParameters,
    type FetchAPI,
    type HTTPHeaders,
    type HTTPQuery,
    type InitOverrideFunction,
    type RequestOpts,
    type ResponseTransformer,
    BaseAPI as GeneratedBaseAPI,
    Configuration as GeneratedConfiguration,
    FetchError,
    ResponseError,
} from './generated/runtime.js';
import { VERSION } from './generated/version.js';
import { MAX_RETRIES, withRetries } from './retries.js';

export * from './generated/runtime.js';

/** Also allows an explicit `undefined`, for `exactOptionalPropertyTypes`: `accessToken: process.env.ONE_API_KEY`. */
type AllowUndefined<T> = { [Name in keyof T]: T[Name] | undefined };

export interface ConfigurationParameters extends AllowUndefined<GeneratedParameters> {
    /**
     * Retry requests after a 429, and requests that are safe to repeat also after a 502, 503, 504 or connection error.
     * Default: true.
     */
    retry?: boolean | undefined;
}

export class Configuration extends GeneratedConfiguration {
    constructor({ retry = true, ...parameters }: ConfigurationParameters = {}) {
        const send: FetchAPI = parameters.fetchApi ?? ((...request) => fetch(...request));
        super({
            ...(parameters as GeneratedParameters),
            // Operations start with /api/v1, but users may have the URL of the API at hand.
            basePath: parameters.basePath?.replace(/\/+$/, '').replace(/\/api\/v1$/, '').replace(/\/+$/, ''),
            fetchApi: withRetries(send, retry ? MAX_RETRIES : 0),
            // Some browsers ignore this header.
            headers: mergeHeaders({ 'User-Agent': `onehorizon-sdk-js/${VERSION}` }, parameters.headers),
        });
    }
}

export const DefaultConfig = new Configuration();

/** The base class of all APIs. */
export class BaseAPI extends GeneratedBaseAPI {
    constructor(configuration: GeneratedConfiguration | ConfigurationParameters = DefaultConfig) {
        super(isParameters(configuration) ? new Configuration(configuration) : configuration);
    }

    /**
     * Sends the request.
     *
     * @throws {ApiError} if the status is not 2xx, after all middleware has seen the response
     * @throws {ResponseError} if a DELETE gets a body: the API sends none
     * @throws {FetchError} if there is no response
     * @throws the reason of the signal if the request is aborted: an `AbortError` by default
     */
    protected override async request(
        context: RequestOpts,
        initOverrides?: RequestInit | InitOverrideFunction,
    ): Promise<Response> {
        let overrides: RequestInit | undefined;
        const mergeInit: InitOverrideFunction = async (requestContext) => {
            overrides = typeof initOverrides === 'function' ? await initOverrides(requestContext) : initOverrides;
            const headers = mergeHeaders(requestContext.init.headers, overrides?.headers);
            requireValidToken(headers);
            return { ...overrides, headers };
        };
        try {
            const response = await super.request({ ...context, query: withoutEmptyLists(context.query) }, mergeInit);
            if (context.method === 'DELETE' && (await response.clone().text())) throw unexpected(response);
            return response;
        } catch (error) {
            if (error instanceof ResponseError && !error.response.ok) throw await createApiError(error.response);
            if (error instanceof FetchError) {
                const { cause } = error;
                // The generated client hides the error of an aborted request in a FetchError.
                if (cause === overrides?.signal?.reason || ABORTS.includes(cause.name)) throw cause;
                throw new FetchError(cause, `The request to ${this.configuration.basePath} failed: ${innermost(cause)}`);
            }
            throw error;
        }
    }
}

/** Not by `instanceof`: a program may load the ESM and CJS builds, which have a `Configuration` each. */
function isParameters(value: GeneratedConfiguration | ConfigurationParameters): value is ConfigurationParameters {
    return Object.getPrototypeOf(value) === Object.prototype;
}

const ABORTS = ['AbortError', 'TimeoutError'];

export class JSONApiResponse<T> implements ApiResponse<T> {
    constructor(
        readonly raw: Response,
        private readonly transform: ResponseTransformer<T> = (json) => json,
    ) {}

    /** Returns the body. Throws a `ResponseError` if it is not the API's, but for example that of a login page. */
    async value(): Promise<T> {
        const text = await this.raw.clone().text();
        try {
            const json: unknown = JSON.parse(text);
            if (isObject(json)) return this.transform(json);
        } catch {
            // The error of JSON.parse, or of a transformation that misses a field, would not explain the problem.
        }
        throw unexpected(this.raw);
    }
}

const API_ERROR = Symbol.for('@onehorizon/sdk-js/ApiError');

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
        Object.defineProperty(this, API_ERROR, { value: true });
    }

    /** `instanceof` is also true for errors of another copy of this class: a program may load the ESM and CJS builds. */
    static [Symbol.hasInstance](value: unknown): boolean {
        if (this === ApiError) return typeof value === 'object' && value !== null && API_ERROR in value;
        return Function.prototype[Symbol.hasInstance].call(this, value); // a subclass
    }
}

/** Returns the error for a response. Its body may not be the API's, if a proxy sent it. */
async function createApiError(response: Response): Promise<ApiError> {
    const json: unknown = await response.clone().json().catch(() => null);
    const body = isObject(json) ? json : {};
    const message = typeof body.message === 'string' && body.message ? body.message : unexpectedMessage(response);
    const errors = Object.entries(isObject(body.errors) ? body.errors : {}).filter(isFieldErrors);
    return new ApiError(response.status, message, Object.fromEntries(errors), response);
}

function isFieldErrors(entry: [string, unknown]): entry is [string, string[]] {
    return Array.isArray(entry[1]) && entry[1].every((message) => typeof message === 'string');
}

function isObject(value: unknown): value is { [name: string]: unknown } {
    return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function unexpected(response: Response): ResponseError {
    return new ResponseError(response, unexpectedMessage(response));
}

function unexpectedMessage({ headers, status, statusText, url }: Response): string {
    const type = headers.get('Content-Type')?.split(';')[0] ?? 'no content type';
    const source = url ? `${type}, from ${url.split(/[?#]/)[0]}` : type;
    return (
        `The server returned ${`${status} ${statusText}`.trim()} (${source}). This is not a response of the API: ` +
        'a proxy or a login page may have sent it, or basePath is wrong.'
    );
}

/** Returns the message of the error that caused this one: `fetch` itself only says "fetch failed". */
function innermost(error: Error & { code?: string }): string {
    return error.cause instanceof Error ? innermost(error.cause) : error.message || (error.code ?? error.name);
}

/** Merges headers, whose names are case-insensitive. Later ones win. */
function mergeHeaders(...all: (RequestInit['headers'] | { [name: string]: string | undefined })[]): HTTPHeaders {
    const merged = new Map<string, [string, string]>();
    for (const headers of all) {
        const isIterable = headers !== undefined && Symbol.iterator in headers;
        const pairs = isIterable ? (headers as Iterable<[string, string]>) : Object.entries(headers ?? {});
        for (const [name, value] of pairs) {
            if (value !== undefined) merged.set(name.toLowerCase(), [name, value]);
        }
    }
    return Object.fromEntries(merged.values());
}

/** Throws an error that doesn't contain the secret, as that of `fetch` would. */
function requireValidToken({ Authorization: value = '' }: HTTPHeaders): void {
    if (/[^\x20-\x7e]/.test(value.trim())) {
        throw new TypeError('The access token or key contains a character that is not valid. Copy all of it again.');
    }
}

/** An empty list is no filter. The generated client would send `status=`. */
function withoutEmptyLists(query: HTTPQuery | undefined): HTTPQuery {
    const isEmpty = (value: unknown) => (Array.isArray(value) ? value.length : value instanceof Set ? value.size : 1) === 0;
    return Object.fromEntries(Object.entries(query ?? {}).filter(([, value]) => !isEmpty(value)));
}
